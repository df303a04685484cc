"""Whether a generator may be trusted: coverage of the real images, variety, and whether it copies them.

Images are compared by their pixels, shrunk to 8 x 8 px. No classifier is asked, as one trained on biased data
would share the bias. The functions are pure; `pipeline.content.trust` says what follows from a judgement.

The thresholds below were chosen by the figures of these generators: coverage, the lowest coverage of a group
that can be told from the others, nearest and diversity (see `Figures`). The data were 10,000 avatars, with
groups of 4401, 4108, 1406 and 85, and 1,100 digits of two colours, with groups of 521, 27, 28 and 524. The
coverage of a perfect generator is 0.97.

                                        avatars                     digits
    held-out real images                0.96  0.95  0.99  1.00      0.92  0.90  0.97  1.00
    the preset's generator              0.92  0.89  1.03  0.96      0.67  0.58  1.31  0.95
    the same, half of it mirrored                                   0.54  0.43  1.47  0.95
    nearly trained: 3,072 of 3,900 steps                            0.56  0.49  1.36  0.95
    half trained: 2,409 steps                                       0.43  0.38  1.41  0.95
    hardly trained: 80 steps, 1,790     0.00  0.00  1.44  0.77      0.02  0.00  1.78  0.60
    real images of all but one group    0.70  0.36  1.01  1.03      0.51  0.01  1.00  0.83
    real images at half their contrast  0.62  0.51  0.80  0.51      0.60  0.53  1.17  0.50
    at a fifth                          0.11  0.06  0.70  0.20      0.08  0.04  1.39  0.20
    copies of all real images           0.99  0.99  0.00  1.00      0.99  0.98  0.00  1.00
    copies of 20 real images            0.03  0.02  0.00  1.03      0.17  0.12  0.00  1.01
    one image: the mean                 0.01  0.01  0.76  0.00      0.00  0.00  1.49  0.00
    noise                               0.01  0.00  1.11  0.37      0.00  0.00  4.30  0.96
    blurred noise                       0.00  0.00  1.71  0.78      0.00  0.00  4.47  1.19
    real images inverted                0.09  0.02  1.58  1.01      0.00  0.00  7.85  1.00

The coverage of the rare groups tells nothing: the nearest images of so few belong to other groups, so that
the real images of all other groups cover 0.95 of the 85 avatars, and 0.85 and 0.89 of the 27 and 28 digits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from generators.latents import sample_latents
from pipeline.content.arrays import AnyFloatArray, BoolArray, IntArray
from pipeline.content.seeds import generator_for
from pipeline.content.trust import Judgement

SIDE = 8  # px: images are compared at this size
NEIGHBOURS = 5  # k of the coverage, as in Naeem et al.
LATENTS = 4000  # latents whose images are judged, at most
PER_GROUP = 300  # real images of each group that are looked for among the generated ones, at most
PAIRED = 1000  # images whose distances the medians are of, at most
PART = 128  # images in memory at a time: 2 GB at 1024 px
ROWS = 512  # rows of distances in memory at a time

FEWEST = 20  # real images: halves of fewer have no 5 neighbours
FEW = 10  # real images of a group: a share of fewer says nothing

# If a generator makes r times as many images near some real images as it should, their coverage is
# 1 - (1 + r)^-5: 0.97 for r = 1; 0.48, half of that, for r = 0.14; 0.1 for r = 0.02.
USELESS_COVERAGE = 0.1  # below; as a share of a perfect generator's coverage
DOUBTFUL_COVERAGE = 0.5  # below; likewise
# A group can be told apart if a perfect generator covers it by this much more than images of other groups do.
TOLD = 0.3
USELESS_DIVERSITY = 0.2  # below; as a share of the real images' diversity: one image and its shades
COPIES = 0.5  # below; nearest distance, as a share of that between real images
ELSEWHERE = 1.5  # above; the same share


# --- Distances -------------------------------------------------------------------------------------------


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


# --- Coverage --------------------------------------------------------------------------------------------


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


# --- Judgements ------------------------------------------------------------------------------------------

VARIETY, NEAREST = "variety of the generator", "distance of the generator from real images"
LONGER = "Train it for longer (train_gan.steps), change train_gan.learning_rate, or load another one."
RARE = "Show it rare groups more often (train_gan.group_balance), train it for longer, or load another one."
FEWER_STEPS = "Use more real images or train_gan.augment, or train it for fewer steps."


def judge_generator(
    read: Callable[[IntArray], NDArray[np.uint8]],
    groups: IntArray,
    names: Sequence[str],
    render: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
    latent_dim: int,
    seed: int,
) -> list[Judgement]:
    """Judge a generator by the images of up to 4,000 latents that are used for nothing else.

    Args:
        read: returns the real training images at positions [n]: uint8 [n, H, W, 3].
        groups: the group of every real training image, [N].
        names: of the groups, [n_groups].
        render: returns the images of latents [n, latent_dim]: uint8 [n, H, W, 3].
        latent_dim: D.
        seed: of the real images and latents that are drawn.

    Returns:
        The judgements of variety and of copies; one judgement, doubtful, if there are too few real images.
    """
    if len(groups) < FEWEST:
        sentence = f"{len(groups)} real training images are too few to tell how varied its images are."
        return [Judgement(VARIETY, "doubtful", sentence, "Get more real images.", {})]
    sample = draw_sample(groups, seed)
    count = int(sample.typical.sum() + 1) // 2
    real = _compact_in_parts(read, sample.positions)
    generated = _compact_in_parts(render, sample_latents(seed, "trust", 0, count, latent_dim))
    shares = np.bincount(groups, minlength=len(names)) / len(groups)
    figures = measure_generated(real, groups[sample.positions], sample, generated, shares)
    return [variety_judgement(figures, names), copies_judgement(figures)]


def _compact_in_parts(
    images: Callable[[Any], NDArray[np.uint8]], of: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Read or render the images of positions or latents [n, ...], and shrink them (`compact`): [n, d]."""
    return np.concatenate([compact(images(of[start : start + PART])) for start in range(0, len(of), PART)])


def variety_judgement(figures: Figures, names: Sequence[str]) -> Judgement:
    """Judge whether a generator makes what the real images show, in every group that can be told apart.

    A group can be told apart if the images of all other groups leave enough of it uncovered. It is covered
    well enough if the generator gets more than half of the way from their coverage of it to the coverage of a
    perfect generator.

    Args:
        figures: the measured figures.
        names: of the groups, [n_groups].

    Returns:
        The judgement, with the figures it rests on.
    """
    kept = _rounded(
        {
            "coverage": figures.coverage,
            "expected_coverage": figures.expected,
            "diversity": figures.diversity,
            **{f"group_{k}_coverage": float(value) for k, value in enumerate(figures.groups)},
            **{f"group_{k}_coverage_by_others": float(value) for k, value in enumerate(figures.others)},
        }
    )
    covers = (
        f"{_percent(figures.coverage)} of the real training images have a generated one near, where a "
        f"perfect generator reaches {_percent(figures.expected)}"
    )
    if figures.diversity < USELESS_DIVERSITY:
        apart = f"{figures.diversity:.2f} times as far apart as two real images"
        sentence = f"it makes one image, or shades of it: two of them are {apart}."
        return Judgement(VARIETY, "useless", sentence, LONGER, kept)
    if figures.coverage < USELESS_COVERAGE * figures.expected:
        sentence = f"only {covers}: its images do not look like the data, or are always the same few."
        return Judgement(VARIETY, "useless", sentence, LONGER, kept)
    behind = figures.coverage < DOUBTFUL_COVERAGE * figures.expected
    if behind and figures.nearest < COPIES:
        return Judgement(VARIETY, "useless", f"only {covers}: it copies a few.", FEWER_STEPS, kept)
    enough = figures.sizes >= FEW
    told = enough & (figures.expected - figures.others >= TOLD)
    untold = _untold([name for name, is_told in zip(names, told, strict=True) if not is_told])
    if behind:
        return Judgement(VARIETY, "doubtful", f"only {covers}{untold}.", LONGER, kept)
    needed = np.where(told, (figures.expected + figures.others) / 2, DOUBTFUL_COVERAGE * figures.expected)
    reached = np.where(enough, figures.groups / needed, math.inf)
    worst = int(np.argmin(reached))
    if reached[worst] < 1.0:
        sentence = (
            f"{covers}, but of {names[worst]} {_percent(figures.groups[worst])}, where a generator that "
            f"makes none of that group reaches {_percent(figures.others[worst])}{untold}."
        )
        return Judgement(VARIETY, "doubtful", sentence, RARE, kept)
    least = ""
    if told.any():
        worst = int(np.argmin(np.where(told, figures.groups, math.inf)))
        least = f", and of {names[worst]}, which is covered worst, {_percent(figures.groups[worst])}"
    return Judgement(VARIETY, "fine", f"{covers}{least}{untold}.", "", kept)


def _untold(names: Sequence[str]) -> str:
    """Return the clause on groups of which the figures tell nothing; empty if there are none."""
    if not names:
        return ""
    of = names[0] if len(names) == 1 else f"{len(names)} groups"
    return f"; of {of} nothing can be told, as its images are too few or look like others"


def copies_judgement(figures: Figures) -> Judgement:
    """Judge whether a generator's images are about as near to real ones as real ones are to each other."""
    kept = _rounded({"nearest": figures.nearest})
    if math.isnan(figures.nearest):
        sentence = "most real training images are there twice, so that nobody can tell copies of them."
        return Judgement(NEAREST, "doubtful", sentence, "Remove doubles from the real images.", kept)
    sentence = (
        f"its images are {figures.nearest:.2f} times as far from the nearest real training image as real "
        "ones are from each other"
    )
    if figures.nearest < COPIES:
        return Judgement(NEAREST, "doubtful", f"{sentence}: it copies them.", FEWER_STEPS, kept)
    if figures.nearest > ELSEWHERE:
        return Judgement(NEAREST, "doubtful", f"{sentence}: they look like something else.", LONGER, kept)
    return Judgement(NEAREST, "fine", f"{sentence}.", "", kept)


def _rounded(figures: dict[str, float]) -> dict[str, float | None]:
    """Round figures to four places, as machines differ in the last ones; None replaces NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in figures.items()}


def _percent(share: float) -> str:
    """Write 0.95 as '95 %'."""
    return f"{100 * share:.0f} %"
