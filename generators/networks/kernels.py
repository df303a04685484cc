"""A GPU kernel for what follows each convolution of the progressive GAN's generator.

Bias, leaky ReLU, pixel norm and the next upsampling each read and write all features, which takes most of the
time of rendering. The kernel does them in one pass: the network renders about three times as many images a
second.
"""

import sys
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 4096  # features that one program of the kernel computes at once


@triton.jit  # type: ignore[untyped-decorator]
def _finish(  # type: ignore[no-untyped-def]
    features, bias, finished, pixels, width, slope,
    CHANNELS: tl.constexpr, COLUMNS: tl.constexpr, PIXELS: tl.constexpr, DOUBLED: tl.constexpr,
):  # fmt: skip
    """Finish PIXELS pixels of features [pixels, CHANNELS]; COLUMNS is CHANNELS, up to a power of two."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, COLUMNS)
    inside = (pixel[:, None] < pixels) & (channel[None, :] < CHANNELS)
    x = tl.load(features + pixel[:, None] * CHANNELS + channel[None, :], inside, other=0.0).to(tl.float32)
    x += tl.load(bias + channel, channel < CHANNELS, other=0.0).to(tl.float32)[None, :]
    x = tl.where(x > 0, x, x * slope)
    x *= tl.rsqrt(tl.sum(x * x, axis=1) / CHANNELS + 1e-8)[:, None]
    x = x.to(finished.dtype.element_ty)
    if DOUBLED:
        line = pixel // width  # the line's number in all images, one below the other
        first = line * 4 * width + (pixel - line * width) * 2
        for below in tl.static_range(2):
            for right in tl.static_range(2):
                place = first + below * 2 * width + right
                tl.store(finished + place[:, None] * CHANNELS + channel[None, :], x, inside)
    else:
        tl.store(finished + pixel[:, None] * CHANNELS + channel[None, :], x, inside)


def finish(features: Tensor, bias: Tensor, slope: float, doubled: bool) -> Tensor:
    """Compute the pixel norm of the leaky ReLU of features + bias, in float32 and without gradients.

    Args:
        features: [n, C, H, W] in channels_last, without their bias.
        bias: [C].
        slope: of the leaky ReLU.
        doubled: whether the outcome is upsampled (nearest neighbour), to twice the side.

    Returns:
        The finished features, [n, C, H, W] or [n, C, 2 H, 2 W], in channels_last, with the dtype of
        `features`.
    """
    features = features.contiguous(memory_format=torch.channels_last)  # as convolutions return them: no copy
    n, channels, height, width = features.shape
    scale = 2 if doubled else 1
    finished = torch.empty(
        (n, channels, height * scale, width * scale),
        dtype=features.dtype, device=features.device, memory_format=torch.channels_last,
    )  # fmt: skip
    columns = triton.next_power_of_2(channels)
    pixels = max(ELEMENTS // columns, 1)
    programs = triton.cdiv(n * height * width, pixels)
    with torch.cuda.device_of(features):
        _finish[(programs,)](
            features, bias, finished, n * height * width, width, slope, channels, columns, pixels, doubled
        )
    return finished


@cache
def compiles() -> bool:
    """Tell whether the kernel can be compiled here, which takes a C compiler and Python's headers."""
    features = torch.zeros(1, 16, 4, 4, device="cuda").to(memory_format=torch.channels_last)
    try:
        finish(features, features[0, :, 0, 0].contiguous(), 0.2, False)
    except Exception as error:  # from Triton, its compiler or the operating system
        print(
            "rendering without the kernel of generators/networks/kernels.py, at a third of the rate: Triton "
            f"cannot compile it here ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            file=sys.stderr,
        )
        return False
    return True
