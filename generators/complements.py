"""Complements: the smallest move of a latent that meets linear constraints exactly.

Stack k hyperplanes as W [k, D] and b [k], and let D = diag(+1 keep, -1 flip, 0 move onto). Then

    z' = z + Σ Wᵀ (W Σ Wᵀ)⁻¹ (D (V z + c) - (W z + b))

V and c are the hyperplanes that the distances of z are measured from. They equal W and b, unless the target
has a hyperplane of its own in each domain: then V holds the target's plane in the domain of z, and W its
plane in the domain that z' is moved to. Σ is the identity for the smallest Euclidean move, or the latents'
covariance for the smallest move in the data's own metric. Source: METHODS 1.4; Ramaswamy, Kim, Russakovsky,
CVPR 2021.

Of k protected attributes every non-empty subset is flipped: 2^k - 1 complements per latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from scipy.linalg.blas import sger
from threadpoolctl import ThreadpoolController

from generators.hyperplanes import Hyperplane, Planes
from generators.latents import to_sphere
from pipeline.errors import UserError

KEEP, FLIP, ONTO = 1.0, -1.0, 0.0

# Variant -> (factor of the target's distance, factor of the distances of the protected attributes in the
# subset); None: the target is not constrained. Protected attributes outside of the subset keep their
# distances in every variant, so that z' is in the group that it is made for.
VARIANTS: dict[str, tuple[float | None, float]] = {
    "complement": (KEEP, FLIP),
    "on_hyperplane": (KEEP, ONTO),
    "perpendicular": (None, FLIP),
    "perpendicular_on_hyperplane": (None, ONTO),
}

CHUNK = 256  # latents: with 512 dimensions, they and their complements take 1 MB
LARGEST_CONDITION = 1e6  # condition number of W Σ Wᵀ, scaled to a unit diagonal; beyond it a move is noise


@dataclass(frozen=True)
class Constraints:
    """Holds k constraints on z': its signed distances W z' + b must equal D (V z + c).

    Attributes:
        attributes: the names of the hyperplanes that z' is measured from, k of them.
        normals: W, [k, D].
        offsets: b, [k].
        factors: the diagonal of D, [k]: what each signed distance is multiplied by.
        own_normals: V, [k, D].
        own_offsets: c, [k].
    """

    attributes: tuple[str, ...]
    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]
    factors: NDArray[np.float64]
    own_normals: NDArray[np.float64]
    own_offsets: NDArray[np.float64]


@dataclass(frozen=True)
class Flip:
    """Says how latents move to flip one subset of the protected attributes.

    Attributes:
        mask: the subset as a binary number, the first protected attribute the highest digit: a latent of
            domain a is moved to domain a XOR mask.
        attributes: the subset's names, in the order of the protected attributes.
        by_domain: the constraints for the latents of each of the 2^k domains, or one entry for all domains.
    """

    mask: int
    attributes: tuple[str, ...]
    by_domain: tuple[Constraints, ...]

    @property
    def name(self) -> str:
        """The subset's name, such as "Male+Eyeglasses": the column `flips` of complements has it."""
        return "+".join(self.attributes)


def subset_flips(variant: str, planes: Planes) -> list[Flip]:
    """List the 2^k - 1 non-empty subsets of the protected attributes and how each is flipped.

    Args:
        variant: a key of `VARIANTS`.
        planes: the hyperplanes of the target and of the k protected attributes.

    Returns:
        One `Flip` for each subset, in the order of their masks, 1 to 2^k - 1.
    """
    k = len(planes.protected)
    flips = []
    for mask in range(1, 2**k):
        flipped = [bool(mask >> (k - 1 - place) & 1) for place in range(k)]
        if planes.by_domain:
            pairs = [(own, planes.by_domain[domain ^ mask]) for domain, own in enumerate(planes.by_domain)]
        else:
            pairs = [(planes.target, planes.target)]
        names = tuple(p.attribute for p, change in zip(planes.protected, flipped, strict=True) if change)
        by_domain = tuple(constraints_of(variant, *pair, planes.protected, flipped) for pair in pairs)
        flips.append(Flip(mask, names, by_domain))
    return flips


def constraints_of(
    variant: str,
    own_target: Hyperplane,
    target: Hyperplane,
    protected: Sequence[Hyperplane],
    flipped: Sequence[bool],
) -> Constraints:
    """Build the constraints of a published variant for one subset of the protected attributes.

    Args:
        variant: a key of `VARIANTS`.
        own_target: the target's hyperplane in the domain of z.
        target: the target's hyperplane in the domain of z'. It is the same one, unless each domain has its
            own. If z' is moved onto a hyperplane between two domains, it is the plane of the domain beyond.
        protected: the hyperplanes of the protected attributes, k of them.
        flipped: which of the protected attributes the subset has, [k].

    Returns:
        One constraint for each protected attribute, after one for the target if the variant constrains it.
    """
    target_factor, protected_factor = VARIANTS[variant]
    rows = [
        (p, p, protected_factor if change else KEEP) for p, change in zip(protected, flipped, strict=True)
    ]
    if target_factor is not None:
        rows.insert(0, (own_target, target, target_factor))
    return Constraints(
        attributes=tuple(plane.attribute for _, plane, _ in rows),
        normals=np.stack([plane.normal for _, plane, _ in rows]),
        offsets=np.array([plane.offset for _, plane, _ in rows]),
        factors=np.array([factor for _, _, factor in rows]),
        own_normals=np.stack([own.normal for own, _, _ in rows]),
        own_offsets=np.array([own.offset for own, _, _ in rows]),
    )


def condition_number(constraints: Constraints) -> float:
    """Compute the condition number of W: 1 for perpendicular hyperplanes, infinite for parallel ones."""
    return float(np.linalg.cond(constraints.normals))


def angle_to_what_is_kept(constraints: Constraints) -> float | None:
    """Compute the smallest angle between the normals that are kept and those flipped or moved onto.

    With one target and one protected attribute it is the angle θ between the lines along the two normals: the
    move is 1 / sin θ times as long as at a right angle.

    Args:
        constraints: the constraints of one subset.

    Returns:
        The angle in degrees, 0 to 90; None if no distance is kept.
    """
    kept = constraints.factors == KEEP
    if not kept.any():
        return None
    return float(np.degrees(subspace_angles(constraints.normals[kept].T, constraints.normals[~kept].T).min()))


def complement(
    latents: NDArray[np.floating[Any]],
    constraints: Constraints,
    covariance: NDArray[np.float64] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compute the complement z' of every latent z.

    It is a rank-one update for each constraint that changes a distance, on as many latents at once as fit
    into a core's cache: nearly as fast as copying them. Distances are computed in float32, so that
    constraints are met to 1e-5. If the hyperplanes are parallel or linearly dependent, no move meets the
    constraints, and a `UserError` says so.

    Args:
        latents: z, [n, D].
        constraints: what z' must satisfy.
        covariance: Σ, [D, D], symmetric positive definite; None for the identity.
        out: the array to write z' to, float32 [n, D], contiguous; None for a new one.

    Returns:
        z', float32 [n, D]: `out` if it is given.

    Raises:
        ValueError: `out` is not contiguous, not float32, or not of the latents' shape.
    """
    directions = _directions(constraints, covariance)
    # The change of each distance is linear in z: u·z + o.
    changes = constraints.factors[:, None] * constraints.own_normals - constraints.normals
    offsets = constraints.factors * constraints.own_offsets - constraints.offsets
    moves = [
        (change.astype(np.float32), np.float32(offset), direction.astype(np.float32))
        for change, offset, direction in zip(changes, offsets, directions, strict=True)
        if change.any() or offset
    ]
    moved = np.empty(latents.shape, dtype=np.float32) if out is None else out
    if not (moved.flags.c_contiguous and moved.dtype == np.float32 and moved.shape == latents.shape):
        raise ValueError("out is to be contiguous, float32, and of the latents' shape")
    with _thread_control().limit(limits=1, user_api="blas"):  # memory cannot feed more threads
        for start in range(0, len(latents), CHUNK):
            z = latents[start : start + CHUNK].astype(np.float32, copy=False)
            z_prime = moved[start : start + CHUNK]
            z_prime[:] = z
            for change, offset, direction in moves:
                sger(1.0, direction, z @ change + offset, a=z_prime.T, overwrite_a=1)
    return moved


@cache
def _thread_control() -> ThreadpoolController:
    """Return the control of the libraries' threads, cached: finding them takes a tenth of a large product."""
    return ThreadpoolController()


def complement_on_sphere(latents: NDArray[np.floating[Any]], constraints: Constraints) -> NDArray[np.float32]:
    """Find the points on the sphere of radius √D that meet the constraints and are nearest to the latents.

    They are for generators that normalise their input: the rendered latent then has the distances asked for
    (METHODS 1.5). The constraints fix the part of z' in the span of W, of length p. The rest of z keeps its
    direction and gets the length √(D - p²). If p > √D, no point of the sphere meets the constraints: z' is
    then the point of the sphere that comes nearest to them. If the hyperplanes are parallel or linearly
    dependent, a `UserError` says so.

    Args:
        latents: z, [n, D], on the sphere.
        constraints: what z' must satisfy.

    Returns:
        z', float32 [n, D], on the sphere.
    """
    directions = _directions(constraints, None)
    z = latents.astype(np.float64)
    own_distances = z @ constraints.own_normals.T + constraints.own_offsets
    fixed = (constraints.factors * own_distances - constraints.offsets) @ directions
    rest = z - z @ constraints.normals.T @ directions
    squares = (fixed**2).sum(axis=1, keepdims=True)
    lengths = np.sqrt(np.maximum(z.shape[1] - squares, 0.0))
    moved = fixed + rest * (lengths / np.linalg.norm(rest, axis=1, keepdims=True))
    return to_sphere(moved.astype(np.float32))


def complement_by_domain(
    latents: NDArray[np.floating[Any]],
    domains: NDArray[np.int64],
    flip: Flip,
    covariance: NDArray[np.float64] | None = None,
    on_sphere: bool = False,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compute the complement of every latent under the constraints of its own domain.

    If the hyperplanes are parallel or linearly dependent, a `UserError` says so.

    Args:
        latents: z, [n, D]; on the sphere if `on_sphere`.
        domains: the domain of each latent, [n], from `Planes.domains_of`; not used if `flip` has one set of
            constraints for all domains.
        flip: the subset to flip, and its constraints.
        covariance: Σ, as `complement` takes it; not used on the sphere.
        on_sphere: whether to move on the sphere of radius √D (`complement_on_sphere`).
        out: the array to write z' to, float32 [n, D], contiguous; None for a new one.

    Returns:
        z', float32 [n, D]: `out` if it is given.
    """
    moved = np.empty(latents.shape, dtype=np.float32) if out is None else out
    if len(flip.by_domain) == 1 and not on_sphere:
        return complement(latents, flip.by_domain[0], covariance, moved)
    for domain, constraints in enumerate(flip.by_domain):
        here = domains == domain if len(flip.by_domain) > 1 else slice(None)
        z = latents[here]
        moved[here] = (
            complement_on_sphere(z, constraints) if on_sphere else complement(z, constraints, covariance)
        )
    return moved


def require_independent(constraints: Constraints, covariance: NDArray[np.float64] | None = None) -> None:
    """Raise `UserError`, which names the hyperplanes, if they are parallel or linearly dependent."""
    _directions(constraints, covariance)


def _directions(constraints: Constraints, covariance: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Compute (W Σ Wᵀ)⁻¹ W Σ: the smallest moves that change one signed distance by 1 and keep the others.

    Args:
        constraints: W, of k constraints.
        covariance: Σ, [D, D]; None for the identity.

    Returns:
        The moves, float64 [k, D].

    Raises:
        UserError: the hyperplanes are parallel or linearly dependent.
    """
    W = constraints.normals
    covaried: NDArray[np.float64] = W if covariance is None else W @ covariance  # W Σ, [k, D]
    gram = covaried @ W.T  # W Σ Wᵀ, [k, k]
    lengths = np.sqrt(np.diag(gram))  # of the normals in the data's metric, which do not change their angles
    cosines = gram / np.outer(lengths, lengths)
    condition = float(np.linalg.cond(cosines))
    if not condition < LARGEST_CONDITION:
        raise UserError(_dependence(constraints.attributes, cosines, condition))
    return np.linalg.solve(gram, covaried).astype(np.float64, copy=False)


def _dependence(attributes: tuple[str, ...], cosines: NDArray[np.float64], condition: float) -> str:
    """Say which two hyperplanes are parallel, or else that all are linearly dependent, and what to do."""
    pairs = [(i, j) for i, j in combinations(range(len(attributes)), 2)
             if not np.linalg.cond(cosines[np.ix_([i, j], [i, j])]) < LARGEST_CONDITION]  # fmt: skip
    if pairs:
        involved, are = [attributes[place] for place in pairs[0]], "parallel"
    else:
        involved, are = list(attributes), "linearly dependent"
    return (
        f"complement: the hyperplanes of {' and '.join(involved)} are {are} (condition number "
        f"{condition:.2g}): no move changes one and keeps the other. Use attributes that the classifiers "
        "tell apart or, where the target is one of these, complement.variant perpendicular."
    )
