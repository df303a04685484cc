"""Groups of samples: a target combined with the values of the protected attributes."""

from collections.abc import Sequence

import numpy as np

from pipeline.content.arrays import AnyIntArray, IntArray


def protected_groups(protected: AnyIntArray, n_protected: int | None = None) -> tuple[IntArray, int]:
    """Number the protected group of each sample.

    Args:
        protected: ids [n], or the binary columns [n, k] of k attributes, whose intersections are the
            groups: the columns are the digits of a binary number, the first attribute the highest.
        n_protected: how many groups the ids [n] have; None for two.

    Returns:
        The groups, int64 [n] in 0 ... n_g - 1; and n_g.

    Raises:
        ValueError: an id or a column has a value out of its range.
    """
    values = 2 if protected.ndim == 2 else n_protected or 2
    if protected.size and not 0 <= protected.min() <= protected.max() < values:
        raise ValueError(f"protected: {protected.min()} to {protected.max()}, not all in 0 to {values - 1}")
    if protected.ndim == 1:
        return protected.astype(np.int64, copy=False), values
    columns = protected.shape[1]
    return (protected @ (1 << np.arange(columns)[::-1])).astype(np.int64, copy=False), 2**columns


def protected_columns(groups: AnyIntArray, n_attributes: int) -> IntArray:
    """Return the binary columns [n, k] of protected groups [n]: the inverse of `protected_groups`."""
    return (groups[:, None].astype(np.int64) >> np.arange(n_attributes)[::-1]) & 1


def group_names(target: str, protected: Sequence[str]) -> list[str]:
    """Name each group t * n_g + g, such as "Blond_Hair=1, Male=0, Eyeglasses=1": [2 n_g]."""
    names = []
    for values in np.ndindex(*(2,) * (1 + len(protected))):
        pairs = zip((target, *protected), values, strict=True)
        names.append(", ".join(f"{name}={value}" for name, value in pairs))
    return names
