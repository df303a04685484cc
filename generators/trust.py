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

import numpy as np
from numpy.typing import NDArray

from generators.latents import sample_latents
from generators.variety import (
    FEW,
    FEWEST,
    Figures,
    compact_in_parts,
    draw_sample,
    measure_generated,
)
from pipeline.content.arrays import IntArray
from pipeline.content.trust import Judgement

# If a generator makes r times as many images near some real images as it should, their coverage is
# 1 - (1 + r)^-5: 0.97 for r = 1; 0.48, half of that, for r = 0.14; 0.1 for r = 0.02.
USELESS_COVERAGE = 0.1  # below; as a share of a perfect generator's coverage
DOUBTFUL_COVERAGE = 0.5  # below; likewise
# A group can be told apart if a perfect generator covers it by this much more than images of other groups do.
TOLD = 0.3
USELESS_DIVERSITY = 0.2  # below; as a share of the real images' diversity: one image and its shades
COPIES = 0.5  # below; nearest distance, as a share of that between real images
ELSEWHERE = 1.5  # above; the same share


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
    real = compact_in_parts(read, sample.positions)
    generated = compact_in_parts(render, sample_latents(seed, "trust", 0, count, latent_dim))
    shares = np.bincount(groups, minlength=len(names)) / len(groups)
    figures = measure_generated(real, groups[sample.positions], sample, generated, shares)
    return [variety_judgement(figures, names), copies_judgement(figures)]


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
    kept = _rounded_figures(
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
    kept = _rounded_figures({"nearest": figures.nearest})
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


def _rounded_figures(figures: dict[str, float]) -> dict[str, float | None]:
    """Round figures to four places, as machines differ in the last ones; None replaces NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in figures.items()}


def _percent(share: float) -> str:
    """Write 0.95 as '95 %'."""
    return f"{100 * share:.0f} %"
