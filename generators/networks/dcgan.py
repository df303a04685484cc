"""The DCGAN generator (Radford, Metz and Chintala, ICLR 2016), as pytorch_GAN_zoo builds it.

zprime trains none: the network is for pretrained weights (`generators/zoo.py`). Images are float
[n, 3, R, R], in [-1, 1] if there is a tanh.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DCGANGenerator(nn.Module):
    """Maps z [n, latent_dim] to images [n, 3, resolution, resolution]; it does not normalise z.

    Its layers are transposed convolutions without bias: the first goes from 1 to 4 px, each other one doubles
    the side. Every one but the last is followed by batch normalisation and ReLU.

    Args:
        latent_dim: D of z.
        width: channels of the finest features; every coarser resolution has twice as many.
        depth: convolutions between the first and the last; the resolution is 2 ** (depth + 3) px.
        tanh: whether the images go through a tanh.
    """

    def __init__(self, latent_dim: int, width: int, depth: int, tanh: bool) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.resolution = 2 ** (depth + 3)
        self.tanh = tanh
        widths = [width * 2**k for k in range(depth, -1, -1)]
        outputs = [*widths[1:], 3]
        self.convolutions = nn.ModuleList([nn.ConvTranspose2d(latent_dim, widths[0], 4, 1, 0, bias=False)])
        self.convolutions.extend(
            nn.ConvTranspose2d(widths[k], outputs[k], 4, 2, 1, bias=False) for k in range(depth + 1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in widths)

    def forward(self, z: Tensor) -> Tensor:
        """Render latents z."""
        x = z[:, :, None, None]
        # The last convolution has no norm: there is one norm fewer than convolutions.
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = F.relu(norm(convolution(x)), inplace=True)
        images: Tensor = self.convolutions[-1](x)
        return torch.tanh(images) if self.tanh else images
