"""Halves validation: images that something is fitted on cannot measure it."""

import numpy as np

from classifiers.networks.images import LabelledImages
from pipeline.content.seeds import generator_for


def validation_halves(validation: LabelledImages, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Split the validation images into a half to fit on and a half to select by.

    Each has half of every group. Which half an image is in depends on (seed, the group's ids); of an odd
    number, the half to select by has one more: a group's only image is there.

    Args:
        validation: the images.
        seed: of the random numbers.

    Returns:
        The images to fit on, and those to select by.
    """
    chosen: tuple[list[int], list[int]] = ([], [])
    for group in np.unique(validation.groups):
        members = np.flatnonzero(validation.groups == group)
        members = members[np.argsort(validation.ids[members].astype(str))]
        members = generator_for(seed, "halves", int(group)).permutation(members)
        chosen[0].extend(members[: len(members) // 2].tolist())
        chosen[1].extend(members[len(members) // 2 :].tolist())
    fitting, selecting = (validation.subset(np.sort(np.array(half, dtype=np.int64))) for half in chosen)
    return fitting, selecting
