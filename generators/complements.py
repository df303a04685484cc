"""Complements: the smallest move of a latent that meets linear constraints exactly.

With k hyperplanes stacked, W [k, D] and b [k], and D = diag(+1 keep, -1 flip, 0 move onto):

    z' = z + Σ Wᵀ (W Σ Wᵀ)⁻¹ (D (V z + c) - (W z + b))

V and c are the hyperplanes that z's own distances are measured from: W and b themselves, but for the target
where it has a hyperplane in each domain. Then V has the one of z's domain, W the one of the domain that z'
is moved to. Σ is the identity for the smallest Euclidean move, the latents' covariance for the smallest in
the data's own metric. Source: METHODS 1.4; Ramaswamy, Kim, Russakovsky, CVPR 2021.

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

# For each variant: what becomes of the target's distance (None: it is no constraint), and of the distance of
# a protected attribute that is in the subset. Those that are not keep theirs in every variant, so that z' is
# in the group that it is made for; the perpendicular variants differ in the target alone.
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
    """k constraints on z': its signed distances W z' + b are to be D (V z + c).

    Attributes:
        attributes: the names of the hyperplanes that z' is measured from.
        normals: W, [k, D]; offsets: b, [k].
        factors: the diagonal of D, [k]: what each signed distance is multiplied by.
        own_normals: V, [k, D]; own_offsets: c, [k].
    """

    attributes: tuple[str, ...]
    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]
    factors: NDArray[np.float64]
    own_normals: NDArray[np.float64]
    own_offsets: NDArray[np.float64]


@dataclass(frozen=True)
class Flip:
    """How latents move for one subset of the protected attributes.

    Attributes:
        mask: the subset as a binary number, the first protected attribute the highest digit: a latent of
            domain a is moved to domain a XOR mask.
        attributes: the subset's names, in the order of the protected attributes.
        by_domain: the constraints for latents of each of the 2^k domains, or one for all.
    """

    mask: int
    attributes: tuple[str, ...]
    by_domain: tuple[Constraints, ...]

    @property
    def name(self) -> str:
        """The rows of complements have it as `flips`: "Male+Eyeglasses", for instance."""
        return "+".join(self.attributes)


def subset_flips(variant: str, planes: Planes) -> list[Flip]:
    """The 2^k - 1 subsets of the protected attributes and how each is flipped, in the order of the masks."""
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
    """The constraints of a published variant for one subset of the protected attributes.

    Args:
        own_target: the target's hyperplane where z is; target: where z' will be. The same, unless each
            domain has its own. Of a z' moved onto a hyperplane, between two domains, it is the other one's.
        flipped: which of the protected attributes the subset has, [k].
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
    """The condition number of W: 1 for perpendicular hyperplanes, infinite for parallel ones."""
    return float(np.linalg.cond(constraints.normals))


def angle_to_what_is_kept(constraints: Constraints) -> float | None:
    """θ, degrees, 0 to 90: the smallest angle between the normals kept and those flipped or moved onto.

    Of one target and one protected attribute the angle between the lines along both normals: the move grows
    as 1 / sin θ. None where nothing is kept.
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
    # What each distance changes by is linear in z: u·z + o.
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
    with _threads().limit(limits=1, user_api="blas"):  # more than memory can feed wait for one another
        for start in range(0, len(latents), CHUNK):
            z = latents[start : start + CHUNK].astype(np.float32, copy=False)
            z_prime = moved[start : start + CHUNK]
            z_prime[:] = z
            for change, offset, direction in moves:
                sger(1.0, direction, z @ change + offset, a=z_prime.T, overwrite_a=1)
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
    """The complement of every latent, as the constraints of its domain want it: float32 [n, D].

    Args:
        latents: z, [n, D]; on the sphere where `on_sphere`.
        domains: of the latents, [n]: `Planes.domains_of`. No matter where one set of constraints is for all.
        covariance, out: as `complement` takes them; on the sphere there is no covariance.

    Raises `UserError` where the hyperplanes are parallel.
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
    """Raise `UserError` where the hyperplanes are parallel, or linearly dependent: it names them."""
    _directions(constraints, covariance)


def _directions(constraints: Constraints, covariance: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(W Σ Wᵀ)⁻¹ W Σ, [k, D]: the smallest moves that change one signed distance by 1 and keep the others."""
    W = constraints.normals
    covaried: NDArray[np.float64] = W if covariance is None else W @ covariance  # W Σ, [k, D]
    gram = covaried @ W.T  # W Σ Wᵀ, [k, k]
    lengths = np.sqrt(np.diag(gram))  # of the normals in the data's metric: no matter of their angles
    cosines = gram / np.outer(lengths, lengths)
    condition = float(np.linalg.cond(cosines))
    if not condition < LARGEST_CONDITION:
        raise UserError(_dependence(constraints.attributes, cosines, condition))
    return np.linalg.solve(gram, covaried).astype(np.float64, copy=False)


def _dependence(attributes: tuple[str, ...], cosines: NDArray[np.float64], condition: float) -> str:
    """Which hyperplanes are parallel or, where no two are, that all together are dependent; what to do."""
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
