"""Compares what an independent judge sees on synthetic images with the labels or changes they should have.

Pure functions of binary columns [n, 1 + k]: the target, then the k protected attributes. A row spells its
group t * n_g + a (`pipeline.content.groups`) as a binary number; there are G = 2^(1 + k) groups. A share of
an empty group is None, which JSON writes as null. A judge errs too: report its accuracy on real images beside
these figures.
"""

from typing import Any

import numpy as np

from classifiers.agreement import shares_by_group
from pipeline.content.arrays import BoolArray, IntArray
from pipeline.content.groups import protected_groups


def judged_label_noise(given: IntArray, judged: IntArray, attributes: list[str]) -> dict[str, Any]:
    """Measure how wrong given labels are, by the judge's labels.

    Args:
        given: the given labels, [n, 1 + k].
        judged: the judge's labels, [n, 1 + k].
        attributes: the names of the columns.

    Returns:
        images; group_n (by given group); confusion (given groups by judged ones, [G][G] counts); noise (by
        attribute, the share of each given group whose label of it is wrong); group_noise (the share of each
        given group that belongs to another); group_noise_average (the same share of all images).
    """
    (groups, n_groups), (true_groups, _) = protected_groups(given), protected_groups(judged)
    wrong = groups != true_groups
    counts = np.bincount(groups * n_groups + true_groups, minlength=n_groups**2)
    return {
        "images": len(given),
        "group_n": np.bincount(groups, minlength=n_groups).tolist(),
        "confusion": counts.reshape(n_groups, n_groups).tolist(),
        "noise": {
            name: shares_by_group(given[:, j] != judged[:, j], groups, n_groups)
            for j, name in enumerate(attributes)
        },
        "group_noise": shares_by_group(wrong, groups, n_groups),
        "group_noise_average": float(wrong.mean()) if len(wrong) else None,
    }


def flip_rates(before: IntArray, after: IntArray, asked: BoolArray, attributes: list[str]) -> dict[str, Any]:
    """Measure which attributes changed in complements that were to flip the same attributes.

    Args:
        before: the judge's labels of the originals, [n, 1 + k].
        after: the judge's labels of their complements, [n, 1 + k].
        asked: which attributes were to flip, [1 + k]; the others were to be kept.
        attributes: the names of the columns.

    Returns:
        pairs; changed (by attribute, the share of pairs whose value differs: the flip rate of attributes that
        were to flip, 1 - the keep rate of the others); as_asked (the share that changed exactly the
        attributes asked for); and the same by the group of `before`: group_n, group_changed, group_as_asked.
    """
    groups, n_groups = protected_groups(before)
    changed = before != after
    as_asked = (changed == asked).all(axis=1)
    return {
        "pairs": len(before),
        "changed": {name: float(changed[:, j].mean()) for j, name in enumerate(attributes)},
        "as_asked": float(as_asked.mean()),
        "group_n": np.bincount(groups, minlength=n_groups).tolist(),
        "group_changed": {
            name: shares_by_group(changed[:, j], groups, n_groups) for j, name in enumerate(attributes)
        },
        "group_as_asked": shares_by_group(as_asked, groups, n_groups),
    }
