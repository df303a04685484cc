"""Parities as fairlearn defines them, unsigned, and φ, which joins accuracy and a limit on bias.

All are functions of confusion counts, `counts[..., t, g, p]`, as those of `classifiers.measures.metrics`. A
gap between protected groups is the largest of any two, for two groups as well; groups without samples are
left out, and a gap that fewer than two groups have is NaN. The largest of several noisy gaps is biased
upwards: with small groups it is above 0 for a fair classifier too, so read it beside its bootstrap.
"""

from collections.abc import Callable

import numpy as np

from classifiers.measures.metrics import (
    ROUNDING,
    average_odds_difference,
    balanced_accuracy,
    largest_gap,
    lowest_to_highest,
    positive_rates,
)
from pipeline.content.arrays import FloatArray

EPSILON = 0.05  # the bias from which on φ is 0 (Savani et al., 2020)

Bias = Callable[[FloatArray], FloatArray]  # counts -> a signed difference between protected groups


def equalized_odds_difference(counts: FloatArray) -> FloatArray:
    """Compute the larger one of the largest gaps between true positive and between false positive rates.

    Unlike the average odds difference, whose two gaps have signs, it cannot be 0 because they cancel.

    Source: Hardt et al., 2016; fairlearn's `equalized_odds_difference`, with its default, the worst case.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        [...], in [0, 1], 0 is fair; NaN if one of the gaps is.
    """
    _, true_positive_rate, false_positive_rate = positive_rates(counts)
    return np.maximum(largest_gap(true_positive_rate), largest_gap(false_positive_rate))


def demographic_parity_difference(counts: FloatArray) -> FloatArray:
    """Compute the largest gap between rates of predicted positives: [...], in [0, 1], 0 is fair.

    Source: Dwork et al., 2012; fairlearn's `demographic_parity_difference`.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        [...].
    """
    rate, _, _ = positive_rates(counts)
    return largest_gap(rate)


def demographic_parity_ratio(counts: FloatArray) -> FloatArray:
    """Divide the lowest rate of predicted positives by the highest: [...], in [0, 1], 1 is fair.

    Source: Feldman et al., 2015; fairlearn's `demographic_parity_ratio`.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        [...]; NaN if no group has a predicted positive.
    """
    rate, _, _ = positive_rates(counts)
    return lowest_to_highest(rate)


def feasible(
    counts: FloatArray, bias: Bias = average_odds_difference, epsilon: float = EPSILON
) -> FloatArray:
    """Tell whether |μ| < ε, as 1 or 0: the mean over seeds is the share of seeds that are feasible.

    Args:
        counts: [..., 2, n_g, 2].
        bias: computes μ.
        epsilon: ε. A |μ| that differs from it by rounding alone counts as ε.

    Returns:
        [...] in {0, 1}; NaN if μ is.
    """
    size = np.abs(bias(counts))
    return np.where(np.isnan(size), np.nan, (size < epsilon - ROUNDING).astype(np.float64))


def phi(counts: FloatArray, bias: Bias = average_odds_difference, epsilon: float = EPSILON) -> FloatArray:
    """Compute φ = ρ if |μ| < ε, else 0, where ρ is the balanced accuracy.

    It jumps at ε, and its mean over seeds mixes zeros with accuracies: read it beside ρ, μ and `feasible`.

    Source: Savani, White, Govindarajulu, 2020; here an undefined μ makes φ undefined, there it counts as 0.

    Args:
        counts: [..., 2, n_g, 2].
        bias: computes μ: the difference in statistical parity, equal opportunity or average odds.
        epsilon: ε.

    Returns:
        [...], in [0, 1]; NaN if ρ or μ is.
    """
    return balanced_accuracy(counts) * feasible(counts, bias, epsilon)
