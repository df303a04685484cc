"""What a generator from elsewhere does with latents: is it one that zprime can use, and of which size?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError

LEVEL = 2 / 255  # one step of an 8-bit image, in [-1, 1]
LARGEST = 10.0  # |value| of an image; networks without a tanh leave [-1, 1], but not by far
COUNT = 4  # latents


@dataclass(frozen=True)
class GeneratorCheck:
    """What the images of a few latents say of a generator.

    Attributes:
        resolution: of the images, px.
        normalises_latents: whether G(2 z) = G(z).
    """

    resolution: int
    normalises_latents: bool


def first_line(error: BaseException) -> str:
    """An exception in one line: its class, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


@torch.inference_mode()
def check_generator(
    call: Callable[[Tensor], Any], latent_dim: int, device: torch.device, name: str
) -> GeneratorCheck:
    """Render a few latents and look at the images.

    Args:
        call: the generator.
        name: what the sentences call it, as "load_gan.path: FILE".

    Raises `UserError` where it fails, where what it gives are no images [n, 3, R, R] in about [-1, 1], where
    the images do not depend on the latents, or depend on anything but their own latent.
    """
    z = torch.randn(COUNT, latent_dim, generator=torch.Generator().manual_seed(0)).to(device)
    images = _images(call, z, name)
    _refuse_strange_values(images, name)
    if _differ(_images(call, z, name), images):
        raise UserError(
            f"{name} gives other images of the same latents each time: dropout or other noise is active in "
            "it; write it in evaluation mode, with fixed noise."
        )
    if _differ(_images(call, z[:-1], name), images[:-1]):
        raise UserError(
            f"{name} gives images that depend on the other latents of their batch: batch normalisation is in "
            "training mode; write it in evaluation mode."
        )
    return GeneratorCheck(images.shape[-1], not _differ(_images(call, 2 * z, name), images))


def _images(call: Callable[[Tensor], Any], z: Tensor, name: str) -> Tensor:
    """call(z) as float32, of the shape and the type that images have."""
    n, latent_dim = z.shape
    try:
        images = call(z)
    except Exception as error:  # whatever a foreign program raises
        raise UserError(
            f"{name} fails on latents [{n}, {latent_dim}] ({first_line(error)}): check load_gan.latent_dim."
        ) from error
    wanted = f"images are float [{n}, 3, R, R]"
    if not isinstance(images, Tensor):
        raise UserError(f"{name} gives a {type(images).__name__} for latents [{n}, {latent_dim}]; {wanted}.")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[:2] != (n, 3) or shape[2] != shape[3]:
        raise UserError(f"{name} gives {list(shape)} for latents [{n}, {latent_dim}]; {wanted}.")
    if not images.is_floating_point():
        raise UserError(f"{name} gives {str(images.dtype).removeprefix('torch.')}; {wanted}.")
    return images.float()


def _refuse_strange_values(images: Tensor, name: str) -> None:
    if not images.isfinite().all():
        raise UserError(f"{name} gives images with NaN or infinite values.")
    low, high = images.min().item(), images.max().item()
    if max(-low, high) > LARGEST:
        raise UserError(
            f"{name} gives values from {low:.4g} to {high:.4g}: scale them to [-1, 1], where the values of "
            "images are."
        )
    if not _differ(images[:1].expand_as(images), images):
        raise UserError(f"{name} gives the same image for every latent.")
    if not _differ(images[:, :, :1, :1].expand_as(images), images):
        raise UserError(f"{name} gives images of one colour only.")


def _differ(first: Tensor, second: Tensor) -> bool:
    """Whether two sets of images would differ by a step of an 8-bit image anywhere."""
    return (first - second).abs().max().item() > LEVEL
