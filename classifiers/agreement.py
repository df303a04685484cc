"""Computes how often labels that a classifier gives are true: pure functions of columns in {0, 1}.

A stage that trains a judge reports its accuracy with these; `classifiers.measures.judging` has the figures
that judges then find. A share of an empty group is None, which JSON writes as null.
"""

from typing import Any

import numpy as np

from pipeline.content.arrays import BoolArray, IntArray

Shares = list[float | None]


def shares_by_group(events: BoolArray, groups: IntArray, n_groups: int) -> Shares:
    """Average a boolean over each group: events, groups [n] -> [n_groups]; None for an empty group."""
    n = np.bincount(groups, minlength=n_groups)
    happened = np.bincount(groups, weights=events, minlength=n_groups)
    return [float(h / m) if m else None for h, m in zip(happened, n, strict=True)]


def agreement(truth: IntArray, said: IntArray, groups: IntArray, n_groups: int) -> dict[str, Any]:
    """Compare given labels of an attribute with the true ones.

    Args:
        truth: the true labels, [n] in {0, 1}.
        said: the given labels, [n] in {0, 1}.
        groups: the true groups, [n].
        n_groups: how many groups there are.

    Returns:
        accuracy; balanced_accuracy, (TPR + TNR) / 2, None if only one label occurs in `truth`;
        worst_group_accuracy, of the groups that are not empty; group_accuracies and group_n, [n_groups] each.
    """
    right = said == truth
    by_class = [share for share in shares_by_group(right, truth, 2) if share is not None]
    by_group = shares_by_group(right, groups, n_groups)
    return {
        "accuracy": float(right.mean()) if len(right) else None,
        "balanced_accuracy": sum(by_class) / 2 if len(by_class) == 2 else None,
        "worst_group_accuracy": min((share for share in by_group if share is not None), default=None),
        "group_accuracies": by_group,
        "group_n": np.bincount(groups, minlength=n_groups).tolist(),
    }
