"""The figure that the finishes of Savani et al. maximise, and the threshold at which it is highest.

φ = ρ if |μ| < ε, else 0: ρ is the balanced accuracy of 1[score >= τ], μ a gap between protected groups
(Savani, White, Govindarajulu, 2020, "Intra-processing methods for debiasing neural networks").

The published code takes τ from a grid of 501 and averages φ over five bootstrap resamples that it draws anew
for each τ: the best of noisy values, which depends on the random numbers. Here all cuts between successive
scores are compared, which is exact. There are no resamples: the margin on ε stands for the noise. Scores are
logits, so that none is rounded to 0 or 1, and a cut is what the last layer's bias loses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from classifiers.measures.metrics import (
    average_odds_difference,
    balanced_accuracy,
    equal_opportunity_difference,
    statistical_parity_difference,
)
from classifiers.networks.images import LabelledImages
from pipeline.content.arrays import FloatArray, IntArray

BiasName = Literal["spd", "eod", "aod"]
DECIMALS = 12  # of what is compared: rounding errors are not to part equals
KEPT = 0.5  # share of the balanced accuracy beyond chance that has to be kept where the bias is made small
SLACK = 0.01  # of balanced accuracy: what is this near to the highest counts as most accurate, too

BIASES: dict[BiasName, Callable[[FloatArray], FloatArray]] = {
    "spd": statistical_parity_difference,
    "eod": equal_opportunity_difference,
    "aod": average_odds_difference,
}


def bias_of(name: BiasName, counts: FloatArray) -> FloatArray:
    """Compute μ of counts, which may be sums of probabilities; it is never NaN.

    Between two groups it is signed, between more it is the largest gap. A rate that an empty group would make
    NaN takes part in no gap: where nothing is left to compare, μ is 0. (The published code takes a rate of 0
    for it. The gap would then be the other group's rate, and a network would be fair that predicts no 1.)

    Args:
        name: a key of `BIASES`.
        counts: [..., 2, n_g, 2], by target, protected group and prediction.

    Returns:
        [...], in [-1, 1].
    """
    return np.nan_to_num(BIASES[name](counts), nan=0.0)


def phi(accuracy: FloatArray, bias: FloatArray, epsilon: float) -> FloatArray:
    """Compute φ: the balanced accuracy where |bias| < epsilon, elsewhere 0; [...]."""
    return np.where(np.abs(bias) < epsilon, accuracy, 0.0)


@dataclass(frozen=True)
class Cut:
    """A threshold and what a network's predictions are worth at it.

    Attributes:
        logit: images with this logit or more are predicted 1.
        accuracy: ρ, the balanced accuracy, in [0, 1].
        bias: μ, in [-1, 1].
    """

    logit: float
    accuracy: float
    bias: float


@dataclass(frozen=True)
class Goal:
    """What is to be reached: a high balanced accuracy with a bias below a limit.

    Attributes:
        bias: the gap μ.
        epsilon: the limit ε of |μ|.
        margin: by how much |μ| should stay below ε where a choice is made, as it will differ on other images.
    """

    bias: BiasName = "aod"
    epsilon: float = 0.05
    margin: float = 0.01

    def ranking(self, accuracies: FloatArray, biases: FloatArray) -> IntArray:
        """Order choices from the best to the worst; of equals the earlier one comes first.

        First come those with |μ| < ε - margin, then those with |μ| < ε, each by falling φ and then by rising
        |μ|. Then, so that there is a sensible first one even if none is feasible, those whose balanced
        accuracy is within `SLACK` of the highest of all, by rising |μ|; and the rest by falling accuracy.

        Predictions that are nearly all alike have a small bias whatever the network, and φ just above 1/2: if
        they counted as feasible, a finish would rather ruin a network than say that it cannot help. So a
        choice is feasible only if ρ - 1/2 is at least `KEPT` of the highest ρ - 1/2 of all.

        Args:
            accuracies: ρ, [n].
            biases: μ, [n].

        Returns:
            The numbers 0 to n - 1 in their order: [n].
        """
        accuracies, gaps = np.round(accuracies, DECIMALS), np.round(np.abs(biases), DECIMALS)
        limits = np.round([self.epsilon - self.margin, self.epsilon], DECIMALS)
        accurate = accuracies >= np.round(accuracies.max(initial=0.0) - SLACK, DECIMALS)
        beyond_chance = np.round(accuracies - 0.5, DECIMALS)
        useful = beyond_chance >= KEPT * beyond_chance.max(initial=0.0) - 10.0**-DECIMALS
        tier = np.select([useful & (gaps < limits[0]), useful & (gaps < limits[1]), accurate], [0, 1, 2], 3)
        within_tier = np.where(tier == 2, gaps, -accuracies)
        return np.lexsort((-accuracies, gaps, within_tier, tier))

    def order(self, cuts: Sequence[Cut]) -> IntArray:
        """Order networks, each at its own best cut, as `ranking` does: [n]."""
        return self.ranking(np.array([cut.accuracy for cut in cuts]), np.array([cut.bias for cut in cuts]))

    def phi(self, cut: Cut) -> float:
        """Compute φ of a network at a cut: in [0, 1]."""
        return float(phi(np.array(cut.accuracy), np.array(cut.bias), self.epsilon))

    def value(self, cut: Cut) -> float:
        """Compute φ, but -|μ| where it is 0, so that a search can tell bad from worse: in [-1, 1]."""
        return self.phi(cut) or -abs(cut.bias)

    def best_cut(self, logits: FloatArray, images: LabelledImages, n_protected: int) -> Cut:
        """Find the best cut of a network's logits, exactly.

        Predictions that are all alike are not compared: they are fair and know nothing.

        Args:
            logits: of the images, [N].
            images: their labels.
            n_protected: the number of protected groups.

        Returns:
            The first cut of the `ranking`, in the middle between two logits. It is 0, the threshold 1/2, if
            all logits are the same.
        """
        cuts = cuts_between(logits)
        accuracies, biases = self._figures(cuts, logits, images, n_protected)
        best = int(self.ranking(accuracies, biases)[0])
        return Cut(float(cuts[best]), float(accuracies[best]), float(biases[best]))

    def cut_at(self, logit: float, logits: FloatArray, images: LabelledImages, n_protected: int) -> Cut:
        """Measure a network's predictions at a given cut, see `best_cut`."""
        accuracies, biases = self._figures(np.array([logit]), logits, images, n_protected)
        return Cut(logit, float(accuracies[0]), float(biases[0]))

    def _figures(
        self, cuts: FloatArray, logits: FloatArray, images: LabelledImages, n_protected: int
    ) -> tuple[FloatArray, FloatArray]:
        """Compute ρ and μ at each cut: [m] and [m]; ρ is 0 if the images have one target only."""
        counts = counts_at(cuts, logits, images, n_protected)
        return np.nan_to_num(balanced_accuracy(counts), nan=0.0), bias_of(self.bias, counts)


def cuts_between(logits: FloatArray) -> FloatArray:
    """Return the middles between successive different logits, rising: [m]; [0] if all are the same."""
    values = np.unique(logits)
    if len(values) < 2:
        return np.zeros(1)
    middles = (values[:-1] + values[1:]) / 2
    return np.where(middles > values[:-1], middles, values[1:])


def counts_at(cuts: FloatArray, logits: FloatArray, images: LabelledImages, n_protected: int) -> FloatArray:
    """Count the images by target, protected group and prediction at each cut.

    Args:
        cuts: [m].
        logits: of the images, [N].
        images: their labels.
        n_protected: the number of protected groups, n_g.

    Returns:
        [m, 2, n_g, 2].
    """
    counts = np.zeros((len(cuts), 2, n_protected, 2))
    protected = images.groups % n_protected
    for target, group in np.ndindex(2, n_protected):
        members = np.sort(logits[(images.targets == target) & (protected == group)])
        negative = np.searchsorted(members, cuts, side="left")
        counts[:, target, group] = np.stack([negative, len(members) - negative], axis=-1)
    return counts
