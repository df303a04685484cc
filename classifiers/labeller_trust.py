"""Judges whether labellers, and the labels that they give to synthetic images, may be trusted.

Pure functions of figures; `pipeline.content.trust` says what follows from a judgement.
"""

import math
from collections.abc import Sequence

import numpy as np

from classifiers.selection import log_odds
from classifiers.training.plateau import PLATEAU
from pipeline.content.arrays import FloatArray
from pipeline.content.trust import Judgement, Level

# --- Labellers -------------------------------------------------------------------------------------------

CHANCE = 0.5
FAIR = 0.7  # a worst group that is right less often sends three labels in ten to the wrong group
CONFIDENCE = 0.95


def interval_of(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of the share correct / n; [0, 1] for n = 0."""
    if not n:
        return 0.0, 1.0
    from scipy.stats import binomtest  # lazy: slow import

    found = binomtest(correct, n).proportion_ci(CONFIDENCE, "wilson")
    return float(found.low), float(found.high)


def labeller_judgement(
    attribute: str, accuracies: FloatArray, counts: Sequence[int], names: Sequence[str], separation: float
) -> Judgement:
    """Judge whether the classifier of an attribute may label, by its worst group on validation.

    A group that the classifier gets wrong as often as right will be filled with images of another group, so
    the worst group, compared with chance, decides, not the average.

    Args:
        attribute: the attribute's name.
        accuracies: the accuracy in every group of real validation images, [n_groups]; NaN without images.
        counts: how many images each group has, [n_groups].
        names: the groups' names, [n_groups].
        separation: the lowest of the last separations of the networks that label.

    Returns:
        The judgement.
    """
    worst = int(np.nanargmin(accuracies))
    accuracy, n = float(accuracies[worst]), counts[worst]
    low, high = interval_of(round(accuracy * n), n)
    level: Level = "fine"
    if accuracy <= CHANCE or separation < PLATEAU:
        level = "useless"
    elif low <= CHANCE or accuracy < FAIR:
        level = "doubtful"
    return Judgement(
        step=f"labeller of {attribute}",
        level=level,
        sentence=(
            f"in its worst group, {names[worst]}, it is right for {100 * accuracy:.0f} % of {n:,} validation "
            f"images (95 % confidence: {100 * low:.0f} to {100 * high:.0f} %), where chance is 50 %."
        ),
        remedy="Get more real images of that group, or train on group_balanced batches, with more steps or "
        "networks, and choose by worst_group_accuracy (train_attribute).",
        figures={
            "worst_group_accuracy": accuracy,
            "n": float(n),
            "low": low,
            "high": high,
            "separation": separation,
        },
    )


# --- Labels of synthetic images --------------------------------------------------------------------------

# Differences of log odds. Generators lean towards rare groups on purpose, by a factor of two or three; a
# factor of 16 takes a half to 94 %, or to 6 %.
SHIFTED, ANOTHER = math.log(4), math.log(16)
FEWEST = 20  # images with the rarer label: a hyperplane in 64 dimensions has no fewer


def share_judgement(attribute: str, real: float, n_positive: int, n: int) -> Judgement:
    """Judge whether the labels of an attribute are about as frequent among G(z) as among real images.

    A generator learns the frequencies of its data: if nearly all its images get one label, the labeller is
    wrong.

    Args:
        attribute: the attribute's name.
        real: the share of positives among real training images, in (0, 1).
        n_positive: how many of n images G(z) are labelled 1.
        n: the number of images.

    Returns:
        The judgement.
    """
    share = n_positive / n
    known = min(max(real, 0.5 / n), 1 - 0.5 / n)  # n images cannot tell smaller shares from 0
    distance = abs(float(log_odds((n_positive + 0.5) / (n + 1)) - log_odds(known)))
    level: Level = "fine"
    if distance > ANOTHER or min(n_positive, n - n_positive) < FEWEST:
        level = "useless"
    elif distance > SHIFTED:
        level = "doubtful"
    return Judgement(
        step=f"labels of {attribute} among G(z)",
        level=level,
        sentence=(
            f"{100 * share:.1f} % of {n:,} synthetic images are labelled {attribute}, of the real training "
            f"images {100 * real:.1f} %."
        ),
        remedy=f"Look at the labeller of {attribute} and at the generator's images (out/generator/samples).",
        figures={"share": share, "real_share": real, "log_odds_distance": distance},
    )
