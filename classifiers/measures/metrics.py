"""Metrics of a binary classifier over groups, and the thresholds that it predicts at.

Nearly all are functions of one table, ``counts[..., t, g, p]``: how many test samples have target t,
protected group g and prediction p. The leading axes are free: bootstrap resamples, for instance, so
that 500 of them take one matrix product. All values are shares or ratios without a unit. Sources: METHODS 2
(Ramaswamy et al., 2021; Sagawa et al., 2020), and those that are named. `classifiers.counts` makes the table
and defines the groups; `classifiers.measures.divergences` has the metrics in nats.

A gap between two protected groups has the sign of its definition, group 0 minus group 1. Between more than
two it is the largest difference, not signed (as fairlearn has it). A value that an empty group would make 0/0
is NaN; if more than two protected groups are compared, those without samples are left out. Report
`group_counts` beside every metric.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.counts import bins_of, ratio, reweighted, weighted_sums
from classifiers.selection import (
    accuracy,
)
from pipeline.content.arrays import BoolArray, FloatArray, IntArray
from pipeline.content.groups import protected_groups

ECE_BINS = 15  # Guo et al., 2017
ROUNDING = 1e-14  # rounding error of a share of weighted counts

# --- Thresholds ------------------------------------------------------------------------------------------


def count_matching_threshold(scores: FloatArray, targets: IntArray) -> float:
    """Find the threshold at which as many samples are predicted 1 as are truly 1.

    If equal scores allow no such cut, take the cut whose number of predicted positives is nearest; of two
    equally near ones the lower threshold, which predicts more: parities compare rates of positives, which
    would be nothing if no sample were predicted 1.

    Source: METHODS 2 (Ramaswamy et al., 2021); the treatment of equal scores is this project's own.

    Args:
        scores: [n].
        targets: [n] in {0, 1}.

    Returns:
        One of the scores, or a number just above the highest: samples with this score or more are predicted
        1.
    """
    values, sizes = np.unique(scores, return_counts=True)
    cuts = np.append(values, np.nextafter(values[-1], np.inf))
    predicted = np.append(np.cumsum(sizes[::-1])[::-1], 0)
    return float(cuts[int(np.argmin(np.abs(predicted - targets.sum())))])


# --- Accuracies ------------------------------------------------------------------------------------------


def reweighted_accuracy(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """Average the group accuracies by the training data's group proportions.

    It is the average accuracy for a test set whose groups are not as frequent as the training data's, as in
    Waterbirds. The proportions of groups without test samples are shared among the others.

    Source: Sagawa et al., 2020.

    Args:
        counts: [..., 2, n_g, 2].
        proportions: of the groups in the training data, [2 n_g].

    Returns:
        [...], in [0, 1].
    """
    return accuracy(reweighted(counts, proportions))


def balanced_accuracy(counts: FloatArray) -> FloatArray:
    """Compute (TPR + TNR) / 2; it is 1/2 for predictions that do not depend on the target.

    Source: Brodersen et al., 2010.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        [...], in [0, 1].
    """
    by_class = counts.sum(axis=-2)
    return (ratio(by_class[..., 1, 1], by_class[..., 1, :].sum(axis=-1))
            + ratio(by_class[..., 0, 0], by_class[..., 0, :].sum(axis=-1))) / 2  # fmt: skip


# --- Gaps between protected groups -----------------------------------------------------------------------


def positive_rates(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute P(ŷ=1 | g), true and false positive rate of each protected group: each [..., n_g] in [0, 1]."""
    sizes, positive = counts.sum(axis=-1), counts[..., 1]
    return (
        ratio(positive.sum(axis=-2), sizes.sum(axis=-2)),
        ratio(positive[..., 1, :], sizes[..., 1, :]),
        ratio(positive[..., 0, :], sizes[..., 0, :]),
    )


def _gap(rates: FloatArray) -> FloatArray:
    """Compute the gap between rates of protected groups [..., n_g]: signed for two, else the largest gap."""
    return rates[..., 0] - rates[..., 1] if rates.shape[-1] == 2 else largest_gap(rates)


def largest_gap(rates: FloatArray) -> FloatArray:
    """Compute the highest minus the lowest of the groups' rates [..., n_g]; NaN of fewer than two rates."""
    gap: FloatArray = np.fmax.reduce(rates, axis=-1) - np.fmin.reduce(rates, axis=-1)
    return np.where(_can_be_compared(rates), gap, np.nan)


def lowest_to_highest(rates: FloatArray) -> FloatArray:
    """Divide the lowest of the groups' rates [..., n_g] by the highest; NaN of fewer than two, and of 0/0."""
    quotient = ratio(np.fmin.reduce(rates, axis=-1), np.fmax.reduce(rates, axis=-1))
    return np.where(_can_be_compared(rates), quotient, np.nan)


def _can_be_compared(rates: FloatArray) -> BoolArray:
    """Tell whether at least two of the protected groups [..., n_g] have a value."""
    comparable: BoolArray = (~np.isnan(rates)).sum(axis=-1) >= 2
    return comparable


def difference_in_equality_of_opportunity(counts: FloatArray) -> FloatArray:
    """Compute DEO = |FNR(g=0) - FNR(g=1)|: [...], in [0, 1], 0 is fair. Source: Ramaswamy et al., 2021."""
    _, true_positive_rate, _ = positive_rates(counts)
    difference: FloatArray = np.abs(_gap(true_positive_rate))
    return difference


def bias_amplification(counts: FloatArray) -> FloatArray:
    """Compute BA, directional bias amplification from the protected attribute to the target.

    The mean over (t, g) of sign(P(t|g) - P(t)) (P(t̂|g) - P(t|g)), with the true g. Above 0, the
    predictions are more correlated with the protected attribute than the labels are. It is always 0 if the
    labels are not correlated with it at all, as in a test set whose groups have the same size; use
    `bias_amplification_reweighted` there.

    Source: Wang and Russakovsky, 2021.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        [...], in [-1, 1].
    """
    total = counts.sum(axis=(-3, -2, -1))[..., None, None]
    true = counts.sum(axis=-1)  # [..., t, g]
    predicted = np.swapaxes(counts.sum(axis=-3), -1, -2)  # [..., p, g]
    in_group = true.sum(axis=-2, keepdims=True)
    share = ratio(true, np.broadcast_to(in_group, true.shape))
    overall = ratio(true.sum(axis=-1, keepdims=True), total)
    change = ratio(predicted, np.broadcast_to(in_group, true.shape)) - share
    excess = share - overall
    excess = np.where(
        np.abs(excess) < ROUNDING, 0.0, excess
    )  # round noise to 0: its sign would otherwise contribute ±1
    of_group = (np.sign(excess) * change).mean(axis=-2)
    present = ~np.isnan(of_group)
    mean = ratio(np.nansum(of_group, axis=-1), present.sum(axis=-1))
    return np.where(_can_be_compared(of_group), mean, np.nan)


def bias_amplification_reweighted(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """Compute BA of the counts weighted to the training data's group proportions.

    The correlation of target and protected attribute that the predictions are compared with is then the
    training data's, whatever the test set's is. The proportions of groups without test samples are shared
    among the others.

    Source: Wang and Russakovsky, 2021, for BA; the weights are those of `reweighted_accuracy`.

    Args:
        counts: [..., 2, n_g, 2].
        proportions: of the groups in the training data, [2 n_g].

    Returns:
        [...], in [-1, 1].
    """
    return bias_amplification(reweighted(counts, proportions))


def statistical_parity_difference(counts: FloatArray) -> FloatArray:
    """Compute SPD = P(ŷ=1|g=0) - P(ŷ=1|g=1): [...], in [-1, 1], 0 is fair. Source: Dwork et al., 2012."""
    rate, _, _ = positive_rates(counts)
    return _gap(rate)


def equal_opportunity_difference(counts: FloatArray) -> FloatArray:
    """Compute EOD = TPR(g=0) - TPR(g=1): [...], in [-1, 1], 0 is fair. Source: Hardt et al., 2016."""
    _, true_positive_rate, _ = positive_rates(counts)
    return _gap(true_positive_rate)


def average_odds_difference(counts: FloatArray) -> FloatArray:
    """Compute AOD = ((FPR0 - FPR1) + (TPR0 - TPR1)) / 2: [...], in [-1, 1], 0 is fair.

    Source: AIF360, 2018.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        [...].
    """
    _, true_positive_rate, false_positive_rate = positive_rates(counts)
    return _gap((false_positive_rate + true_positive_rate) / 2)


def disparate_impact(counts: FloatArray) -> FloatArray:
    """Compute P(ŷ=1|g=0) / P(ŷ=1|g=1); for more than two groups, the lowest rate over the highest.

    Source: Feldman et al., 2015.

    Args:
        counts: [..., 2, n_g, 2].

    Returns:
        A ratio [...] in [0, ∞), for more than two groups in [0, 1]; 1 is fair. NaN if the divisor is 0.
    """
    rate, _, _ = positive_rates(counts)
    return ratio(rate[..., 0], rate[..., 1]) if rate.shape[-1] == 2 else lowest_to_highest(rate)


# --- Scores ----------------------------------------------------------------------------------------------


def calibration_errors(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    n_protected: int | None = None,
    weights: NDArray[Any] | None = None,
) -> FloatArray:
    """Compute the expected calibration error (ECE) of each protected group.

    Σ over 15 bins of [0, 1] of (the bin's share of the group) |mean score - share of positives| in the bin.

    Source: Guo et al., 2017, for the probability of the positive class.

    Args:
        scores: P(y=1), [n] in [0, 1].
        targets: [n] in {0, 1}.
        protected: ids [n] or binary columns [n, k], as in `protected_groups`.
        n_protected: of ids, the number of protected groups, as in `protected_groups`; with ids 0 and
            n_protected 1 the result is the error of all samples.
        weights: how often each sample counts, [..., n]; None for once.

    Returns:
        [..., n_g], in [0, 1], 0 is calibrated; NaN for a group without samples.
    """
    groups, n_groups = protected_groups(protected, n_protected)
    cells = groups * ECE_BINS + bins_of(scores, ECE_BINS)
    # (n_bin / n) |Σ s / n_bin - Σ y / n_bin| = |Σ (s - y)| / n
    excess = weighted_sums(cells, (n_groups, ECE_BINS), weights, scores - targets)
    return ratio(np.abs(excess).sum(axis=-1), weighted_sums(groups, (n_groups,), weights))
