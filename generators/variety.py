"""How varied generated images are, and how near to real ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.content.arrays import AnyFloatArray, BoolArray, IntArray
from pipeline.content.seeds import generator_for

SIDE = 8  # px: images are compared at this size
NEIGHBOURS = 5  # k of the coverage, as in Naeem et al.
LATENTS = 4000  # latents whose images are judged, at most
PER_GROUP = 300  # real images of each group that are looked for among the generated ones, at most
PAIRED = 1000  # images whose distances the medians are of, at most
PART = 128  # images in memory at a time: 2 GB at 1024 px
ROWS = 512  # rows of distances in memory at a time
FEWEST = 20  # real images: halves of fewer have no 5 neighbours
FEW = 10  # real images of a group: a share of fewer says nothing


def compact(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shrink images uint8 [n, H, W, 3] to 8 x 8 averages, by which they are compared: [n, 192], 0 to 255."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    shrunk: NDArray[np.float32] = F.adaptive_avg_pool2d(pixels, SIDE).flatten(1).numpy()
    return shrunk


def distances_between(these: AnyFloatArray, those: AnyFloatArray) -> NDArray[np.float64]:
    """Compute the Euclidean distances of points [n, d] from points [m, d]: [n, m]."""
    a, b = these.astype(np.float64), those.astype(np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
    return distances


def nearest_distances(
    points: AnyFloatArray, among: AnyFloatArray, k: int = 1, own: IntArray | None = None
) -> NDArray[np.float64]:
    """Compute the distance of each point from its k-th nearest neighbour.

    Args:
        points: [n, d].
        among: the possible neighbours, [m, d].
        k: which neighbour; 1 is the nearest.
        own: for each point its own position in `among`, which does not count; -1 if it is not in there, [n].

    Returns:
        The distances, [n]; infinite if there are fewer than k neighbours.
    """
    found = np.full(len(points), math.inf)
    for start in range(0, len(points), ROWS):
        part = slice(start, start + ROWS)
        distances = distances_between(points[part], among)
        if own is not None:
            rows = np.flatnonzero(own[part] >= 0)
            distances[rows, own[part][rows]] = math.inf
        if k <= len(among):
            found[part] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return found


def covered(
    points: AnyFloatArray, own: IntArray, real: AnyFloatArray, generated: AnyFloatArray, k: int = NEIGHBOURS
) -> BoolArray:
    """Tell for each real image whether the ball around it holds a generated image.

    Source: "coverage" of Naeem et al., Reliable Fidelity and Diversity Metrics, ICML 2020.

    Args:
        points: the real images that are looked for, [n, d].
        own: the position of each among `real`, or -1, [n].
        real: the images whose k-th nearest gives the ball's radius, the image itself left out, [m, d].
        generated: the generated images, [l, d].
        k: which neighbour gives the radius.

    Returns:
        Whether each image is covered, bool [n].
    """
    radii = nearest_distances(points, real, k, own)
    inside: BoolArray = nearest_distances(points, generated) <= radii
    return inside


def expected_coverage(n_real: int, n_generated: int, k: int = NEIGHBOURS) -> float:
    """Compute the coverage that a perfect generator has: of any image, so of any group, whatever the data.

    Real and generated images are then exchangeable: an image is not covered if the k nearest of all
    n_real + n_generated images are real ones.

    Args:
        n_real: real images in which neighbours are looked for.
        n_generated: generated images.
        k: which neighbour gives the radius of a ball (`covered`).

    Returns:
        The coverage, in [0, 1].
    """
    draws = np.arange(min(k, n_real))
    return 1.0 - float(np.prod((n_real - draws) / (n_real + n_generated - draws)))


@dataclass(frozen=True)
class RealSample:
    """Names the real images that are compared: two halves, each held out from the other.

    Attributes:
        positions: of the images, ascending, [n].
        half: 0 or 1, [n].
        typical: whether an image was drawn from all images alike; these come in the data's proportions, [n].
        sought: whether an image is looked for among the generated images: the same number from every group,
            as far as it has as many, [n].
        shuffled: the places among the n of the typical images, in random order.
    """

    positions: IntArray
    half: IntArray
    typical: BoolArray
    sought: BoolArray
    shuffled: IntArray


def draw_sample(groups: IntArray, seed: int) -> RealSample:
    """Draw real images: up to 2 x 4,000 from all, and up to 300 from every group.

    Args:
        groups: the group of every real image, [N].
        seed: of the draw.

    Returns:
        The sample of n images.
    """
    random = generator_for(seed, "trust", "real images")
    order = random.permutation(len(groups))
    typical = np.zeros(len(groups), dtype=bool)
    typical[order[: 2 * LATENTS]] = True
    half = np.zeros(len(groups), dtype=np.int64)
    half[order] = np.arange(len(groups)) % 2
    sought = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        members = order[groups[order] == group]
        sought[members[:PER_GROUP]] = True
    positions = np.flatnonzero(typical | sought)
    shuffled = np.searchsorted(positions, order[: 2 * LATENTS])
    return RealSample(positions, half[positions], typical[positions], sought[positions], shuffled)


@dataclass(frozen=True)
class Figures:
    """Holds the figures that a generator is judged by; shares are in [0, 1].

    Attributes:
        coverage: the share of the real images that is covered, groups weighted by their sizes.
        expected: the coverage that a perfect generator has.
        groups: the coverage of every group, [n_groups]; NaN without images.
        others: the coverage of every group by real images of all other groups, [n_groups]: a generator that
            makes none of the group reaches it, too; NaN without images.
        sizes: how many images of every group were looked for, [n_groups].
        nearest: the median distance of generated images from the nearest real one, as a share of the median
            distance of real images from the nearest other; NaN if most real images have a double.
        diversity: the median distance between two generated images, as a share of the median distance between
            two real ones; NaN if most real images are alike.
    """

    coverage: float
    expected: float
    groups: NDArray[np.float64]
    others: NDArray[np.float64]
    sizes: IntArray
    nearest: float
    diversity: float


def measure_generated(
    real: AnyFloatArray, groups: IntArray, sample: RealSample, generated: AnyFloatArray, shares: AnyFloatArray
) -> Figures:
    """Measure how generated images lie among real ones.

    Args:
        real: the images of the sample, as `compact` returns them, [n, d].
        groups: the group of each, [n].
        sample: which real images these are, and what each is for.
        generated: as `compact` returns them, [m, d]; at least as many as half of the typical images.
        shares: of every group among all real images, [n_groups].

    Returns:
        The figures.
    """
    is_covered, by_others = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    expected = []
    for half in (0, 1):
        inside = np.flatnonzero(sample.typical & (sample.half == half))
        outside = np.flatnonzero(sample.typical & (sample.half != half))
        points = np.flatnonzero(sample.sought & (sample.half == half))
        own = np.where(sample.typical[points], np.searchsorted(inside, points), -1)
        of_half = np.roll(generated, half * len(inside), axis=0)[: len(inside)]
        is_covered[points] = covered(real[points], own, real[inside], of_half)
        expected.append(expected_coverage(len(inside), len(of_half)))
        for group in np.unique(groups[points]):
            members = groups[points] == group
            strangers = real[outside[groups[outside] != group]]
            by_others[points[members]] = covered(real[points[members]], own[members], real[inside], strangers)
    sizes = np.bincount(groups[sample.sought], minlength=len(shares))
    of_groups = np.full((2, len(shares)), math.nan)
    for group in np.flatnonzero(sizes):
        members = sample.sought & (groups == group)
        of_groups[:, group] = is_covered[members].mean(), by_others[members].mean()
    some = sample.shuffled[:PAIRED]
    return Figures(
        coverage=float(np.nansum(of_groups[0] * shares)),
        expected=float(np.mean(expected)),
        groups=of_groups[0],
        others=of_groups[1],
        sizes=sizes,
        nearest=_ratio(
            nearest_distances(generated[:PAIRED], real),
            nearest_distances(real[some], real, own=some),
        ),
        diversity=_ratio(_between_pairs(generated[:PAIRED]), _between_pairs(real[some])),
    )


def _ratio(these: AnyFloatArray, those: AnyFloatArray) -> float:
    """Return the ratio of two medians; NaN if the second is 0."""
    of = float(np.median(those))
    return float(np.median(these)) / of if of else math.nan


def _between_pairs(points: AnyFloatArray) -> AnyFloatArray:
    """Compute the distances of the first half of points [n, d] from the second, [n / 2, n / 2]."""
    half = len(points) // 2
    return distances_between(points[:half], points[half : 2 * half])


def compact_in_parts(
    images: Callable[[Any], NDArray[np.uint8]], of: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Read or render the images of positions or latents [n, ...], and shrink them (`compact`): [n, d]."""
    return np.concatenate([compact(images(of[start : start + PART])) for start in range(0, len(of), PART)])
