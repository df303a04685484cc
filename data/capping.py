"""The cap on the synthetic images of every group."""

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import AnyIntArray, BoolArray
from pipeline.content.groups import protected_columns

# nats: a smaller difference of two KL divergences is rounding. A sum of a few terms p log p is off by 1e-16.
KL_ROUNDING = 1e-12
CAPS_AT_ONCE = 1 << 16  # caps that `largest_cap` tries at the same time, in memory


def marginal_counts(counts: AnyIntArray) -> NDArray[np.int64]:
    """Count the rows that have each attribute at 0 and at 1.

    Args:
        counts: of the groups target * 2^k + protected, of k protected attributes: [..., 2^(1 + k)].

    Returns:
        The counts of both values, the target first: [..., 1 + k, 2].
    """
    n_groups = counts.shape[-1]
    is_one = protected_columns(np.arange(n_groups), n_groups.bit_length() - 1)
    ones = counts @ is_one
    return np.stack([counts.sum(axis=-1, keepdims=True) - ones, ones], axis=-1)


def is_less_balanced(before: AnyIntArray, after: AnyIntArray) -> BoolArray:
    """Tell whether any KL divergence to uniform is larger after than before.

    The divergences are those of all groups together, of the target's marginal, and of the marginal of each
    protected attribute.

    Args:
        before: images of each group, not all 0: [2^(1 + k)].
        after: the same, of any number of cases: [..., 2^(1 + k)].

    Returns:
        One answer for each case, bool [...].
    """
    old, new = marginal_counts(before), marginal_counts(after)
    # Of two values, the KL to uniform grows with |a - b| / (a + b), which whole numbers compare exactly.
    old_gap, new_gap = (np.abs(counts[..., 0] - counts[..., 1]) for counts in (old, new))
    worse: BoolArray = (new_gap * old.sum(axis=-1) > old_gap * new.sum(axis=-1)).any(axis=-1)
    return worse | (_kl_to_uniform(after) > _kl_to_uniform(before) + KL_ROUNDING)


def _kl_to_uniform(counts: AnyIntArray) -> NDArray[np.float64]:
    """Compute D(p || uniform) in nats for the shares p that counts [..., G] make: [...]."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    terms = shares * np.log(np.where(shares > 0, shares, 1.0) * counts.shape[-1])
    divergence: NDArray[np.float64] = terms.sum(axis=-1)
    return divergence


def largest_cap(real: AnyIntArray, candidates: AnyIntArray, synthetic_per_real: float | None) -> int:
    """Find the largest cap on every group's synthetic rows that leaves the data as balanced as they were.

    Under a cap c a group with n candidates gets min(n, c) of them. The cap is the largest, up to the size of
    the largest group of candidates, under which

    - no KL divergence to uniform of real and synthetic rows together is larger than of the real rows alone
      (`is_less_balanced`), and
    - there are at most `synthetic_per_real` synthetic rows for each real one.

    The size of the smallest group of candidates always satisfies the first condition: it adds as many rows to
    every group, and a mixture with the uniform distribution is no further from it. Larger caps may satisfy it
    or not in any order (one group overshoots, and another catches up), so that they are tried one by one.

    Args:
        real: real training images of each group, not all 0: [2^(1 + k)].
        candidates: synthetic rows of each group that could be added: [2^(1 + k)].
        synthetic_per_real: None for any number.

    Returns:
        The cap; 0 if nothing can be added.
    """
    for last in range(cap_of_limit(real, candidates, synthetic_per_real), 0, -CAPS_AT_ONCE):
        caps = np.arange(last, max(last - CAPS_AT_ONCE, 0), -1)
        worse = is_less_balanced(real, real + np.minimum(candidates, caps[:, None]))
        if not worse.all():
            return int(caps[worse.argmin()])
    return 0


def cap_of_limit(real: AnyIntArray, candidates: AnyIntArray, synthetic_per_real: float | None) -> int:
    """Find the largest cap, up to the largest group of candidates, that keeps to `synthetic_per_real`."""
    largest = int(candidates.max())
    if synthetic_per_real is None:
        return largest
    limit = math.floor(synthetic_per_real * int(real.sum()) + 1e-6)  # 0.29 * 100 must give 29, not 28

    def rows_under(cap: int) -> int:
        return int(np.minimum(candidates, cap).sum())

    return bisect_right(range(largest + 1), limit, key=rows_under) - 1
