"""Counts samples, weighted, in the cells of tables: the metrics are functions of these counts.

Protected groups are given as ids [n], or as the binary columns [n, k] of k attributes: then the groups are
their intersections, g = Σ_j column_j 2^(k-1-j), the first attribute being the most significant, and
n_g = 2^k. Group = t * n_g + g.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.groups import protected_groups

BLOCK_BYTES = 2**26  # size of an array in memory: the weights of 800 resamples of 20,000 samples


def group_counts(targets: IntArray, protected: IntArray, n_protected: int | None = None) -> IntArray:
    """Count the samples of each group t * n_g + g.

    Source: METHODS 2 (Sagawa et al., 2020, for the definition of a group).

    Args:
        targets: [n] in {0, 1}.
        protected: ids [n] or binary columns [n, k], as in `protected_groups`.
        n_protected: of ids, the number of protected groups, as in `protected_groups`.

    Returns:
        Whole numbers, [2 n_g], that sum to n.
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
    """Count the samples by target, protected group and prediction.

    Args:
        targets: [n] in {0, 1}.
        protected: ids [n] or binary columns [n, k], as in `protected_groups`.
        predictions: [n] in {0, 1}.
        n_protected: of ids, the number of protected groups, as in `protected_groups`.
        weights: how often each sample counts, [..., n]; None for once.

    Returns:
        counts[..., t, g, p], float64 [..., 2, n_g, 2].
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
    """Sum values, weighted, in each cell of a table.

    Args:
        cells: the number of each value's cell in the flattened table, [n].
        shape: the table's shape.
        weights: [..., n]; None for 1.
        values: [n]; None for 1.

    Returns:
        float64 [..., *shape].
    """
    length = int(np.prod(shape))
    if weights is None:
        return np.bincount(cells, weights=values, minlength=length).astype(np.float64).reshape(shape)
    summed = np.zeros((*weights.shape[:-1], length))
    block = max(1, BLOCK_BYTES // (4 * length))
    for start in range(0, len(cells), block):
        part = slice(start, start + block)
        # float32 is exact for whole numbers up to 16 million, and its products take half the time.
        placed = np.zeros((len(cells[part]), length), dtype=np.float32)
        placed[np.arange(len(placed)), cells[part]] = 1.0 if values is None else values[part]
        summed += weights[..., part] @ placed
    return summed.reshape(*weights.shape[:-1], *shape)


def reweighted(counts: FloatArray, proportions: FloatArray) -> FloatArray:
    """Weight counts so that the groups have given proportions.

    The result is the counts, as shares, of a test set whose groups t * n_g + g are as frequent as the
    training data's. The proportions of groups without test samples are shared among the others.

    Source: Sagawa et al., 2020, for the average accuracy on Waterbirds.

    Args:
        counts: [..., 2, n_g, 2].
        proportions: of the groups t * n_g + g, [2 n_g].

    Returns:
        [..., 2, n_g, 2], with sum 1 over the last three axes.
    """
    within_group = ratio(counts, counts.sum(axis=-1, keepdims=True))
    weighted = np.nan_to_num(within_group) * proportions.reshape(counts.shape[-3:-1])[..., None]
    return ratio(weighted, weighted.sum(axis=(-3, -2, -1), keepdims=True))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide elementwise; NaN if the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: FloatArray = np.where(denominator > 0, numerator / denominator, np.nan)
    return quotient


def bins_of(scores: FloatArray, bins: int) -> IntArray:
    """Return the number, 0 to bins - 1, of each score's bin of [0, 1]; score 1 is in the last bin."""
    return np.clip((scores * bins).astype(np.int_), 0, bins - 1)
