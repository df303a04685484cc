"""Counts of samples in the cells of a table, weighted: what the metrics are functions of.

Protected groups are given as ids [n], or as the binary columns [n, k] of k attributes: then the groups are
their intersections, g = Σ_j column_j 2^(k-1-j), the first attribute being the most significant, and
n_g = 2^k. Group = t * n_g + g.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.groups import protected_groups

BLOCK_BYTES = 2**26  # of an array in memory: the weights of 800 resamples of 20,000 samples


def group_counts(targets: IntArray, protected: IntArray, n_protected: int | None = None) -> IntArray:
    """How many samples each group t * n_g + g has: whole numbers, [2 n_g], that sum to n.

    Source: METHODS 2 (Sagawa et al., 2020, for what a group is).

    Args:
        targets: in {0, 1}, [n].
        protected, n_protected: as in `protected_groups`.
    """
    groups, n_groups = protected_groups(protected, n_protected)
    return np.bincount(targets * n_groups + groups, minlength=2 * n_groups)


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
    return weighted_sums(cells, (2, n_groups, 2), weights)


def weighted_sums(
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


def reweighted(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """The counts, weighted so that the groups have these proportions: [..., 2, n_g, 2].

    What the counts would be, as shares, if the test set's groups t * n_g + g were as frequent as the training
    data's. The proportions of groups without test samples are shared among the others.

    Args:
        counts: [..., 2, n_g, 2].
        proportions: [2 n_g].

    Source: Sagawa et al., 2020, for the average accuracy on Waterbirds.
    """
    within_group = ratio(counts, counts.sum(axis=-1, keepdims=True))
    weighted = np.nan_to_num(within_group) * proportions.reshape(counts.shape[-3:-1])[..., None]
    return ratio(weighted, weighted.sum(axis=(-3, -2, -1), keepdims=True))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotients; NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: FloatArray = np.where(denominator > 0, numerator / denominator, np.nan)
    return quotient


def bins_of(scores: FloatArray, bins: int) -> IntArray:
    """The bin of [0, 1] that each score is in; 1 is in the last."""
    return np.clip((scores * bins).astype(np.int_), 0, bins - 1)
