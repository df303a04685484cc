"""Complements: the smallest move of a latent that meets linear constraints exactly.

With k hyperplanes stacked, W [k, D] and s = W z + b, and D = diag(+1 keep, -1 flip, 0 move onto):

    z' = z + Σ Wᵀ (W Σ Wᵀ)⁻¹ (D - I) (W z + b)

Σ is the identity for the smallest Euclidean move, the latents' covariance for the smallest in the
data's own metric. Source: METHODS 1.4; Ramaswamy, Kim, Russakovsky, CVPR 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.hyperplanes import Hyperplane
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
) -> NDArray[np.float32]:
    """The complement z' of every latent z: float32 [n, D].

    One product [n, k] x [k, D] for any number of constraints, in float64.

    Args:
        latents: z, [n, D].
        covariance: Σ, [D, D], symmetric positive definite; None for the identity.

    Raises `UserError` where the hyperplanes are parallel, so that no move can meet the constraints.
    """
    W = constraints.normals
    spread = W if covariance is None else W @ covariance  # W Σ, [k, D]
    gram = spread @ W.T  # W Σ Wᵀ, [k, k]
    lengths = np.sqrt(np.diag(gram))  # of the normals in the data's metric: no matter of their angles
    condition = float(np.linalg.cond(gram / np.outer(lengths, lengths)))
    if not condition < LARGEST_CONDITION:
        raise UserError(
            f"complement: the hyperplanes of {' and '.join(constraints.attributes)} are parallel (condition "
            f"number {condition:.2g}): no move changes one and keeps the other. Use complement.variant "
            "perpendicular, or attributes that the classifiers tell apart."
        )
    directions = np.linalg.solve(gram, spread)  # [k, D]
    distances = latents.astype(np.float64) @ W.T + constraints.offsets
    moved = latents + (distances * (constraints.factors - 1.0)) @ directions
    return moved.astype(np.float32)
