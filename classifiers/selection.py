"""Figures that weights and thresholds are selected by: accuracies, average precision, thresholds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.counts import ratio
from pipeline.content.arrays import FloatArray, IntArray

SATURATED = 1e-7  # shares nearer to 0 or 1 are set to this distance, so that log odds are finite


HALF = 0.5  # the threshold unless another is named: scores from it on are predicted 1


CACHE_BYTES = 2**20  # size of an array that is read again and again


def log_odds(shares: FloatArray | float) -> FloatArray:
    """Compute ln(p / (1 - p)) of p in [0, 1], of any shape: clipped to ± ln(1 / `SATURATED`), 16.1."""
    p = np.clip(np.asarray(shares, dtype=np.float64), SATURATED, 1 - SATURATED)
    return np.log(p / (1 - p))


def f1_threshold(scores: FloatArray, targets: IntArray) -> float:
    """Find the threshold with the best F1.

    Source: METHODS 1 (Ramaswamy et al., 2021, choose the thresholds of their classifiers so).

    Args:
        scores: [n].
        targets: [n] in {0, 1}.

    Returns:
        One of the scores: samples with this score or more are predicted 1.
    """
    from sklearn.metrics import precision_recall_curve  # lazy: slow import

    precision, recall, thresholds = precision_recall_curve(targets, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def worst_group_threshold(scores: FloatArray, targets: IntArray, groups: IntArray) -> float:
    """Find the threshold with the best worst-group accuracy.

    Of equally good thresholds it is the nearest to 0.5: a labeller of further images should not work at the
    edge of the good range. Source: this project's own, for the figure of Sagawa et al., 2020.

    Args:
        scores: [n].
        targets: [n] in {0, 1}.
        groups: [n].

    Returns:
        The middle between two successive scores, or the lowest score: samples with this score or more are
        predicted 1.
    """
    values = np.unique(scores)
    between = (values[:-1] + values[1:]) / 2
    thresholds = np.append(values[0], np.where(between > values[:-1], between, values[1:]))
    worst = np.ones(len(thresholds))
    for group in np.unique(groups):
        members = groups == group
        positive, negative = (np.sort(scores[members & (targets == target)]) for target in (1, 0))
        correct = (
            len(positive) - np.searchsorted(positive, thresholds) + np.searchsorted(negative, thresholds)
        )
        worst = np.minimum(worst, correct / members.sum())
    best = thresholds[worst == worst.max()]
    return float(best[int(np.argmin(np.abs(best - HALF)))])


def group_accuracies(counts: FloatArray) -> FloatArray:
    """Compute the accuracy of each group t * n_g + g.

    Source: Sagawa et al., 2020.

    Args:
        counts: [..., 2, n_g, 2], see `classifiers.counts.count_table`.

    Returns:
        [..., 2 n_g], in [0, 1]; NaN for a group without samples.
    """
    correct = np.stack([counts[..., 0, :, 0], counts[..., 1, :, 1]], axis=-2)
    accuracy = ratio(correct, counts.sum(axis=-1))
    return accuracy.reshape(*accuracy.shape[:-2], -1)


def worst_group_accuracy(counts: FloatArray) -> FloatArray:
    """Compute the lowest accuracy of groups with samples: [...] in [0, 1]. Source: Sagawa et al., 2020."""
    worst: FloatArray = np.fmin.reduce(group_accuracies(counts), axis=-1)  # fmin ignores NaN
    return worst


def accuracy(counts: FloatArray) -> FloatArray:
    """Compute the share of correct predictions: [...] in [0, 1]. Source: Sagawa et al., 2020."""
    correct = counts[..., 0, :, 0].sum(axis=-1) + counts[..., 1, :, 1].sum(axis=-1)
    return ratio(correct, counts.sum(axis=(-3, -2, -1)))


def average_precision(
    scores: FloatArray, targets: IntArray, weights: NDArray[Any] | None = None
) -> FloatArray:
    """Compute AP = Σ (R_k - R_{k-1}) P_k over the distinct scores.

    Source: as scikit-learn's `average_precision_score`, which computed the published values.

    Args:
        scores: [n].
        targets: [n] in {0, 1}.
        weights: how often each sample counts, [..., n]; None for once.

    Returns:
        [...], in [0, 1]; NaN without positives.
    """
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(-scores, kind="stable")
    # Samples with equal scores are predicted together: each run of them is one point of the curve.
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    rows = weights.reshape(-1, len(scores))
    block = max(1, CACHE_BYTES // (8 * len(scores)))
    values = [
        _average_precision(rows[start : start + block][:, order], targets[order], starts)
        for start in range(0, len(rows), block)
    ]
    return np.concatenate(values).reshape(weights.shape[:-1])


def _average_precision(weights: NDArray[Any], targets: IntArray, starts: IntArray) -> FloatArray:
    """Compute AP of samples in falling order of their scores.

    Args:
        weights: how often each sample counts, [r, n].
        targets: [n] in {0, 1}.
        starts: where each run of equal scores begins.

    Returns:
        [r].
    """
    gained, drawn = weights * targets.astype(np.float64), weights.astype(np.float64)
    if len(starts) < len(targets):
        gained, drawn = np.add.reduceat(gained, starts, axis=1), np.add.reduceat(drawn, starts, axis=1)
    positives, predicted = np.cumsum(gained, axis=1), np.cumsum(drawn, axis=1)
    # `predicted` is 0 only where `positives` is 0: their precision is then 0.
    precision = positives / np.maximum(predicted, np.finfo(np.float64).tiny)
    return ratio(np.einsum("rk,rk->r", gained, precision), positives[:, -1])
