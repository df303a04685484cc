"""How often what is said of images is true: pure functions of columns in {0, 1}.

What trains a judge tells its accuracy with these; `classifiers.measures.judging` has what judges then find. A
share of an empty group is None, which JSON writes as null.
"""

from typing import Any

import numpy as np

from pipeline.content.arrays import BoolArray, IntArray

Shares = list[float | None]


def shares_by_group(events: BoolArray, groups: IntArray, n_groups: int) -> Shares:
    """In what share of each group's samples [n] the event happened: n_groups of them."""
    n = np.bincount(groups, minlength=n_groups)
    happened = np.bincount(groups, weights=events, minlength=n_groups)
    return [float(h / m) if m else None for h, m in zip(happened, n, strict=True)]


def agreement(truth: IntArray, said: IntArray, groups: IntArray, n_groups: int) -> dict[str, Any]:
    """How often what is said of an attribute is true: truth, said [n] in {0, 1}, and the true groups [n].

    Gives accuracy; balanced_accuracy, (TPR + TNR) / 2, None where only one value is true;
    worst_group_accuracy, of the groups that there are; group_accuracies and group_n, n_groups each.
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
