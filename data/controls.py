"""Control data sets: they show how much of an augmentation's gain is there without any complement.

`duplicated` repeats the real images of the smaller groups; `sampled` fills the augmented set's synthetic
quota from plain G(z). The functions are pure, and in a module of their own, so that a training on real images
alone depends on nothing else of the balancing.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import AnyIntArray
from pipeline.content.seeds import generator_for


def duplicated_rows(groups: AnyIntArray, n_groups: int, seed: int) -> NDArray[np.int64]:
    """Choose the rows of the control `duplicated`: every group as often as the largest.

    All images of a group are repeated equally often, as far as whole repetitions go; the remainder is drawn
    without replacement. A group without images stays empty.

    Args:
        groups: of the real training images, in 0 ... n_groups - 1: [n].
        n_groups: how many groups there are.
        seed: of the draw.

    Returns:
        The rows, in ascending order: [m].
    """
    counts = np.bincount(groups, minlength=n_groups)
    return _repeated_rows(groups, np.full(n_groups, counts.max()), generator_for(seed, "duplicated"))


def sampled_rows(groups: AnyIntArray, quota: AnyIntArray, seed: int) -> NDArray[np.int64]:
    """Choose the rows of the control `sampled`: each group as often as its quota.

    The images drawn are distinct. A group with fewer images than its quota repeats them evenly: no image
    occurs more than once more often than another. A group without images stays empty.

    Args:
        groups: of the images G(z) by the classifiers' labels: [n].
        quota: how many rows each group should have: [n_groups].
        seed: of the draw.

    Returns:
        The rows, in ascending order: [quota.sum()], or fewer if a group is empty.
    """
    return _repeated_rows(groups, quota, generator_for(seed, "sampled"))


def _repeated_rows(
    groups: AnyIntArray, wanted: AnyIntArray, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Choose wanted[g] rows of each group g: whole copies of the group, then a random remainder."""
    chosen = [np.empty(0, dtype=np.int64)]
    for group, count in enumerate(wanted):
        members = np.flatnonzero(groups == group)
        if len(members):
            copies, remainder = divmod(int(count), len(members))
            chosen += [np.tile(members, copies), generator.permutation(members)[:remainder]]
    return np.sort(np.concatenate(chosen))
