"""Summaries of training sets: how many images, in which groups, how far from balance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.measures.divergences import kl_joint, kl_uniform
from data.balancing import counts_of
from data.capping import marginal_counts


def by_group(counts: NDArray[np.integer[Any]]) -> dict[str, int]:
    """Return counts [n_groups] by the groups' keys."""
    return {f"group_{group}": int(count) for group, count in enumerate(counts)}


def summary_of(rows: pd.DataFrame, protected: Sequence[str]) -> dict[str, Any]:
    """Compute the size, the group counts, and the KL divergences (nats) of a training set.

    Args:
        rows: target, and protected: the number of the protected group.
        protected: the names of the protected attributes.

    Returns:
        the content of `stages.shared.datasheet.Summary`: of the groups, kl_joint (from independence) and
        kl_uniform (from groups of equal size); of each attribute's two values, kl_target and kl_protected
        (attribute -> KL), the divergence from half and half.
    """
    counts = counts_of(rows, 2 ** len(protected))
    of_target, *of_protected = (kl_uniform(values) for values in marginal_counts(counts))
    return {
        "images": len(rows),
        "group_counts": by_group(counts),
        "kl_joint": kl_joint(counts),
        "kl_uniform": kl_uniform(counts),
        "kl_target": of_target,
        "kl_protected": dict(zip(protected, of_protected, strict=True)),
    }
