"""Counts samples whose predictions are random: expected counts, which need no random number.

It stands apart from `classifiers.counts`, which trainings depend on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.counts import weighted_sums
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.groups import protected_groups


def expected_count_table(
    targets: IntArray,
    protected: IntArray,
    positive_rates: FloatArray,
    n_protected: int | None = None,
    weights: NDArray[Any] | None = None,
) -> FloatArray:
    """Count the samples by target, protected group and prediction, where predictions are random.

    The counts are expected ones: a sample with P(ŷ=1) = 0.3 counts 0.3 as predicted 1 and 0.7 as predicted 0.

    Args:
        targets: [n] in {0, 1}.
        protected: ids [n] or binary columns [n, k], as in `protected_groups`.
        positive_rates: P(ŷ=1), [n] in [0, 1].
        n_protected: of ids, the number of protected groups, as in `protected_groups`.
        weights: how often each sample counts, [..., n]; None for once.

    Returns:
        counts[..., t, g, p], float64 [..., 2, n_g, 2].
    """
    groups, n_groups = protected_groups(protected, n_protected)
    cells, shape = targets * n_groups + groups, (2, n_groups)
    positive = weighted_sums(cells, shape, weights, positive_rates)
    # The sizes of the groups are exact: a sum of two rounded counts would not be.
    return np.stack([weighted_sums(cells, shape, weights) - positive, positive], axis=-1)
