"""Reject-option classification: where the classifier is unsure, the unprivileged group is preferred."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import numpy as np

from classifiers.measures import metrics
from classifiers.postprocessing.base import PostProcessor
from classifiers.selection import HALF
from pipeline.content.arrays import BoolArray, FloatArray, IntArray

THRESHOLDS, MARGINS = 100, 50  # of the grid, as AIF360 has it

GapName = Literal["statistical_parity", "equal_opportunity", "average_odds"]
GAPS: dict[GapName, Callable[[FloatArray], FloatArray]] = {
    "statistical_parity": metrics.statistical_parity_difference,
    "equal_opportunity": metrics.equal_opportunity_difference,
    "average_odds": metrics.average_odds_difference,
}


@dataclass
class RejectOption(PostProcessor):
    """Scores within a margin of the threshold t are predicted 1 for one group, and 0 for the other.

    Predictions are 1[s > t]; but in (t - m, t + m] the unprivileged group is predicted 1 and the privileged
    one 0: the thresholds of the groups are t - m and t + m. Threshold, margin and which group is privileged
    are those with the highest balanced accuracy among all whose gap is within the bound; if there are none,
    among those with the smallest absolute gap. Of equal ones it is the threshold that is nearest to 0.5, then
    the smallest margin, then the first group as the privileged one.

    Source: Kamiran, Karim and Zhang, 2012 (doi 10.1109/ICDM.2012.45); the grid is AIF360's.

    Attributes:
        gap: the difference between the groups that is bounded.
        bound: the largest absolute gap, in [0, 1].
        threshold: t, as fitted.
        margin: m, as fitted.
        privileged: the id of the privileged group, as fitted.
    """

    most_groups: ClassVar[int | None] = 2

    gap: GapName = "average_odds"
    bound: float = 0.05
    threshold: float = field(init=False)
    margin: float = field(init=False)
    privileged: int = field(init=False)

    def fit(self, scores: FloatArray, targets: IntArray, protected: IntArray) -> Self:
        """Choose threshold, margin and the privileged group; see `PostProcessor.fit`."""
        thresholds, margins = grid()
        groups = np.unique(protected)
        lower, upper = thresholds[:, None] - margins, thresholds[:, None] + margins
        roles = ((upper, lower), (lower, upper))  # the first group is privileged, or the second
        is_first = protected == groups[0]
        # [threshold, margin, role, ...]: of equals the first is chosen, by these in turn.
        counts = np.stack([counts_at(scores, targets, is_first, *cuts) for cuts in roles], axis=2)
        gaps, balanced = np.abs(GAPS[self.gap](counts)), metrics.balanced_accuracy(counts)
        feasible = gaps <= self.bound
        if not feasible.any():
            feasible = gaps == gaps.min()
        best = np.argmax(np.where(feasible, balanced, -np.inf))
        row, column, role = np.unravel_index(best, gaps.shape)
        self.threshold, self.margin = float(thresholds[row]), float(margins[row, column])
        self.privileged = int(groups[role])
        return self

    def positive_rate(self, scores: FloatArray, protected: IntArray) -> FloatArray:
        """Predict each row, 0 or 1; see `PostProcessor.positive_rate`."""
        margins = np.where(protected == self.privileged, self.margin, -self.margin)
        return (scores > self.threshold + margins).astype(np.float64)


def grid() -> tuple[FloatArray, FloatArray]:
    """Return the thresholds, [100], the nearest to 0.5 first, and the margins of each, rising, [100, 50]."""
    thresholds = np.linspace(0.01, 0.99, THRESHOLDS)
    distances = np.abs(thresholds - HALF).round(6)  # equal on both sides
    thresholds = thresholds[np.argsort(distances, kind="stable")]
    margins = np.linspace(0, np.minimum(thresholds, 1 - thresholds), MARGINS, axis=-1)
    return thresholds, margins


def counts_at(
    scores: FloatArray, targets: IntArray, is_first: BoolArray, first: FloatArray, second: FloatArray
) -> FloatArray:
    """Count targets and predictions of two groups with a threshold each, for many pairs of thresholds.

    Args:
        scores: [n].
        targets: [n] in {0, 1}.
        is_first: whether a row is of the first group, [n].
        first: thresholds of the first group, [...]; scores above are predicted 1.
        second: thresholds of the second group, [...].

    Returns:
        Counts [..., t, g, p], float64 [..., 2, 2, 2].
    """
    counts = np.empty((*first.shape, 2, 2, 2))
    for group, cuts in enumerate((first, second)):
        for target in (0, 1):
            cell = np.sort(scores[(is_first == (group == 0)) & (targets == target)])
            negative = np.searchsorted(cell, cuts, side="right")
            counts[..., target, group, 0], counts[..., target, group, 1] = negative, len(cell) - negative
    return counts
