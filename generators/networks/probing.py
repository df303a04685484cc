"""Checks of a generator from elsewhere: whether zprime can use its images, and which size they have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.content.elsewhere import first_line
from pipeline.errors import UserError

LEVEL = 2 / 255  # one step of an 8-bit image, in [-1, 1]
LARGEST = 10.0  # |value| of an image; networks without a tanh leave [-1, 1], but not far
COUNT = 4  # latents to render


@dataclass(frozen=True)
class GeneratorCheck:
    """Says what the images of a few latents show of a generator.

    Attributes:
        resolution: of the images, px.
        normalises_latents: whether G(2 z) = G(z).
    """

    resolution: int
    normalises_latents: bool


@torch.inference_mode()
def check_generator(
    call: Callable[[Tensor], Any], latent_dim: int, device: torch.device, name: str
) -> GeneratorCheck:
    """Render a few latents and check the images.

    Args:
        call: the generator.
        latent_dim: D of its latents.
        device: of the latents.
        name: what error sentences call the generator, as "load_gan.path: FILE".

    Returns:
        What the images show.

    Raises:
        UserError: the generator fails; its output is not images [n, 3, R, R] in about [-1, 1]; or an image
            does not depend on its own latent, or depends on anything else.
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
    """Call the generator; return float32 images, or raise `UserError` if these are no images."""
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
    """Tell whether two sets of images differ anywhere by more than a step of an 8-bit image."""
    return (first - second).abs().max().item() > LEVEL
