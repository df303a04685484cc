"""Groups: a target and every combination of the protected attributes' values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]


def protected_groups(protected: IntArray, n_protected: int | None = None) -> tuple[NDArray[np.int64], int]:
    """The protected group of each sample [n], in 0 ... n_g - 1, and n_g.

    Args:
        protected: ids [n], or the binary columns [n, k] of k attributes, whose intersections are the
            groups: the columns are the digits of a binary number, the first attribute the highest.
        n_protected: of ids [n], how many groups there are; None for two.
    """
    values = 2 if protected.ndim == 2 else n_protected or 2
    if protected.size and not 0 <= protected.min() <= protected.max() < values:
        raise ValueError(f"protected: {protected.min()} to {protected.max()}, not all in 0 to {values - 1}")
    if protected.ndim == 1:
        return protected.astype(np.int64, copy=False), values
    columns = protected.shape[1]
    return (protected @ (1 << np.arange(columns)[::-1])).astype(np.int64, copy=False), 2**columns


def protected_columns(groups: IntArray, n_attributes: int) -> NDArray[np.int64]:
    """The binary columns [n, k] of protected groups [n]: the inverse of `protected_groups`."""
    return (groups[:, None].astype(np.int64) >> np.arange(n_attributes)[::-1]) & 1


def group_names(target: str, protected: Sequence[str]) -> list[str]:
    """What each group t * n_g + g is: "Blond_Hair=1, Male=0, Eyeglasses=1"; [2 n_g]."""
    names = []
    for values in np.ndindex(*(2,) * (1 + len(protected))):
        pairs = zip((target, *protected), values, strict=True)
        names.append(", ".join(f"{name}={value}" for name, value in pairs))
    return names
