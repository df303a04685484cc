"""Latents: z ~ N(0, I), each from (seed, number), and their projections for generators that normalise z."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.content.seeds import derived_seed

if TYPE_CHECKING:  # lazy: slow import
    from torch import Tensor

BLOCK = 1024  # latents drawn from one seed; part of the definition: it must never change


def sample_latents(seed: int, purpose: str, start: int, count: int, latent_dim: int) -> NDArray[np.float32]:
    """Draw the latents with the numbers `start` to `start + count - 1` from N(0, I).

    A latent depends only on (seed, purpose, its number): any split of a range gives the same latents.

    Args:
        seed: of the draw.
        purpose: what the latents are for; other purposes get other latents.
        start: the number of the first latent.
        count: how many latents.
        latent_dim: D.

    Returns:
        z, float32 [count, latent_dim].
    """
    blocks = []
    for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
        generator = np.random.default_rng(derived_seed(seed, purpose, block))
        blocks.append(generator.standard_normal((BLOCK, latent_dim), dtype=np.float32))
    first = start % BLOCK
    return np.concatenate(blocks)[first : first + count]


def to_sphere(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project latents [n, D] to the sphere of radius √D: pixel normalisation renders these projections."""
    norms = np.linalg.norm(latents, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = latents * (math.sqrt(latents.shape[1]) / norms)
    return scaled


def project(latents: "Tensor") -> "Tensor":
    """Project tensors [n, D] to the sphere of radius √D, as `to_sphere` does; differentiable."""
    projected: Tensor = latents * (math.sqrt(latents.shape[1]) / latents.norm(dim=1, keepdim=True))
    return projected
