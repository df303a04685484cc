"""Metrics of a binary classifier over groups, and of a data set's labels.

Nearly all are functions of one table, ``counts[..., t, g, p]``: how many test samples have target t,
protected group g and prediction p. The leading axes are free: bootstrap resamples, for instance, so
that 500 of them take one matrix product. Rates of an empty group are NaN, never 0/0 in silence.
Group = t * n_g + g. Sources: METHODS 2 (Ramaswamy et al., 2021; Sagawa et al., 2020).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int_]

HALF = 0.5  # the score from which on 1 is predicted, wherever no other threshold is named
KL_BINS = 50
KL_EPSILON = 1e-6


def f1_threshold(scores: FloatArray, targets: IntArray) -> float:
    """The score from which on to predict 1 for the best F1: scores, targets [n]."""
    from sklearn.metrics import precision_recall_curve  # a second to import, and most stages do without

    precision, recall, thresholds = precision_recall_curve(targets, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def count_matching_threshold(scores: FloatArray, targets: IntArray) -> float:
    """The score from which on as many samples are predicted 1 as there are true ones (METHODS 2)."""
    positives = int(targets.sum())
    if positives == 0:
        return float(np.nextafter(scores.max(), np.inf))
    return float(np.sort(scores)[-positives])


def bootstrap_weights(n: int, resamples: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """How often each of n samples is drawn in each resample with replacement: [resamples, n]."""
    draws = generator.integers(n, size=(resamples, n))
    rows = np.arange(resamples)[:, None] * n
    counted = np.bincount((draws + rows).ravel(), minlength=resamples * n)
    return counted.reshape(resamples, n).astype(np.float32)


def count_table(
    targets: IntArray,
    protected: IntArray,
    predictions: IntArray,
    n_protected: int = 2,
    weights: NDArray[Any] | None = None,
) -> FloatArray:
    """counts[..., t, g, p] of targets, protected groups and predictions [n]: [..., 2, n_protected, 2].

    Args:
        weights: how often each sample counts, [..., n]; None for once.
    """
    cells = (targets * n_protected + protected) * 2 + predictions
    return _weighted_bincount(cells, 4 * n_protected, weights, (2, n_protected, 2))


def _weighted_bincount(
    cells: IntArray, length: int, weights: NDArray[Any] | None, shape: tuple[int, ...]
) -> FloatArray:
    if weights is None:
        weights = np.ones(len(cells), dtype=np.float32)
    one_hot = np.zeros((len(cells), length), dtype=np.float32)
    one_hot[np.arange(len(cells)), cells] = 1.0
    counted = (weights @ one_hot).astype(np.float64)
    return counted.reshape(*weights.shape[:-1], *shape)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: FloatArray = np.where(denominator > 0, numerator / denominator, np.nan)
    return quotient


def group_accuracies(counts: FloatArray) -> FloatArray:
    """The accuracy of each group t * n_g + g: [..., 2 n_g]; NaN for a group without samples."""
    correct = np.stack([counts[..., 0, :, 0], counts[..., 1, :, 1]], axis=-2)
    accuracy = _ratio(correct, counts.sum(axis=-1))
    return accuracy.reshape(*accuracy.shape[:-2], -1)


def worst_group_accuracy(counts: FloatArray) -> FloatArray:
    """The lowest accuracy of the groups that have samples: [...]."""
    worst: FloatArray = np.nanmin(group_accuracies(counts), axis=-1)
    return worst


def accuracy(counts: FloatArray) -> FloatArray:
    """The share of correct predictions: [...]."""
    correct = counts[..., 0, :, 0].sum(axis=-1) + counts[..., 1, :, 1].sum(axis=-1)
    return _ratio(correct, counts.sum(axis=(-3, -2, -1)))


def reweighted_accuracy(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """The group accuracies averaged by the training data's group proportions [2 n_g] (Sagawa et al.)."""
    accuracies = group_accuracies(counts)
    present = np.where(np.isnan(accuracies), 0.0, proportions)
    return _ratio((np.nan_to_num(accuracies) * present).sum(axis=-1), present.sum(axis=-1))


def balanced_accuracy(counts: FloatArray) -> FloatArray:
    """(TPR + TNR) / 2: [...]."""
    by_class = counts.sum(axis=-2)
    return (_ratio(by_class[..., 1, 1], by_class[..., 1, :].sum(axis=-1))
            + _ratio(by_class[..., 0, 0], by_class[..., 0, :].sum(axis=-1))) / 2  # fmt: skip


def positive_rates(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Per protected group [..., n_g]: P(ŷ=1 | g), the true and the false positive rate."""
    sizes, positive = counts.sum(axis=-1), counts[..., 1]
    return (
        _ratio(positive.sum(axis=-2), sizes.sum(axis=-2)),
        _ratio(positive[..., 1, :], sizes[..., 1, :]),
        _ratio(positive[..., 0, :], sizes[..., 0, :]),
    )


def difference_in_equality_of_opportunity(counts: FloatArray) -> FloatArray:
    """DEO = |FNR(g=0) - FNR(g=1)|: [...]."""
    _, true_positive_rate, _ = positive_rates(counts)
    difference: FloatArray = np.abs(true_positive_rate[..., 0] - true_positive_rate[..., 1])
    return difference


def bias_amplification(counts: FloatArray) -> FloatArray:
    """BA, directional, attribute to task (Wang and Russakovsky, 2021): [...].

    The mean over (t, g) of sign(P(t|g) - P(t)) (P(t̂|g) - P(t|g)), with the true g. Above 0, the
    predictions are more correlated with the protected attribute than the labels are.
    """
    total = counts.sum(axis=(-3, -2, -1))[..., None, None]
    true = counts.sum(axis=-1)  # [..., t, g]
    predicted = np.swapaxes(counts.sum(axis=-3), -1, -2)  # [..., p, g]
    in_group = true.sum(axis=-2, keepdims=True)
    share = _ratio(true, np.broadcast_to(in_group, true.shape))
    overall = true.sum(axis=-1, keepdims=True) / total
    change = _ratio(predicted, np.broadcast_to(in_group, true.shape)) - share
    amplification: FloatArray = (np.sign(share - overall) * change).mean(axis=(-2, -1))
    return amplification


def statistical_parity_difference(counts: FloatArray) -> FloatArray:
    """SPD = P(ŷ=1|g=0) - P(ŷ=1|g=1): [...]."""
    rate, _, _ = positive_rates(counts)
    return rate[..., 0] - rate[..., 1]


def equal_opportunity_difference(counts: FloatArray) -> FloatArray:
    """EOD = TPR(g=0) - TPR(g=1): [...]."""
    _, true_positive_rate, _ = positive_rates(counts)
    return true_positive_rate[..., 0] - true_positive_rate[..., 1]


def average_odds_difference(counts: FloatArray) -> FloatArray:
    """AOD = ((FPR0 - FPR1) + (TPR0 - TPR1)) / 2: [...]."""
    _, tpr, fpr = positive_rates(counts)
    return ((fpr[..., 0] - fpr[..., 1]) + (tpr[..., 0] - tpr[..., 1])) / 2


def average_precision(
    scores: FloatArray, targets: IntArray, weights: NDArray[Any] | None = None
) -> FloatArray:
    """AP = Σ (R_k - R_{k-1}) P_k over the distinct scores: [...].

    Args:
        scores, targets: [n].
        weights: how often each sample counts, [..., n].
    """
    if weights is None:
        weights = np.ones(len(scores), dtype=np.float32)
    order = np.argsort(-scores, kind="stable")
    weighted = np.take(weights, order, axis=-1).astype(np.float64)
    positives = np.cumsum(weighted * targets[order], axis=-1)
    predicted = np.cumsum(weighted, axis=-1)
    # Equal scores are predicted together: only the last of each run is a point of the curve.
    last = np.append(np.diff(scores[order]) != 0, True)
    positives, predicted = positives[..., last], predicted[..., last]
    gained = np.diff(positives, axis=-1, prepend=0.0)
    precision = np.nan_to_num(_ratio(positives, predicted))
    return _ratio((gained * precision).sum(axis=-1), positives[..., -1])


def kl_scores(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    weights: NDArray[Any] | None = None,
) -> FloatArray:
    """KL between the score distributions of the two protected groups: [...], in nats.

    Histograms of 50 bins over [0, 1] within each true class, Gaussian smoothing σ = 1, normalised,
    + 1e-6; both directions and both classes, the median (METHODS 2). NaN where a group has no samples
    of a class.

    Args:
        scores: in [0, 1], [n]; targets, protected: in {0, 1}, [n].
        weights: how often each sample counts, [..., n].
    """
    from scipy.ndimage import gaussian_filter1d

    bins = np.clip((scores * KL_BINS).astype(int), 0, KL_BINS - 1)
    cells = (targets * 2 + protected) * KL_BINS + bins
    histograms = _weighted_bincount(cells, 4 * KL_BINS, weights, (2, 2, KL_BINS))
    smooth = gaussian_filter1d(histograms, sigma=1.0, axis=-1)
    total = smooth.sum(axis=-1, keepdims=True)
    density = _ratio(smooth, np.broadcast_to(total, smooth.shape)) + KL_EPSILON
    first, second = density[..., 0, :], density[..., 1, :]
    forward = (first * np.log(first / second)).sum(axis=-1)
    backward = (second * np.log(second / first)).sum(axis=-1)
    median: FloatArray = np.median(np.concatenate([forward, backward], axis=-1), axis=-1)
    return median


def group_counts(targets: IntArray, protected: IntArray, n_protected: int = 2) -> IntArray:
    """How many samples each group t * n_g + g has: [2 n_protected]."""
    return np.bincount(targets * n_protected + protected, minlength=2 * n_protected)


def kl_joint(counts: IntArray) -> float:
    """D(p(t, g) || p(t) p(g)) of a data set, in nats: 0 where target and protected are independent.

    Args:
        counts: of the groups t * n_g + g, [2 n_g].
    """
    joint = counts.reshape(2, -1) / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return _divergence(joint, independent)


def kl_uniform(counts: IntArray) -> float:
    """D(p(t, g) || uniform) of a data set, in nats: 0 where all groups have the same size."""
    joint = counts / counts.sum()
    return _divergence(joint, np.full_like(joint, 1.0 / len(joint)))


def _divergence(p: FloatArray, q: FloatArray) -> float:
    present = p > 0
    # Rounding may leave a hair below zero.
    return max(0.0, float((p[present] * np.log(p[present] / q[present])).sum()))
