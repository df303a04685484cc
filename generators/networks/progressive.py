"""The progressive GAN's networks (Karras et al., ICLR 2018), from 4 px up.

They have equalised learning rates, pixel normalisation (of the input too), minibatch standard deviation,
nearest upsampling, a linear fade-in of each new resolution and, by parameter, a mapping network. Images are
float [n, 3, R, R] in [-1, 1].
"""

import math
from collections.abc import Mapping
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky ReLU, which runs in place: saves a tenth of a step's time
MINIBATCH_GROUP = 4


def _scaled_parts(layer: "EqualizedConv2d | EqualizedLinear", x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the weight and the bias to use on x, and the factor to multiply the outcome by.

    pytorch_GAN_zoo computes scale (W x + b): the bias is scaled, too. In float32 layers with `scales_bias` do
    the same, since every other order of the same formula rounds otherwise; in bfloat16 the weights are
    scaled, which is faster.

    Args:
        layer: the layer.
        x: its input.

    Returns:
        Weight, bias and factor.
    """
    assert layer.bias is not None
    if not layer.scales_bias:
        return layer.weight * layer.scale, layer.bias, 1.0
    if torch.is_autocast_enabled(x.device.type):
        return layer.weight * layer.scale, layer.bias * layer.scale, 1.0
    return layer.weight, layer.bias, layer.scale


class EqualizedConv2d(nn.Conv2d):
    """Convolves with weights that are N(0, 1) and scaled by gain / √fan_in at every use.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel, px.
        gain: of the layer.
        scales_bias: whether the scale multiplies the bias, too.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, gain: float = math.sqrt(2), scales_bias: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.scale = gain / math.sqrt(inputs * kernel * kernel)
        self.scales_bias = scales_bias
        nn.init.normal_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve the input."""
        weight, bias, scale = _scaled_parts(self, input)
        output: Tensor = self._conv_forward(input, weight, bias)
        return output if scale == 1.0 else output * scale


class EqualizedLinear(nn.Linear):
    """Applies a linear layer, equalised as `EqualizedConv2d` is."""

    def __init__(
        self, inputs: int, outputs: int, gain: float = math.sqrt(2), scales_bias: bool = False
    ) -> None:
        super().__init__(inputs, outputs)
        self.scale = gain / math.sqrt(inputs)
        self.scales_bias = scales_bias
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer."""
        weight, bias, scale = _scaled_parts(self, input)
        output = F.linear(input, weight, bias)
        return output if scale == 1.0 else output * scale


def pixel_norm(x: Tensor) -> Tensor:
    """Scale x [n, C, ...] to unit mean square over the channels C of every pixel, in the dtype of x."""
    # On a GPU, autocast computes rsqrt in float32, which would turn the product into float32, too.
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8).to(x.dtype)


def minibatch_std(x: Tensor, group: int = MINIBATCH_GROUP) -> Tensor:
    """Append a channel with the mean standard deviation within groups of images.

    A batch that `group` does not divide is taken as one group.

    Args:
        x: features, [n, C, H, W].
        group: images in a group.

    Returns:
        The features, [n, C + 1, H, W].
    """
    n = x.shape[0]
    size = group if n % group == 0 else n
    grouped = x.float().reshape(size, n // size, -1)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    channel = deviation.repeat(size).to(x.dtype).reshape(n, 1, 1, 1).expand(n, 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1)


def upsample(x: Tensor) -> Tensor:
    """Double the side by nearest neighbour, in the dtype of x, which autocast would turn into float32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """Halve the side by the mean of 2 x 2 pixels."""
    return F.avg_pool2d(x, 2)


def resolutions_up_to(resolution: int) -> list[int]:
    """List the resolutions [4, 8, ..., resolution], px."""
    return [4 * 2**k for k in range(resolution.bit_length() - 2)]


def _takes_kernel(x: Tensor) -> bool:
    """Tell whether `generators.networks.kernels` can be used: for bfloat16, on a GPU that Triton knows."""
    if not x.is_cuda or torch.is_grad_enabled() or not torch.is_autocast_enabled("cuda"):
        return False
    if find_spec("triton") is None:
        return False
    from generators.networks.kernels import compiles

    return compiles()


class _GeneratorBlock(nn.Module):
    """Applies two convolutions with leaky ReLU and pixel norm, at one resolution."""

    def __init__(self, inputs: int, outputs: int, scales_bias: bool) -> None:
        super().__init__()
        self.first = EqualizedConv2d(inputs, outputs, 3, scales_bias=scales_bias)
        self.second = EqualizedConv2d(outputs, outputs, 3, scales_bias=scales_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = pixel_norm(F.leaky_relu(self.first(x), SLOPE, inplace=True))
        return pixel_norm(F.leaky_relu(self.second(x), SLOPE, inplace=True))


class Generator(nn.Module):
    """Maps z [n, latent_dim] to images [n, 3, resolution, resolution].

    Args:
        latent_dim: D of z.
        resolution: of the finished network, a power of two, px.
        channels: of each resolution's features, by px.
        mapping_layers: of the network from the normalised z to w; 0 for none.
        mapping_width: of its hidden layers.
        scales_bias: whether to build the networks of pytorch_GAN_zoo, whose layers all have the gain √2 and
            scale their bias.
    """

    def __init__(
        self,
        latent_dim: int,
        resolution: int,
        channels: Mapping[int, int],
        mapping_layers: int = 0,
        mapping_width: int = 128,
        scales_bias: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.resolution = resolution
        self.scales_bias = scales_bias
        sizes = resolutions_up_to(resolution)
        self.channels = [channels[size] for size in sizes]
        widths = [latent_dim, *[mapping_width] * (mapping_layers - 1), latent_dim]
        self.mapping = nn.ModuleList(EqualizedLinear(widths[k], widths[k + 1]) for k in range(mapping_layers))
        # The gains are those of Karras et al.: they give the 4 x 4 features the variance of a convolution's.
        first_gain, rgb_gain = (math.sqrt(2), math.sqrt(2)) if scales_bias else (math.sqrt(2) / 4, 1.0)
        self.first = EqualizedLinear(latent_dim, self.channels[0] * 16, first_gain, scales_bias)
        self.first_conv = EqualizedConv2d(self.channels[0], self.channels[0], 3, scales_bias=scales_bias)
        self.blocks = nn.ModuleList(
            _GeneratorBlock(self.channels[k - 1], self.channels[k], scales_bias) for k in range(1, len(sizes))
        )
        self.to_rgb = nn.ModuleList(
            EqualizedConv2d(width, 3, 1, rgb_gain, scales_bias) for width in self.channels
        )

    def map(self, z: Tensor) -> Tensor:
        """Normalise z [n, D] and send it through the mapping network, if there is one: w [n, D]."""
        w = pixel_norm(z)
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), SLOPE, inplace=True)
        return w

    def forward(self, z: Tensor, resolution: int | None = None, alpha: float = 1.0) -> Tensor:
        """Render latents.

        Args:
            z: latents, [n, D].
            resolution: of the images, px; None: that of the finished network.
            alpha: the share of the newest block; below 1 the resolution is faded in over the one below.

        Returns:
            The images, [n, 3, resolution, resolution].
        """
        level = len(resolutions_up_to(resolution or self.resolution)) - 1
        x = self.first(self.map(z)).reshape(z.shape[0], self.channels[0], 4, 4)
        # Faster, but its sums round otherwise: in float32 the images must equal those of pytorch_GAN_zoo.
        if not self.scales_bias or torch.is_autocast_enabled(z.device.type):
            x = x.contiguous(memory_format=torch.channels_last)
        x = pixel_norm(F.leaky_relu(x, SLOPE, inplace=True))
        if alpha == 1.0 and _takes_kernel(x):
            fused: Tensor = self.to_rgb[level](self._fused(x, level))
            return fused
        x = pixel_norm(F.leaky_relu(self.first_conv(x), SLOPE, inplace=True))
        below = x
        for block in self.blocks[:level]:
            below = x
            x = block(upsample(x))
        image: Tensor = self.to_rgb[level](x)
        if level > 0 and alpha < 1.0:
            image = torch.lerp(upsample(self.to_rgb[level - 1](below)), image, alpha)
        return image

    def _fused(self, x: Tensor, level: int) -> Tensor:
        """Compute the last features of `forward` with the kernel, from the input of the first convolution."""
        from generators.networks.kernels import finish

        blocks = self.blocks[:level].modules()
        convolutions = [self.first_conv, *(part for part in blocks if isinstance(part, EqualizedConv2d))]
        last = len(convolutions) - 1
        for number, layer in enumerate(convolutions):
            weight, bias, _ = _scaled_parts(layer, x)
            x = layer._conv_forward(x, weight, None)
            x = finish(x, bias, SLOPE, doubled=number % 2 == 0 and number < last)
        return x


class _DiscriminatorBlock(nn.Module):
    """Applies two convolutions with leaky ReLU, then halves the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualizedConv2d(inputs, inputs, 3)
        self.second = EqualizedConv2d(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(x), SLOPE, inplace=True)
        return downsample(F.leaky_relu(self.second(x), SLOPE, inplace=True))


class Discriminator(nn.Module):
    """Maps images [n, 3, R, R] to logits [n]; it mirrors the generator.

    Args:
        resolution: of the finished network, px, as the generator's.
        channels: of each resolution's features, by px, as the generator's.
    """

    def __init__(self, resolution: int, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.resolution = resolution
        sizes = resolutions_up_to(resolution)
        widths = [channels[size] for size in sizes]
        self.from_rgb = nn.ModuleList(EqualizedConv2d(3, width, 1) for width in widths)
        self.blocks = nn.ModuleList(
            _DiscriminatorBlock(widths[k], widths[k - 1]) for k in range(1, len(sizes))
        )
        self.last_conv = EqualizedConv2d(widths[0] + 1, widths[0], 3)
        self.hidden = EqualizedLinear(widths[0] * 16, widths[0])
        self.logit = EqualizedLinear(widths[0], 1, gain=1.0)

    def forward(self, images: Tensor, alpha: float = 1.0) -> Tensor:
        """Compute the logits [n] of images at any resolution of the network; `alpha` as the generator's."""
        level = len(resolutions_up_to(images.shape[-1])) - 1
        x = F.leaky_relu(self.from_rgb[level](images), SLOPE, inplace=True)
        for k in range(level, 0, -1):
            x = self.blocks[k - 1](x)
            if k == level and alpha < 1.0:
                below = F.leaky_relu(self.from_rgb[k - 1](downsample(images)), SLOPE, inplace=True)
                x = torch.lerp(below, x, alpha)
        x = F.leaky_relu(self.last_conv(minibatch_std(x)), SLOPE, inplace=True)
        x = F.leaky_relu(self.hidden(x.flatten(1)), SLOPE, inplace=True)
        logits: Tensor = self.logit(x)
        return logits[:, 0].float()
