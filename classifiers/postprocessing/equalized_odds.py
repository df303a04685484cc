"""Equalised odds by a linear programme over the predictions of each group."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from classifiers.postprocessing.base import PostProcessor, is_positive
from pipeline.content.arrays import FloatArray, IntArray


@dataclass
class EqualizedOdds(PostProcessor):
    """Each group's predictions at 0.5 are kept or changed with probabilities that equalise TPR and FPR.

    Of all such probabilities they are those with the lowest balanced error, (FPR + FNR) / 2.

    Source: Hardt, Price and Srebro, 2016 (arXiv 1610.02413); the balanced error as in AIF360.

    Attributes:
        rates: as fitted, group id -> P(new prediction 1 | prediction 0), P(new prediction 1 | prediction 1).
    """

    rates: dict[int, FloatArray] = field(init=False)

    def fit(self, scores: FloatArray, targets: IntArray, protected: IntArray) -> Self:
        """Solve the linear programme; see `PostProcessor.fit`."""
        groups = np.unique(protected)
        predicted = is_positive(scores)
        true, false = (
            np.array([predicted[(protected == g) & (targets == target)].mean() for g in groups])
            for target in (1, 0)
        )
        self.rates = dict(zip(groups.tolist(), equalizing_rates(true, false), strict=True))
        return self

    def positive_rate(self, scores: FloatArray, protected: IntArray) -> FloatArray:
        """Change predictions with the probabilities of their group; see `PostProcessor.positive_rate`."""
        positive, rates = is_positive(scores), np.full(len(scores), np.nan)
        for group, (of_negative, of_positive) in self.rates.items():
            rates = np.where(protected == group, np.where(positive, of_positive, of_negative), rates)
        return rates


def equalizing_rates(true_positive_rates: FloatArray, false_positive_rates: FloatArray) -> FloatArray:
    """Find the probabilities that equalise the odds of groups with the lowest balanced error.

    The linear programme minimises Σ_g (FPR'_g - TPR'_g) subject to TPR'_g = TPR'_0 and FPR'_g = FPR'_0, where
    TPR'_g = TPR_g x_g1 + (1 - TPR_g) x_g0, FPR' likewise, and x in [0, 1].

    Args:
        true_positive_rates: of each group, [G].
        false_positive_rates: of each group, [G].

    Returns:
        x, [G, 2]: the probability of a new prediction 1, if the prediction is 0, and if it is 1.

    Raises:
        RuntimeError: the solver fails; x = 0 is always a solution, so this is its fault.
    """
    from scipy.optimize import linprog  # lazy: slow import

    n = len(true_positive_rates)
    true, false = (np.column_stack([1 - r, r]) for r in (true_positive_rates, false_positive_rates))  # [G, 2]
    equal = np.zeros((2, n - 1, n, 2))  # of TPR and of FPR: group g less group 0 is 0
    for k, rates in enumerate((true, false)):
        equal[k, :, 0] = -rates[0]
        equal[k, np.arange(n - 1), np.arange(1, n)] = rates[1:]
    constraints = equal.reshape(2 * (n - 1), 2 * n)
    found = linprog(
        (false - true).ravel(),
        A_eq=constraints,
        b_eq=np.zeros(len(constraints)),
        bounds=(0, 1),
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"equalized_odds: the linear programme has no solution: {found.message}")
    solution: FloatArray = np.clip(found.x, 0, 1).reshape(n, 2)  # the solver's tolerance is 1e-7
    return solution
