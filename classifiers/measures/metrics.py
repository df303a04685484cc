"""Metrics of a binary classifier over groups, and the thresholds that it predicts at.

Nearly all are functions of one table, ``counts[..., t, g, p]``: how many test samples have target t,
protected group g and prediction p. The leading axes are free: bootstrap resamples, for instance, so
that 500 of them take one matrix product. All values are shares or ratios without a unit. Sources: METHODS 2
(Ramaswamy et al., 2021; Sagawa et al., 2020), and those that are named. `classifiers.counts` makes the table
and says what groups are; `classifiers.measures.divergences` has the metrics in nats.

A gap between two protected groups has the sign of its definition, group 0 minus group 1. Between more than
two it is the largest difference, not signed (as fairlearn has it). What an empty group would make 0/0 is NaN;
where more than two protected groups are compared, those without samples are left out. Whoever reports a
metric reports `group_counts` beside it.
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
ROUNDING = 1e-14  # of a share of weighted counts

# --- Thresholds ------------------------------------------------------------------------------------------


def count_matching_threshold(scores: FloatArray, targets: IntArray) -> float:
    """The score from which on as many samples are predicted 1 as there are true ones: scores, targets [n].

    Where equal scores allow no such cut, the one whose number is the nearest; of two equally near ones the
    lower, which predicts more: what the parities compare are the rates of positives, and none is left to
    compare where nobody is predicted 1. The threshold is one of the scores, or just above the highest.

    Source: METHODS 2 (Ramaswamy et al., 2021); what it does with equal scores is this project's own.
    """
    values, sizes = np.unique(scores, return_counts=True)
    cuts = np.append(values, np.nextafter(values[-1], np.inf))
    predicted = np.append(np.cumsum(sizes[::-1])[::-1], 0)
    return float(cuts[int(np.argmin(np.abs(predicted - targets.sum())))])


# --- Accuracies ------------------------------------------------------------------------------------------


def reweighted_accuracy(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """The group accuracies averaged by the training data's group proportions [2 n_g]: [...], in [0, 1].

    The average of a test set whose groups are not as frequent as the training data's, as in Waterbirds. The
    proportions of groups without test samples are shared among the others. Source: Sagawa et al., 2020.
    """
    return accuracy(reweighted(counts, proportions))


def balanced_accuracy(counts: FloatArray) -> FloatArray:
    """(TPR + TNR) / 2: [...], in [0, 1]; 1/2 for predictions that do not depend on the target.

    Source: Brodersen et al., 2010.
    """
    by_class = counts.sum(axis=-2)
    return (ratio(by_class[..., 1, 1], by_class[..., 1, :].sum(axis=-1))
            + ratio(by_class[..., 0, 0], by_class[..., 0, :].sum(axis=-1))) / 2  # fmt: skip


# --- Gaps between protected groups -----------------------------------------------------------------------


def positive_rates(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each protected group [..., n_g]: P(ŷ=1 | g), the true and the false positive rate, in [0, 1]."""
    sizes, positive = counts.sum(axis=-1), counts[..., 1]
    return (
        ratio(positive.sum(axis=-2), sizes.sum(axis=-2)),
        ratio(positive[..., 1, :], sizes[..., 1, :]),
        ratio(positive[..., 0, :], sizes[..., 0, :]),
    )


def _gap(rates: FloatArray) -> FloatArray:
    """Between the rates of protected groups [..., n_g]: of two the signed difference, else the largest."""
    if rates.shape[-1] == 2:
        return rates[..., 0] - rates[..., 1]
    largest: FloatArray = np.fmax.reduce(rates, axis=-1) - np.fmin.reduce(rates, axis=-1)
    return np.where(_can_be_compared(rates), largest, np.nan)


def _can_be_compared(rates: FloatArray) -> BoolArray:
    """Whether at least two of the protected groups [..., n_g] have a value."""
    comparable: BoolArray = (~np.isnan(rates)).sum(axis=-1) >= 2
    return comparable


def difference_in_equality_of_opportunity(counts: FloatArray) -> FloatArray:
    """DEO = |FNR(g=0) - FNR(g=1)|: [...], in [0, 1], 0 is fair. Source: Ramaswamy et al., 2021."""
    _, true_positive_rate, _ = positive_rates(counts)
    difference: FloatArray = np.abs(_gap(true_positive_rate))
    return difference


def bias_amplification(counts: FloatArray) -> FloatArray:
    """BA, directional, attribute to task: [...], in [-1, 1].

    The mean over (t, g) of sign(P(t|g) - P(t)) (P(t̂|g) - P(t|g)), with the true g. Above 0, the
    predictions are more correlated with the protected attribute than the labels are; always 0 where the
    labels are not correlated with it at all, as in a test set whose groups are of one size:
    `bias_amplification_reweighted` has a value there. Source: Wang and Russakovsky, 2021.
    """
    total = counts.sum(axis=(-3, -2, -1))[..., None, None]
    true = counts.sum(axis=-1)  # [..., t, g]
    predicted = np.swapaxes(counts.sum(axis=-3), -1, -2)  # [..., p, g]
    in_group = true.sum(axis=-2, keepdims=True)
    share = ratio(true, np.broadcast_to(in_group, true.shape))
    overall = ratio(true.sum(axis=-1, keepdims=True), total)
    change = ratio(predicted, np.broadcast_to(in_group, true.shape)) - share
    excess = share - overall
    excess = np.where(np.abs(excess) < ROUNDING, 0.0, excess)  # of which the sign would count in full
    of_group = (np.sign(excess) * change).mean(axis=-2)
    present = ~np.isnan(of_group)
    mean = ratio(np.nansum(of_group, axis=-1), present.sum(axis=-1))
    return np.where(_can_be_compared(of_group), mean, np.nan)


def bias_amplification_reweighted(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """BA of the counts weighted to the training data's group proportions [2 n_g]: [...], in [-1, 1].

    The correlation of target and protected attribute that the predictions' is compared with is then the
    training data's, whatever the test set's is. The proportions of groups without test samples are shared
    among the others.

    Source: Wang and Russakovsky, 2021, for BA; the weights are those of `reweighted_accuracy`.
    """
    return bias_amplification(reweighted(counts, proportions))


def statistical_parity_difference(counts: FloatArray) -> FloatArray:
    """SPD = P(ŷ=1|g=0) - P(ŷ=1|g=1): [...], in [-1, 1], 0 is fair. Source: Dwork et al., 2012."""
    rate, _, _ = positive_rates(counts)
    return _gap(rate)


def equal_opportunity_difference(counts: FloatArray) -> FloatArray:
    """EOD = TPR(g=0) - TPR(g=1): [...], in [-1, 1], 0 is fair. Source: Hardt et al., 2016."""
    _, true_positive_rate, _ = positive_rates(counts)
    return _gap(true_positive_rate)


def average_odds_difference(counts: FloatArray) -> FloatArray:
    """AOD = ((FPR0 - FPR1) + (TPR0 - TPR1)) / 2: [...], in [-1, 1], 0 is fair. Source: AIF360, 2018."""
    _, true_positive_rate, false_positive_rate = positive_rates(counts)
    return _gap((false_positive_rate + true_positive_rate) / 2)


def disparate_impact(counts: FloatArray) -> FloatArray:
    """P(ŷ=1|g=0) / P(ŷ=1|g=1): [...], a ratio in [0, ∞), 1 is fair. Source: Feldman et al., 2015.

    Of more than two groups, the lowest rate over the highest: in [0, 1]. NaN where the divisor is 0.
    """
    rate, _, _ = positive_rates(counts)
    if rate.shape[-1] == 2:
        return ratio(rate[..., 0], rate[..., 1])
    lowest_to_highest = ratio(np.fmin.reduce(rate, axis=-1), np.fmax.reduce(rate, axis=-1))
    return np.where(_can_be_compared(rate), lowest_to_highest, np.nan)


# --- Scores ----------------------------------------------------------------------------------------------


def calibration_errors(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    n_protected: int | None = None,
    weights: NDArray[Any] | None = None,
) -> FloatArray:
    """ECE of each protected group: [..., n_g], in [0, 1], 0 is calibrated; NaN for a group without samples.

    Σ over 15 bins of [0, 1] of (the bin's share of the group) |mean score - share of positives| in the bin.

    Args:
        scores: P(y=1), in [0, 1], [n]; targets: [n].
        protected, n_protected: as in `protected_groups`; n_protected 1, ids 0: the error of all samples.
        weights: how often each sample counts, [..., n].

    Source: Guo et al., 2017, for the probability of the positive class.
    """
    groups, n_groups = protected_groups(protected, n_protected)
    cells = groups * ECE_BINS + bins_of(scores, ECE_BINS)
    # (n_bin / n) |Σ s / n_bin - Σ y / n_bin| = |Σ (s - y)| / n
    excess = weighted_sums(cells, (n_groups, ECE_BINS), weights, scores - targets)
    return ratio(np.abs(excess).sum(axis=-1), weighted_sums(groups, (n_groups,), weights))
