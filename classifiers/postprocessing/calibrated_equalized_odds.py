"""Calibrated equalised odds: the better groups are made as bad as the worst one, and stay calibrated."""

from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from classifiers.postprocessing.base import PostProcessor, is_positive
from pipeline.content.arrays import FloatArray, IntArray

CostName = Literal["fpr", "fnr", "weighted"]


@dataclass
class CalibratedEqualizedOdds(PostProcessor):
    """With probability α_g, a row's score is replaced by its group's share of positives, π_g.

    The cost c_g of a group is its mean score of negatives ("fpr"), 1 minus its mean score of positives
    ("fnr"), or half the sum of the two, weighted by 1 - π_g and π_g ("weighted"). The share
    α_g = (c_worst - c_g) / (t_g - c_g), where t_g is the cost of the constant score π_g, gives each group the
    highest cost, c_worst. It is clipped to [0, 1]: a group cannot become worse than t_g. One cost alone can
    be equalised, and only calibrated scores stay calibrated. The method is for two groups; each further one
    is adjusted in the same way.

    Source: Pleiss et al., 2017 (arXiv 1709.02012); default and weights of the cost as in AIF360.

    Attributes:
        cost: the cost that is equalised.
        shares: as fitted, group id -> α_g.
        positives: as fitted, group id -> π_g.
    """

    cost: CostName = "weighted"
    shares: dict[int, float] = field(init=False)
    positives: dict[int, float] = field(init=False)

    def fit(self, scores: FloatArray, targets: IntArray, protected: IntArray) -> Self:
        """Compute α and π of each group; see `PostProcessor.fit`."""
        groups = np.unique(protected)
        positives = np.array([targets[protected == g].mean() for g in groups])
        of_negatives, of_positives = (
            np.array([np.sort(scores[(protected == g) & (targets == target)]).mean() for g in groups])
            for target in (0, 1)
        )  # sorted: a sum's last bit depends on the order of the rows
        costs = self._costs(of_negatives, of_positives, positives)
        trivial = self._costs(positives, positives, positives)
        shares = mixing_shares(costs, trivial)
        self.shares = dict(zip(groups.tolist(), shares.tolist(), strict=True))
        self.positives = dict(zip(groups.tolist(), positives.tolist(), strict=True))
        return self

    def _costs(self, of_negatives: FloatArray, of_positives: FloatArray, positives: FloatArray) -> FloatArray:
        """Compute each group's cost, [G], of its mean scores of negatives and of positives and its π."""
        if self.cost == "fpr":
            return of_negatives
        if self.cost == "fnr":
            return 1 - of_positives
        return (of_negatives * (1 - positives) + (1 - of_positives) * positives) / 2

    def positive_rate(self, scores: FloatArray, protected: IntArray) -> FloatArray:
        """Mix predictions at 0.5 of the scores and of π; see `PostProcessor.positive_rate`."""
        positive, rates = is_positive(scores), np.full(len(scores), np.nan)
        for group, share in self.shares.items():
            of_share = is_positive(np.array(self.positives[group]))
            rates = np.where(protected == group, (1 - share) * positive + share * of_share, rates)
        return rates


def mixing_shares(costs: FloatArray, trivial: FloatArray) -> FloatArray:
    """Compute α: how often each group's score has to be replaced for its cost to be the highest one.

    Args:
        costs: of the groups, [G].
        trivial: of the groups, if all their scores are replaced, [G].

    Returns:
        [G] in [0, 1]; 0 for a group whose cost does not rise when its scores are replaced.
    """
    short, rise = costs.max() - costs, trivial - costs
    shares: FloatArray = np.clip(np.divide(short, rise, out=np.zeros_like(costs), where=rise > 0), 0, 1)
    return shares
