"""Choose the images of a batch: functions of (seed, step number) only.

A sampler is made from groups [N], a batch size and a seed, and returns the positions of a step's batch.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np

from classifiers.networks.images import LabelledImages
from pipeline.content.arrays import IntArray
from pipeline.content.seeds import derived_seed, generator_for

Sampler = Callable[[int], IntArray]
SamplerName = Literal["uniform", "group_balanced"]  # the keys of `SAMPLERS`


class UniformSampler:
    """Draws every image once per epoch, in an order from (seed, epoch)."""

    def __init__(self, groups: IntArray, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = len(groups), batch_size, seed
        self._order = lru_cache(maxsize=2)(self._new_order)

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        start = step * self.batch_size
        wanted = np.arange(start, start + self.batch_size)
        return np.array([self._order(k // self.count)[k % self.count] for k in wanted.tolist()])

    def _new_order(self, epoch: int) -> IntArray:
        return generator_for(self.seed, "epoch", epoch).permutation(self.count)


class GroupBalancedSampler:
    """Draws groups with equal probability, then an image of the group: inverse to group frequency."""

    def __init__(self, groups: IntArray, batch_size: int, seed: int) -> None:
        self.members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        self.batch_size, self.seed = batch_size, seed

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        random = generator_for(self.seed, "step", step)
        groups = random.integers(len(self.members), size=self.batch_size)
        within = random.random(self.batch_size)
        return np.array(
            [self.members[g][int(u * len(self.members[g]))] for g, u in zip(groups, within, strict=True)]
        )


SAMPLERS: dict[SamplerName, Callable[[IntArray, int, int], Sampler]] = {
    "uniform": UniformSampler,
    "group_balanced": GroupBalancedSampler,
}


def new_sampler(name: SamplerName, images: LabelledImages, batch_size: int, seed: int) -> Sampler:
    """Make the sampler of that name for some images."""
    return SAMPLERS[name](images.groups, batch_size, seed)


class SourceShareSampler:
    """Draws a fixed number of real images in every batch, so that few real images do not get lost.

    The real and the synthetic part are drawn by a sampler each, with a seed of its own.

    Args:
        name: the name of these samplers.
        images: real and synthetic ones.
        real_share: of the batch, rounded to whole images.
        batch_size: of real and synthetic images together.
        seed: of the random numbers.
    """

    def __init__(
        self,
        name: SamplerName,
        images: LabelledImages,
        real_share: float,
        batch_size: int,
        seed: int,
    ) -> None:
        real = round(real_share * batch_size)
        assert images.synthetic is not None
        self.parts: list[tuple[IntArray, Sampler]] = []
        for source, members, size in (
            ("real", np.flatnonzero(~images.synthetic), real),
            ("synthetic", np.flatnonzero(images.synthetic), batch_size - real),
        ):
            sampler = new_sampler(name, images.subset(members), size, derived_seed(seed, source))
            self.parts.append((members, sampler))

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch, [batch_size]: first the real images."""
        return np.concatenate([members[sampler(step)] for members, sampler in self.parts])
