"""Kullback-Leibler divergences, in nats: between the scores of protected groups, and of a data set's labels.

Weights and protected groups are given as in `classifiers.counts`.
"""

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.counts import bins_of, ratio, weighted_sums
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.groups import protected_groups

KL_BINS = 50
KL_EPSILON = 1e-6

# --- Of scores -------------------------------------------------------------------------------------------


def kl_scores(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    weights: NDArray[Any] | None = None,
    n_protected: int | None = None,
) -> FloatArray:
    """Compute the KL divergence between the score distributions of the protected groups.

    Histograms of 50 bins over [0, 1] within each true class, Gaussian smoothing σ = 1, normalised,
    + 1e-6; both directions and both classes, the median (METHODS 2).

    Args:
        scores: [n] in [0, 1].
        targets: [n] in {0, 1}.
        protected: ids [n] or binary columns [n, k], as in `protected_groups`. With more than two groups, the
            divergences of all pairs are pooled.
        weights: how often each sample counts, [..., n]; None for once.
        n_protected: of ids, the number of protected groups, as in `protected_groups`.

    Returns:
        [...], in nats, from 0 to 13.8. NaN if one of two groups has no samples of a class.
    """
    from scipy.ndimage import gaussian_filter1d

    groups, n_groups = protected_groups(protected, n_protected)
    cells = (targets * n_groups + groups) * KL_BINS + bins_of(scores, KL_BINS)
    histograms = weighted_sums(cells, (2, n_groups, KL_BINS), weights)
    return _median_divergence(gaussian_filter1d(histograms, sigma=1.0, axis=-1))


def kl_scores_published(
    scores: FloatArray,
    targets: IntArray,
    protected: IntArray,
    weights: NDArray[Any] | None = None,
    n_protected: int | None = None,
) -> FloatArray:
    """Compute the KL divergence as in the published tables, to compare with them alone.

    It differs from `kl_scores` in two ways (METHODS 2). Each histogram spans the range of its own set, so
    that distributions that differ only in location and scale count as equal. And whole counts are smoothed to
    whole counts, rounded down, so that a bin with few samples vanishes, and a set in which all bins have few
    is NaN.

    Source: Ramaswamy et al., 2021. Their ± pools the resamples of all four divergences; a bootstrap of this
    function is of their median.

    Args:
        scores: [n].
        targets: [n] in {0, 1}.
        protected: ids [n] or binary columns [n, k], as in `protected_groups`. With more than two groups, the
            divergences of all pairs are pooled.
        weights: how often each sample counts, whole numbers, [..., n]; None for once.
        n_protected: of ids, the number of protected groups, as in `protected_groups`.

    Returns:
        [...], in nats, from 0 to 13.8.
    """
    from scipy.ndimage import gaussian_filter1d

    groups, n_groups = protected_groups(protected, n_protected)
    if weights is None:
        weights = np.ones(len(scores))
    order = np.argsort(scores, kind="stable")
    cells = (targets * n_groups + groups)[order]
    sets = [order[cells == cell] for cell in range(2 * n_groups)]
    histograms = np.stack([_own_range_histogram(scores[s], weights[..., s]) for s in sets], axis=-2)
    smooth = gaussian_filter1d(histograms, sigma=1.0, axis=-1)  # whole numbers stay whole numbers
    return _median_divergence(smooth.reshape(*weights.shape[:-1], 2, n_groups, KL_BINS).astype(np.float64))


def _own_range_histogram(scores: FloatArray, weights: NDArray[Any]) -> IntArray:
    """Compute numpy.histogram of one set for each row of weights, over the range of the samples drawn.

    Args:
        scores: in ascending order, [m].
        weights: how often each counts, [..., m].

    Returns:
        Counts, [..., KL_BINS].
    """
    if not len(scores):
        return np.zeros((*weights.shape[:-1], KL_BINS), dtype=np.int64)
    is_drawn = weights > 0
    lowest = scores[is_drawn.argmax(axis=-1)].astype(np.float64)
    highest = scores[len(scores) - 1 - is_drawn[..., ::-1].argmax(axis=-1)].astype(np.float64)
    margin = np.where(lowest == highest, 0.5, 0.0)  # as NumPy does with an empty range
    edges = np.linspace(lowest - margin, highest + margin, KL_BINS + 1, axis=-1)
    below = np.searchsorted(scores, edges)
    below[..., -1] = len(scores)  # the last bin has its upper edge
    cumulative = np.zeros((*weights.shape[:-1], len(scores) + 1))
    np.cumsum(weights, axis=-1, out=cumulative[..., 1:])
    counted = np.diff(np.take_along_axis(cumulative, below, axis=-1), axis=-1)
    return np.rint(counted).astype(np.int64)


def _median_divergence(histograms: FloatArray) -> FloatArray:
    """Compute the median KL of all ordered pairs of groups in both classes: [..., t, g, bins] -> [...]."""
    total = np.broadcast_to(histograms.sum(axis=-1, keepdims=True), histograms.shape)
    density = ratio(histograms, total) + KL_EPSILON
    logarithm = np.log(density)
    n_groups = histograms.shape[-2]
    pairs = [
        (density[..., p, :] * (logarithm[..., p, :] - logarithm[..., q, :])).sum(axis=-1)
        for p, q in permutations(range(n_groups), 2)
    ]
    divergences = np.concatenate(pairs, axis=-1)
    if n_groups > 2:  # pairs with an empty set are left out
        return _median_of_present(divergences)
    median: FloatArray = np.median(divergences, axis=-1)
    return median


def _median_of_present(values: FloatArray) -> FloatArray:
    """Return the median over the last axis of the values that are not NaN; NaN if all are."""
    nothing = np.expand_dims(np.isnan(values).all(axis=-1), -1)
    median: FloatArray = np.nanmedian(np.where(nothing, 0.0, values), axis=-1)
    return np.where(nothing[..., 0], np.nan, median)


# --- Of the labels of a data set -------------------------------------------------------------------------


def kl_joint(counts: IntArray) -> float:
    """Compute D(p(t, g) || p(t) p(g)) of a data set, the mutual information of its labels.

    Source: METHODS 2.

    Args:
        counts: of the groups t * n_g + g, [2 n_g].

    Returns:
        In nats, from 0 (t and g are independent) to ln 2.
    """
    joint = counts.reshape(2, -1) / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return _divergence(joint, independent)


def kl_uniform(counts: IntArray) -> float:
    """Compute D(p(t, g) || uniform) of a data set.

    Source: METHODS 2.

    Args:
        counts: of the groups t * n_g + g, [2 n_g].

    Returns:
        In nats, from 0 (all groups have one size) to ln(2 n_g).
    """
    joint = counts / counts.sum()
    return _divergence(joint, np.full_like(joint, 1.0 / len(joint)))


def _divergence(p: FloatArray, q: FloatArray) -> float:
    present = p > 0
    # Rounding may give a value just below zero.
    return max(0.0, float((p[present] * np.log(p[present] / q[present])).sum()))
