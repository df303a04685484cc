"""Latents: z ~ N(0, I), each from (seed, number); where a generator that normalises its input sees them."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.content.seeds import derived_seed

if TYPE_CHECKING:  # torch takes seconds to import, and most that import this do without
    from torch import Tensor

BLOCK = 1024  # latents drawn from one seed; part of the definition: it must never change


def sample_latents(seed: int, purpose: str, start: int, count: int, latent_dim: int) -> NDArray[np.float32]:
    """Latents number `start` to `start + count - 1`: float32 [count, latent_dim], N(0, I).

    A latent depends on (seed, purpose, its number) only: any split of a range gives the same latents.
    """
    blocks = []
    for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
        generator = np.random.default_rng(derived_seed(seed, purpose, block))
        blocks.append(generator.standard_normal((BLOCK, latent_dim), dtype=np.float32))
    first = start % BLOCK
    return np.concatenate(blocks)[first : first + count]


def to_sphere(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Latents [n, D] projected to the sphere of radius √D: what pixel normalisation renders."""
    norms = np.linalg.norm(latents, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = latents * (math.sqrt(latents.shape[1]) / norms)
    return scaled


def project(latents: "Tensor") -> "Tensor":
    """As `to_sphere`, of tensors [n, D], and differentiable."""
    projected: Tensor = latents * (math.sqrt(latents.shape[1]) / latents.norm(dim=1, keepdim=True))
    return projected
