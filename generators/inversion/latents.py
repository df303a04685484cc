"""Inversion: finds the latents whose images are nearest to given ones, by gradient steps through G.

An encoder (`generators/inversion/encoders.py`) gives the start. Every image is inverted by itself: the other
images of its batch change its latent by no more than the rounding of floats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from generators.inversion.encoders import ADAM_BETAS, Encoder, encode
from generators.inversion.parameters import InversionRefinement, Invert
from generators.latents import project
from generators.networks.loading import LoadedGenerator
from generators.synthesis import render
from pipeline.content.batches import evened, in_batches
from pipeline.content.resumable import cosine
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError


@dataclass(frozen=True)
class Inversion:
    """Holds latents of n images, and how near the images that G makes of them are to the originals.

    Attributes:
        latents: float32 [n, D].
        error: the mean absolute difference of pixels, [n] in [0, 255].
        psnr: the peak signal-to-noise ratio, [n] in dB.
    """

    latents: NDArray[np.float32]
    error: NDArray[np.float64]
    psnr: NDArray[np.float64]


def invert(
    generator: LoadedGenerator,
    encoder: Encoder,
    normalises: bool,
    images: NDArray[np.uint8],
    settings: Invert,
    accelerator: Accelerator,
    on_batch: Callable[[int], object] = lambda count: None,
) -> tuple[Inversion, Inversion]:
    """Invert images with the encoder, then refine its latents.

    Args:
        generator: G.
        encoder: trained on samples of G.
        normalises: whether G normalises its latents: then all of them are on the sphere of radius √D.
        images: uint8 [n, R, R, 3].
        settings: the section `invert`.
        accelerator: the device and the precision.
        on_batch: called with the number of images of each batch that is refined.

    Returns:
        The encoder's inversion, and the refined one.
    """
    batch_size = settings.batch_size

    def inversion_of(latents: NDArray[np.float32]) -> Inversion:
        reconstructions = render(generator, latents, batch_size, accelerator)
        return Inversion(latents, pixel_errors(images, reconstructions), psnr(images, reconstructions))

    encoded = encode(encoder, images, normalises, batch_size, accelerator)
    refined = refine_inversions(
        generator, normalises, images, encoded, settings.refine, batch_size, accelerator, on_batch
    )
    return inversion_of(encoded), inversion_of(refined)


def refuse_without_gradients(generator: LoadedGenerator, device: torch.device) -> None:
    """Raise `UserError` if an image's gradient does not reach its latent."""
    z = torch.randn(2, generator.latent_dim, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        (gradient,) = torch.autograd.grad(generator(z.requires_grad_()).square().sum(), z)
        flows = bool(gradient.isfinite().all() and gradient.any())
    except RuntimeError:  # torch raises it if the images come from no differentiable operations on z
        flows = False
    if not flows:
        raise UserError(
            "the generator gives images without gradients, and inverting real images needs them: take "
            "torch.no_grad, torch.inference_mode, rounding and NumPy out of it, or set inverted to []."
        )


def refine_inversions(
    generator: LoadedGenerator,
    normalises: bool,
    images: NDArray[np.uint8],
    latents: NDArray[np.float32],
    settings: InversionRefinement,
    batch_size: int,
    accelerator: Accelerator,
    on_batch: Callable[[int], object] = lambda count: None,
) -> NDArray[np.float32]:
    """Move latents so that their images come nearer to the given ones, by Adam on each latent.

    An image's loss is |G(z) - x|², averaged over its values in [-1, 1], plus `settings.prior_weight` times
    |z|²/D, from the log-density of N(0, I): it keeps z where G was trained. If the generator normalises, z is
    instead projected to the sphere of radius √D after every step, on which all directions are equally likely.
    Of all latents on the way, the one with the lowest loss is returned: it is never worse than the start.

    A batch for which the memory does not suffice is halved.

    Args:
        generator: G.
        normalises: whether G normalises its latents.
        images: x, uint8 [n, R, R, 3].
        latents: the starts, float32 [n, D].
        settings: steps, learning rate and the weight of the prior.
        batch_size: images to refine at once, at most.
        accelerator: the device and the precision.
        on_batch: called with the number of images of each batch that is done.

    Returns:
        The refined latents, float32 [n, D].
    """
    refined = np.empty_like(latents)

    def image_losses(z: Tensor, wanted: Tensor) -> Tensor:
        with accelerator.autocast():
            images = generator(z)
        errors = (images.float() - wanted).square().mean(dim=(1, 2, 3))
        return errors if normalises else errors + settings.prior_weight * z.square().mean(dim=1)

    def refine_batch(start: int, stop: int) -> None:
        wanted = evened(images_to_tensor(images[start:stop], accelerator.device))
        z = evened(torch.from_numpy(latents[start:stop]).to(accelerator.device)).clone().requires_grad_()
        best, lowest = z.detach().clone(), torch.full((len(z),), math.inf, device=z.device)
        optimizer = torch.optim.Adam([z], lr=settings.learning_rate, betas=ADAM_BETAS)
        for step in range(settings.steps + 1):
            loss = image_losses(z, wanted)
            best = torch.where((loss < lowest)[:, None], z, best).detach()
            lowest = torch.minimum(loss, lowest).detach()
            if step == settings.steps:
                break
            # The sum, not the mean: an image's gradient then does not depend on the batch size.
            (z.grad,) = torch.autograd.grad(loss.sum(), z)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * cosine(step, settings.steps)
            optimizer.step()
            if normalises:
                with torch.no_grad():
                    z.copy_(project(z))
        refined[start:stop] = best[: stop - start].cpu().numpy()

    in_batches(refine_batch, len(images), batch_size, on_batch)
    return refined


def pixel_errors(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the mean absolute difference of pairs of images [n, H, W, 3]: [n] in [0, 255]."""
    difference = images.astype(np.int16) - others
    mean: NDArray[np.float64] = np.abs(difference).mean(axis=(1, 2, 3))
    return mean


def psnr(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the peak signal-to-noise ratio 20 log₁₀(255 / √MSE) of pairs of images.

    The mean squared error is taken as no less than that of rounding, 1/12: the ratio is 58.9 dB at most.

    Args:
        images: uint8 [n, H, W, 3].
        others: uint8 [n, H, W, 3].

    Returns:
        The ratios, [n] in dB.
    """
    squared = ((images.astype(np.float64) - others) ** 2).mean(axis=(1, 2, 3))
    ratio: NDArray[np.float64] = 10 * np.log10(255.0**2 / np.maximum(squared, 1 / 12))
    return ratio


def latent_distances(latents: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute how far pairs of latents are apart, as a share of the distance of two random latents, √(2 D).

    Args:
        latents: [n, D].
        others: [n, D].

    Returns:
        The shares, [n].
    """
    distances = np.linalg.norm(latents.astype(np.float64) - others, axis=1)
    shares: NDArray[np.float64] = distances / math.sqrt(2 * latents.shape[1])
    return shares
