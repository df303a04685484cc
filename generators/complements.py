"""Complements: the smallest move of a latent that meets linear constraints exactly.

With k hyperplanes stacked, W [k, D] and s = W z + b, and D = diag(+1 keep, -1 flip, 0 move onto):

    z' = z + Σ Wᵀ (W Σ Wᵀ)⁻¹ (D - I) (W z + b)

Σ is the identity for the smallest Euclidean move, the latents' covariance for the smallest in the
data's own metric. Source: METHODS 1.4; Ramaswamy, Kim, Russakovsky, CVPR 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import sger
from threadpoolctl import ThreadpoolController

from generators.hyperplanes import Hyperplane
from generators.latents import to_sphere
from pipeline.errors import UserError

KEEP, FLIP, ONTO = 1.0, -1.0, 0.0

# For each variant: what becomes of the target's distance (None: it is no constraint), and of the
# protected attribute's.
VARIANTS: dict[str, tuple[float | None, float]] = {
    "complement": (KEEP, FLIP),
    "on_hyperplane": (KEEP, ONTO),
    "perpendicular": (None, FLIP),
    "perpendicular_on_hyperplane": (None, ONTO),
}

CHUNK = 256  # latents: of 512 dimensions they and their complements take 1 MB
LARGEST_CONDITION = 1e6  # of W Σ Wᵀ, beyond which a move is noise


@dataclass(frozen=True)
class Constraints:
    """k constraints on a latent's signed distances.

    Attributes:
        normals: W, [k, D]; offsets: b, [k].
        factors: the diagonal of D, [k]: what each signed distance is multiplied by.
    """

    attributes: tuple[str, ...]
    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]
    factors: NDArray[np.float64]


def constraints_of(variant: str, target: Hyperplane, protected: Sequence[Hyperplane]) -> Constraints:
    """The constraints of a published variant, for one target and the protected attributes to change."""
    target_factor, protected_factor = VARIANTS[variant]
    rows = [(plane, protected_factor) for plane in protected]
    if target_factor is not None:
        rows.insert(0, (target, target_factor))
    return Constraints(
        attributes=tuple(plane.attribute for plane, _ in rows),
        normals=np.stack([plane.normal for plane, _ in rows]),
        offsets=np.array([plane.offset for plane, _ in rows]),
        factors=np.array([factor for _, factor in rows]),
    )


def condition_number(constraints: Constraints) -> float:
    """The condition number of W: 1 for perpendicular hyperplanes, infinite for parallel ones."""
    return float(np.linalg.cond(constraints.normals))


def complement(
    latents: NDArray[np.floating[Any]],
    constraints: Constraints,
    covariance: NDArray[np.float64] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The complement z' of every latent z: float32 [n, D].

    A rank-one update per constraint that changes, of so many latents at once as stay in a core's cache:
    nearly as quick as copying them. Distances are computed in float32: constraints are met to 1e-5.

    Args:
        latents: z, [n, D].
        covariance: Σ, [D, D], symmetric positive definite; None for the identity.
        out: where to write z', float32 [n, D], contiguous; None for a new array.

    Raises `UserError` where the hyperplanes are parallel, so that no move can meet the constraints.
    """
    directions = _directions(constraints, covariance)
    changes = constraints.factors - 1.0
    moves = [
        (constraints.normals[k].astype(np.float32), np.float32(constraints.offsets[k]),
         (changes[k] * directions[k]).astype(np.float32))
        for k in np.flatnonzero(changes)
    ]  # fmt: skip
    moved = np.empty(latents.shape, dtype=np.float32) if out is None else out
    if not (moved.flags.c_contiguous and moved.dtype == np.float32 and moved.shape == latents.shape):
        raise ValueError("out is to be contiguous, float32, and of the latents' shape")
    with _threads().limit(limits=1, user_api="blas"):  # more than memory can feed wait for one another
        for start in range(0, len(latents), CHUNK):
            z = latents[start : start + CHUNK].astype(np.float32, copy=False)
            z_prime = moved[start : start + CHUNK]
            z_prime[:] = z
            for normal, offset, move in moves:
                sger(1.0, move, z @ normal + offset, a=z_prime.T, overwrite_a=1)
    return moved


@cache
def _threads() -> ThreadpoolController:
    """The control of the libraries' threads; finding the libraries takes a tenth of a large product."""
    return ThreadpoolController()


def complement_on_sphere(latents: NDArray[np.floating[Any]], constraints: Constraints) -> NDArray[np.float32]:
    """The nearest points to latents z on the sphere of radius √D that meet the constraints: float32 [n, D].

    For generators that normalise their input, so that what is rendered has the distances asked for
    (METHODS 1.5). The constraints fix the part of z' in the span of W, of length p; the rest of z keeps its
    direction and gets the length √(D - p²). Where p > √D no point of the sphere will do: z' is then where
    the sphere comes nearest to the constraints.

    Args:
        latents: z, [n, D], on the sphere.

    Raises `UserError` where the hyperplanes are parallel.
    """
    W = constraints.normals
    directions = _directions(constraints, None)
    z = latents.astype(np.float64)
    projections = z @ W.T
    wanted = constraints.factors * (projections + constraints.offsets) - constraints.offsets
    fixed = wanted @ directions
    rest = z - projections @ directions
    squares = (fixed**2).sum(axis=1, keepdims=True)
    lengths = np.sqrt(np.maximum(z.shape[1] - squares, 0.0))
    moved = fixed + rest * (lengths / np.linalg.norm(rest, axis=1, keepdims=True))
    return to_sphere(moved.astype(np.float32))


def _directions(constraints: Constraints, covariance: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(W Σ Wᵀ)⁻¹ W Σ, [k, D]: the smallest moves that change one signed distance by 1 and keep the others."""
    W = constraints.normals
    spread: NDArray[np.float64] = W if covariance is None else W @ covariance  # W Σ, [k, D]
    gram = spread @ W.T  # W Σ Wᵀ, [k, k]
    lengths = np.sqrt(np.diag(gram))  # of the normals in the data's metric: no matter of their angles
    condition = float(np.linalg.cond(gram / np.outer(lengths, lengths)))
    if not condition < LARGEST_CONDITION:
        raise UserError(
            f"complement: the hyperplanes of {' and '.join(constraints.attributes)} are parallel (condition "
            f"number {condition:.2g}): no move changes one and keeps the other. Use complement.variant "
            "perpendicular, or attributes that the classifiers tell apart."
        )
    return np.linalg.solve(gram, spread).astype(np.float64, copy=False)
