"""Control data sets: how much of an augmentation's gain is there without any complement.

`duplicated` repeats the real images of the smaller groups; `sampled` fills the augmented set's synthetic
quota from plain G(z). Pure functions of group numbers, in a module of their own: what trains on real images
alone depends on nothing else of the balancing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.content.seeds import generator_for

IntArray = NDArray[np.integer[Any]]


def duplicated_rows(groups: IntArray, n_groups: int, seed: int) -> NDArray[np.int64]:
    """The rows of the control `duplicated`: every group as often as the largest, in ascending order: [m].

    Args:
        groups: of the real training images, in 0 ... n_groups - 1: [n].

    A group is repeated as a whole as often as that goes, and what then is missing is drawn from `seed`
    without replacement. A group without images stays empty.
    """
    counts = np.bincount(groups, minlength=n_groups)
    return _repeated_rows(groups, np.full(n_groups, counts.max()), generator_for(seed, "duplicated"))


def sampled_rows(groups: IntArray, quota: IntArray, seed: int) -> NDArray[np.int64]:
    """The rows of the control `sampled`, each group as often as its quota, in ascending order: [quota.sum()].

    Args:
        groups: of the images G(z) by the classifiers' labels: [n].
        quota: how many rows each group is to have: [n_groups].

    Distinct images, drawn from `seed`; a group with fewer images than its quota repeats them evenly: no image
    stands there more than once more often than another. A group without images stays empty.
    """
    return _repeated_rows(groups, quota, generator_for(seed, "sampled"))


def _repeated_rows(groups: IntArray, wanted: IntArray, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rows of which wanted[g] are of group g: whole copies of the group, then a random remainder."""
    chosen = [np.empty(0, dtype=np.int64)]
    for group, count in enumerate(wanted):
        members = np.flatnonzero(groups == group)
        if len(members):
            copies, remainder = divmod(int(count), len(members))
            chosen += [np.tile(members, copies), generator.permutation(members)[:remainder]]
    return np.sort(np.concatenate(chosen))
