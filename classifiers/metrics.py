"""Metrics of a binary classifier over groups, and of a data set's labels.

Nearly all are functions of one table, ``counts[..., t, g, p]``: how many test samples have target t,
protected group g and prediction p. The leading axes are free: bootstrap resamples, for instance, so
that 500 of them take one matrix product. All values are shares or ratios without a unit, divergences are
in nats. Sources: METHODS 2 (Ramaswamy et al., 2021; Sagawa et al., 2020), and those that are named.

Protected groups are given as ids [n], or as the binary columns [n, k] of k attributes: then the groups are
their intersections, g = Σ_j column_j 2^(k-1-j), the first attribute being the most significant, and
n_g = 2^k. Group = t * n_g + g.

A gap between two protected groups has the sign of its definition, group 0 minus group 1. Between more than
two it is the largest difference, not signed (as fairlearn has it). What an empty group would make 0/0 is NaN;
where more than two protected groups are compared, those without samples are left out. Whoever reports a
metric reports `group_counts` beside it.
"""

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.groups import protected_groups

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int_]

HALF = 0.5  # the score from which on 1 is predicted, wherever no other threshold is named
KL_BINS = 50
KL_EPSILON = 1e-6
ECE_BINS = 15  # Guo et al., 2017
BLOCK_BYTES = 2**26  # of an array in memory: the weights of 800 resamples of 20,000 samples
CACHE_BYTES = 2**20  # of an array that is gone over again and again

# --- Thresholds and groups -------------------------------------------------------------------------------


def f1_threshold(scores: FloatArray, targets: IntArray) -> float:
    """The score from which on to predict 1 for the best F1: scores, targets [n]."""
    from sklearn.metrics import precision_recall_curve  # a second to import, and most stages do without

    precision, recall, thresholds = precision_recall_curve(targets, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def worst_group_threshold(scores: FloatArray, targets: IntArray, groups: IntArray) -> float:
    """The score from which on to predict 1 for the best worst-group accuracy: all are [n].

    The lowest of equal ones.
    """
    thresholds = np.unique(scores)
    worst = np.ones(len(thresholds))
    for group in np.unique(groups):
        members = groups == group
        positive, negative = (np.sort(scores[members & (targets == target)]) for target in (1, 0))
        correct = (
            len(positive) - np.searchsorted(positive, thresholds) + np.searchsorted(negative, thresholds)
        )
        worst = np.minimum(worst, correct / members.sum())
    return float(thresholds[int(np.argmax(worst))])


def count_matching_threshold(scores: FloatArray, targets: IntArray) -> float:
    """The score from which on as many samples are predicted 1 as there are true ones (METHODS 2)."""
    positives = int(targets.sum())
    if positives == 0:
        return float(np.nextafter(scores.max(), np.inf))
    return float(np.sort(scores)[-positives])


def group_counts(targets: IntArray, protected: IntArray, n_protected: int | None = None) -> IntArray:
    """How many samples each group t * n_g + g has: [2 n_g]."""
    groups, n_groups = protected_groups(protected, n_protected)
    return np.bincount(targets * n_groups + groups, minlength=2 * n_groups)


# --- Bootstrap -------------------------------------------------------------------------------------------


def bootstrap_weights(n: int, resamples: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """How often each of n samples is drawn in each resample with replacement: whole numbers, [resamples, n].

    Every metric that takes these weights gives what it would give of the samples drawn (Efron, 1979).
    """
    weights = np.empty((resamples, n), dtype=np.float32)
    for row in weights:  # one at a time stays in the cache: four times as fast as all draws at once
        row[:] = np.bincount(generator.integers(n, size=n), minlength=n)
    return weights


def bootstrapped(
    metrics_of: Callable[[NDArray[np.float32]], Mapping[str, FloatArray]],
    n: int,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, FloatArray]:
    """Metrics of bootstrap resamples of n samples: name -> [resamples].

    Args:
        metrics_of: gives of weights [r, n] each metric's values [r].

    All resamples go at once, or as many as take `BLOCK_BYTES`: the result is the same.
    """
    block = max(1, BLOCK_BYTES // (4 * n))
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    values = [metrics_of(bootstrap_weights(n, size, generator)) for size in sizes]
    return {name: np.concatenate([part[name] for part in values]) for name in values[0]}


def median_and_deviation(values: FloatArray) -> tuple[float, float]:
    """Median and standard deviation of a metric over the resamples [r] that have it; NaN where none has."""
    present = values[~np.isnan(values)]
    if not len(present):
        return float("nan"), float("nan")
    return float(np.median(present)), float(present.std())


# --- Counts ----------------------------------------------------------------------------------------------


def count_table(
    targets: IntArray,
    protected: IntArray,
    predictions: IntArray,
    n_protected: int | None = None,
    weights: NDArray[Any] | None = None,
) -> FloatArray:
    """counts[..., t, g, p] of targets and predictions [n] and protected groups: [..., 2, n_g, 2].

    Args:
        protected, n_protected: as in `protected_groups`.
        weights: how often each sample counts, [..., n]; None for once.
    """
    groups, n_groups = protected_groups(protected, n_protected)
    cells = (targets * n_groups + groups) * 2 + predictions
    return _sums(cells, (2, n_groups, 2), weights)


def _sums(
    cells: IntArray,
    shape: tuple[int, ...],
    weights: NDArray[Any] | None = None,
    values: FloatArray | None = None,
) -> FloatArray:
    """The weighted sum of values [n], or of ones, in each cell of a table: [..., *shape]."""
    length = int(np.prod(shape))
    if weights is None:
        return np.bincount(cells, weights=values, minlength=length).astype(np.float64).reshape(shape)
    summed = np.zeros((*weights.shape[:-1], length))
    block = max(1, BLOCK_BYTES // (4 * length))
    for start in range(0, len(cells), block):
        part = slice(start, start + block)
        # Whole numbers stay exact in float32, up to 16 million of them; a product in it takes half the time.
        placed = np.zeros((len(cells[part]), length), dtype=np.float32)
        placed[np.arange(len(placed)), cells[part]] = 1.0 if values is None else values[part]
        summed += weights[..., part] @ placed
    return summed.reshape(*weights.shape[:-1], *shape)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: FloatArray = np.where(denominator > 0, numerator / denominator, np.nan)
    return quotient


def _gap(rates: FloatArray) -> FloatArray:
    """Between the rates of protected groups [..., n_g]: of two the signed difference, else the largest."""
    if rates.shape[-1] == 2:
        return rates[..., 0] - rates[..., 1]
    largest: FloatArray = np.fmax.reduce(rates, axis=-1) - np.fmin.reduce(rates, axis=-1)
    return np.where(_can_be_compared(rates), largest, np.nan)


def _can_be_compared(rates: FloatArray) -> NDArray[np.bool_]:
    """Whether at least two of the protected groups [..., n_g] have a value."""
    comparable: NDArray[np.bool_] = (~np.isnan(rates)).sum(axis=-1) >= 2
    return comparable


# --- Accuracies ------------------------------------------------------------------------------------------


def group_accuracies(counts: FloatArray) -> FloatArray:
    """The accuracy of each group t * n_g + g: [..., 2 n_g], in [0, 1]; NaN for a group without samples.

    Source: Sagawa et al., 2020.
    """
    correct = np.stack([counts[..., 0, :, 0], counts[..., 1, :, 1]], axis=-2)
    accuracy = _ratio(correct, counts.sum(axis=-1))
    return accuracy.reshape(*accuracy.shape[:-2], -1)


def worst_group_accuracy(counts: FloatArray) -> FloatArray:
    """The lowest accuracy of the groups that have samples: [...], in [0, 1]. Source: Sagawa et al., 2020."""
    worst: FloatArray = np.fmin.reduce(group_accuracies(counts), axis=-1)  # which ignores NaN
    return worst


def accuracy(counts: FloatArray) -> FloatArray:
    """The share of correct predictions: [...], in [0, 1]."""
    correct = counts[..., 0, :, 0].sum(axis=-1) + counts[..., 1, :, 1].sum(axis=-1)
    return _ratio(correct, counts.sum(axis=(-3, -2, -1)))


def reweighted_accuracy(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """The group accuracies averaged by the training data's group proportions [2 n_g]: [...], in [0, 1].

    The average of a test set whose groups are not as frequent as the training data's, as in Waterbirds. The
    proportions of groups without test samples are shared among the others. Source: Sagawa et al., 2020.
    """
    accuracies = group_accuracies(counts)
    present = np.where(np.isnan(accuracies), 0.0, proportions)
    return _ratio((np.nan_to_num(accuracies) * present).sum(axis=-1), present.sum(axis=-1))


def balanced_accuracy(counts: FloatArray) -> FloatArray:
    """(TPR + TNR) / 2: [...], in [0, 1]; 1/2 for predictions that do not depend on the target."""
    by_class = counts.sum(axis=-2)
    return (_ratio(by_class[..., 1, 1], by_class[..., 1, :].sum(axis=-1))
            + _ratio(by_class[..., 0, 0], by_class[..., 0, :].sum(axis=-1))) / 2  # fmt: skip


# --- Gaps between protected groups -----------------------------------------------------------------------


def positive_rates(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each protected group [..., n_g]: P(ŷ=1 | g), the true and the false positive rate, in [0, 1]."""
    sizes, positive = counts.sum(axis=-1), counts[..., 1]
    return (
        _ratio(positive.sum(axis=-2), sizes.sum(axis=-2)),
        _ratio(positive[..., 1, :], sizes[..., 1, :]),
        _ratio(positive[..., 0, :], sizes[..., 0, :]),
    )


def difference_in_equality_of_opportunity(counts: FloatArray) -> FloatArray:
    """DEO = |FNR(g=0) - FNR(g=1)|: [...], in [0, 1], 0 is fair. Source: Ramaswamy et al., 2021."""
    _, true_positive_rate, _ = positive_rates(counts)
    difference: FloatArray = np.abs(_gap(true_positive_rate))
    return difference


def bias_amplification(counts: FloatArray) -> FloatArray:
    """BA, directional, attribute to task: [...], in [-1, 1].

    The mean over (t, g) of sign(P(t|g) - P(t)) (P(t̂|g) - P(t|g)), with the true g. Above 0, the
    predictions are more correlated with the protected attribute than the labels are; always 0 where the
    labels are not correlated with it at all. Source: Wang and Russakovsky, 2021.
    """
    total = counts.sum(axis=(-3, -2, -1))[..., None, None]
    true = counts.sum(axis=-1)  # [..., t, g]
    predicted = np.swapaxes(counts.sum(axis=-3), -1, -2)  # [..., p, g]
    in_group = true.sum(axis=-2, keepdims=True)
    share = _ratio(true, np.broadcast_to(in_group, true.shape))
    overall = true.sum(axis=-1, keepdims=True) / total
    change = _ratio(predicted, np.broadcast_to(in_group, true.shape)) - share
    of_group = (np.sign(share - overall) * change).mean(axis=-2)
    present = ~np.isnan(of_group)
    mean = _ratio(np.nansum(of_group, axis=-1), present.sum(axis=-1))
    return np.where(_can_be_compared(of_group), mean, np.nan)


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
        return _ratio(rate[..., 0], rate[..., 1])
    lowest_to_highest = _ratio(np.fmin.reduce(rate, axis=-1), np.fmax.reduce(rate, axis=-1))
    return np.where(_can_be_compared(rate), lowest_to_highest, np.nan)


# --- Scores ----------------------------------------------------------------------------------------------


def average_precision(
    scores: FloatArray, targets: IntArray, weights: NDArray[Any] | None = None
) -> FloatArray:
    """AP = Σ (R_k - R_{k-1}) P_k over the distinct scores: [...], in [0, 1]; NaN without positives.

    Args:
        scores, targets: [n].
        weights: how often each sample counts, [..., n].

    Source: as scikit-learn's `average_precision_score`, with which the published values were computed.
    """
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(-scores, kind="stable")
    # Equal scores are predicted together: each run of them is one point of the curve.
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    rows = weights.reshape(-1, len(scores))
    block = max(1, CACHE_BYTES // (8 * len(scores)))
    values = [
        _average_precision(rows[start : start + block][:, order], targets[order], starts)
        for start in range(0, len(rows), block)
    ]
    return np.concatenate(values).reshape(weights.shape[:-1])


def _average_precision(weights: NDArray[Any], targets: IntArray, starts: IntArray) -> FloatArray:
    """AP of samples in falling order of their scores: weights [r, n], the starts of equal scores -> [r]."""
    gained, drawn = weights * targets.astype(np.float64), weights.astype(np.float64)
    if len(starts) < len(targets):
        gained, drawn = np.add.reduceat(gained, starts, axis=1), np.add.reduceat(drawn, starts, axis=1)
    positives, predicted = np.cumsum(gained, axis=1), np.cumsum(drawn, axis=1)
    # Where nothing has been predicted yet, nothing is gained either.
    precision = positives / np.maximum(predicted, np.finfo(np.float64).tiny)
    return _ratio(np.einsum("rk,rk->r", gained, precision), positives[:, -1])


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
    cells = groups * ECE_BINS + _bins(scores, ECE_BINS)
    # (n_bin / n) |Σ s / n_bin - Σ y / n_bin| = |Σ (s - y)| / n
    excess = _sums(cells, (n_groups, ECE_BINS), weights, scores - targets)
    return _ratio(np.abs(excess).sum(axis=-1), _sums(groups, (n_groups,), weights))


def _bins(scores: FloatArray, bins: int) -> IntArray:
    """The bin of [0, 1] that each score is in; 1 is in the last."""
    return np.clip((scores * bins).astype(np.int_), 0, bins - 1)


def kl_scores(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    weights: NDArray[Any] | None = None,
    n_protected: int | None = None,
) -> FloatArray:
    """KL between the score distributions of the protected groups: [...], in nats, from 0 to 13.8.

    Histograms of 50 bins over [0, 1] within each true class, Gaussian smoothing σ = 1, normalised,
    + 1e-6; both directions and both classes, the median (METHODS 2). NaN where one of two groups has no
    samples of a class.

    Args:
        scores: in [0, 1], [n]; targets: in {0, 1}, [n].
        protected, n_protected: as in `protected_groups`; of more than two groups, all pairs are pooled.
        weights: how often each sample counts, [..., n].
    """
    from scipy.ndimage import gaussian_filter1d

    groups, n_groups = protected_groups(protected, n_protected)
    cells = (targets * n_groups + groups) * KL_BINS + _bins(scores, KL_BINS)
    histograms = _sums(cells, (2, n_groups, KL_BINS), weights)
    return _median_divergence(gaussian_filter1d(histograms, sigma=1.0, axis=-1))


def kl_scores_published(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    weights: NDArray[Any] | None = None,
    n_protected: int | None = None,
) -> FloatArray:
    """The KL of the published tables: [...], in nats, from 0 to 13.8; to compare with them alone.

    As `kl_scores`, but each histogram spans its own set's range, so that distributions that are the same but
    for their place and width count as equal; and whole counts are smoothed to whole counts, rounded down, so
    that a bin with few samples vanishes, and a set where all bins have few is NaN (METHODS 2).

    Args:
        scores: [n]; targets: in {0, 1}, [n].
        protected, n_protected: as in `protected_groups`; of more than two groups, all pairs are pooled.
        weights: how often each sample counts, whole numbers, [..., n].

    Source: Ramaswamy et al., 2021. Their ± pools the resamples of all four divergences; a bootstrap of this
    is of their median.
    """
    from scipy.ndimage import gaussian_filter1d

    groups, n_groups = protected_groups(protected, n_protected)
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(scores, kind="stable")
    cells = (targets * n_groups + groups)[order]
    sets = [order[cells == cell] for cell in range(2 * n_groups)]
    histograms = np.stack([_own_range_histogram(scores[s], weights[..., s]) for s in sets], axis=-2)
    smooth = gaussian_filter1d(histograms, sigma=1.0, axis=-1)  # of whole numbers: whole numbers
    return _median_divergence(smooth.reshape(*weights.shape[:-1], 2, n_groups, KL_BINS).astype(np.float64))


def _own_range_histogram(scores: FloatArray, weights: NDArray[Any]) -> NDArray[np.int64]:
    """numpy.histogram of one set for each row of weights, over the range of what it drew: [..., KL_BINS].

    Args:
        scores: in ascending order, [m].
        weights: how often each counts, [..., m].
    """
    if not len(scores):
        return np.zeros((*weights.shape[:-1], KL_BINS), dtype=np.int64)
    is_drawn = weights > 0
    lowest = scores[is_drawn.argmax(axis=-1)].astype(np.float64)
    highest = scores[len(scores) - 1 - is_drawn[..., ::-1].argmax(axis=-1)].astype(np.float64)
    margin = np.where(lowest == highest, 0.5, 0.0)  # what NumPy does with a range of nothing
    edges = np.linspace(lowest - margin, highest + margin, KL_BINS + 1, axis=-1)
    below = np.searchsorted(scores, edges)
    below[..., -1] = len(scores)  # the last bin has its upper edge
    cumulative = np.zeros((*weights.shape[:-1], len(scores) + 1))
    np.cumsum(weights, axis=-1, out=cumulative[..., 1:])
    counted = np.diff(np.take_along_axis(cumulative, below, axis=-1), axis=-1)
    return np.rint(counted).astype(np.int64)


def _median_divergence(histograms: FloatArray) -> FloatArray:
    """The median KL of all ordered pairs of groups in both classes: histograms [..., t, g, bins] -> [...]."""
    total = np.broadcast_to(histograms.sum(axis=-1, keepdims=True), histograms.shape)
    density = _ratio(histograms, total) + KL_EPSILON
    logarithm = np.log(density)
    n_groups = histograms.shape[-2]
    pairs = [
        (density[..., p, :] * (logarithm[..., p, :] - logarithm[..., q, :])).sum(axis=-1)
        for p, q in permutations(range(n_groups), 2)
    ]
    divergences = np.concatenate(pairs, axis=-1)
    if n_groups > 2:  # pairs with a set that is empty are left out
        return _median_of_present(divergences)
    median: FloatArray = np.median(divergences, axis=-1)
    return median


def _median_of_present(values: FloatArray) -> FloatArray:
    """The median over the last axis of what is not NaN; NaN where nothing is."""
    nothing = np.expand_dims(np.isnan(values).all(axis=-1), -1)
    median: FloatArray = np.nanmedian(np.where(nothing, 0.0, values), axis=-1)
    return np.where(nothing[..., 0], np.nan, median)


# --- Labels of a data set --------------------------------------------------------------------------------


def kl_joint(counts: IntArray) -> float:
    """D(p(t, g) || p(t) p(g)) of a data set, in nats, from 0 (t and g are independent) to ln 2.

    Args:
        counts: of the groups t * n_g + g, [2 n_g].

    Source: METHODS 2; it is the mutual information of the labels.
    """
    joint = counts.reshape(2, -1) / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return _divergence(joint, independent)


def kl_uniform(counts: IntArray) -> float:
    """D(p(t, g) || uniform) of a data set, in nats, from 0 (all groups have one size) to ln(2 n_g).

    Args:
        counts: of the groups t * n_g + g, [2 n_g].

    Source: METHODS 2.
    """
    joint = counts / counts.sum()
    return _divergence(joint, np.full_like(joint, 1.0 / len(joint)))


def _divergence(p: FloatArray, q: FloatArray) -> float:
    present = p > 0
    # Rounding may leave a hair below zero.
    return max(0.0, float((p[present] * np.log(p[present] / q[present])).sum()))
