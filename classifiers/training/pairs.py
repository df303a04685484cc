"""Pairs the images of a batch with others, which a method then mixes: functions of the step's number only."""

import numpy as np

from classifiers.networks.images import LabelledImages
from classifiers.training.samplers import Sampler
from pipeline.content.arrays import IntArray
from pipeline.content.seeds import generator_for


class AnyPairs:
    """Pairs every place of a batch with another one, whatever the images: each is once first, once second.

    So partners are drawn like the images themselves, from balanced groups for instance.

    Args:
        sampler: draws the batch.
        seed: of the partners.
    """

    def __init__(self, sampler: Sampler, seed: int) -> None:
        self.sampler, self.seed = sampler, seed

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's pairs, [B, 2]; an image that is alone is its own partner."""
        first = self.sampler(step)
        ring = generator_for(self.seed, "partner", step).permutation(len(first))
        second = np.empty_like(first)
        second[ring] = first[np.roll(ring, 1)]
        return np.stack([first, second], axis=1)


class SelectivePairs:
    """Pairs images as LISA does (Yao et al., ICML 2022).

    A partner has the same target and another protected group, or else the same protected group and the other
    target. Where there is no such image, or the image has no group, it is its own partner. Of several groups
    by its memberships, an image is taken to be of the most likely one.

    Args:
        sampler: draws the batch.
        images: the batch's and the partners, which have a group.
        n_protected: the number of protected groups.
        same_target: the probability of a partner with the same target.
        seed: of the partners.
    """

    def __init__(
        self, sampler: Sampler, images: LabelledImages, n_protected: int, same_target: float, seed: int
    ) -> None:
        self.sampler, self.same_target, self.seed = sampler, same_target, seed
        known = images.has_group
        targets, protected = images.targets, images.groups % n_protected
        self.groups = np.where(known, targets * n_protected + protected, -1)
        self.partners: dict[tuple[int, bool], IntArray] = {}
        for group in np.unique(self.groups[known]).tolist():
            target, of_group = targets == group // n_protected, protected == group % n_protected
            self.partners[group, True] = np.flatnonzero(known & target & ~of_group)
            self.partners[group, False] = np.flatnonzero(known & ~target & of_group)

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's pairs, [B, 2]."""
        first = self.sampler(step)
        random = generator_for(self.seed, "partner", step)
        same_target, within = random.random(len(first)) < self.same_target, random.random(len(first))
        second = first.copy()
        for row, (image, same) in enumerate(zip(first.tolist(), same_target.tolist(), strict=True)):
            partners = self.partners.get((self.groups[image], same), first[:0])
            if len(partners):
                second[row] = partners[int(within[row] * len(partners))]
        return np.stack([first, second], axis=1)
