"""Choose the images of a batch: functions of (seed, step number) only.

A sampler is made from strata [N], a batch size and a seed, and returns the positions of a step's batch. The
strata are the images' groups or their classes, as its entry in `SAMPLERS` says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from classifiers.networks.images import LabelledImages
from pipeline.content.arrays import IntArray
from pipeline.content.seeds import derived_seed, generator_for

Sampler = Callable[[int], IntArray]
SamplerName = Literal[  # the keys of `SAMPLERS`
    "uniform",
    "group_balanced",
    "class_balanced",
    "oversampled_groups",
    "oversampled_classes",
    "undersampled_groups",
    "undersampled_classes",
    "balanced_batches",
]
NO_STRATUM = -1  # of images that are not to be drawn


class UniformSampler:
    """Draws every image once per epoch, in an order from (seed, epoch)."""

    def __init__(self, strata: IntArray, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = len(strata), batch_size, seed
        self._order = lru_cache(maxsize=2)(self._new_order)

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        start = step * self.batch_size
        wanted = np.arange(start, start + self.batch_size)
        return np.array([self._order(k // self.count)[k % self.count] for k in wanted.tolist()])

    def _new_order(self, epoch: int) -> IntArray:
        return generator_for(self.seed, "epoch", epoch).permutation(self.count)


class BalancedSampler:
    """Draws strata with equal probability, then an image of the stratum: inverse to the stratum's size."""

    def __init__(self, strata: IntArray, batch_size: int, seed: int) -> None:
        self.members = members_of(strata)
        self.batch_size, self.seed = batch_size, seed

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        random = generator_for(self.seed, "step", step)
        strata = random.integers(len(self.members), size=self.batch_size)
        within = random.random(self.batch_size)
        return np.array(
            [self.members[s][int(u * len(self.members[s]))] for s, u in zip(strata, within, strict=True)]
        )


class BalancedBatches:
    """Draws as many images of every stratum in each batch; within a stratum, every image once per epoch.

    Where the batch does not divide by the number of strata, those with one image more rotate from step to
    step: over as many steps as there are strata, each has as many.
    """

    def __init__(self, strata: IntArray, batch_size: int, seed: int) -> None:
        self.members, self.batch_size = members_of(strata), batch_size
        self.orders = [
            UniformSampler(members, 1, derived_seed(seed, "stratum", number))
            for number, members in enumerate(self.members)
        ]

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        draws = range(step * self.batch_size, (step + 1) * self.batch_size)  # of the whole training
        turns = (divmod(draw, len(self.members)) for draw in draws)
        return np.array([self.members[stratum][self.orders[stratum](turn)[0]] for turn, stratum in turns])


class OverSampler:
    """Draws from a list in which every stratum's images are repeated to the size of the largest stratum.

    An epoch has each image of the largest stratum once, in an order from (seed, epoch). Which images of a
    smaller stratum are repeated once more than the others depends on the seed alone.
    """

    def __init__(self, strata: IntArray, batch_size: int, seed: int) -> None:
        shuffled = shuffled_members(strata, seed)
        largest = max(len(members) for members in shuffled)
        self.positions = np.concatenate([np.resize(members, largest) for members in shuffled])
        self.uniform = UniformSampler(self.positions, batch_size, seed)

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        return self.positions[self.uniform(step)]


class UnderSampler:
    """Draws from a subset that has as many images of every stratum as the smallest one has.

    The subset depends on the seed alone; an epoch has each of its images once, in an order from
    (seed, epoch). A subset that is drawn anew in every epoch would be another method.
    """

    def __init__(self, strata: IntArray, batch_size: int, seed: int) -> None:
        shuffled = shuffled_members(strata, seed)
        smallest = min(len(members) for members in shuffled)
        self.positions = np.concatenate([members[:smallest] for members in shuffled])
        self.uniform = UniformSampler(self.positions, batch_size, seed)

    def __call__(self, step: int) -> IntArray:
        """Return the positions of a step's batch: [batch_size]."""
        return self.positions[self.uniform(step)]


def members_of(strata: IntArray) -> list[IntArray]:
    """Return the positions of the images of every stratum that has any."""
    return [np.flatnonzero(strata == stratum) for stratum in np.unique(strata) if stratum != NO_STRATUM]


def shuffled_members(strata: IntArray, seed: int) -> list[IntArray]:
    """Return the positions of the images of every stratum that has any, in an order from the seed."""
    return [
        generator_for(seed, "members", number).permutation(members)
        for number, members in enumerate(members_of(strata))
    ]


@dataclass(frozen=True)
class SamplerKind:
    """An entry of `SAMPLERS`.

    Attributes:
        make: makes a sampler from strata [N], a batch size and a seed.
        parts_by: what parts the images into strata; by "nothing" there is a single one.
    """

    make: Callable[[IntArray, int, int], Sampler]
    parts_by: Literal["nothing", "class", "group"]

    @property
    def needs(self) -> frozenset[str]:
        """The protected labels that the sampler needs: those of the training images, or none."""
        return frozenset({"training"}) if self.parts_by == "group" else frozenset()

    def strata(self, images: LabelledImages) -> IntArray:
        """Return each image's stratum, [N]: `NO_STRATUM` where a group is wanted that is not known."""
        if self.parts_by == "class":
            return images.targets
        has_group = images.has_group
        if self.parts_by == "nothing" or not has_group.any():
            return np.zeros(len(images), dtype=np.int64)
        return np.where(has_group, images.groups, NO_STRATUM)


SAMPLERS: dict[SamplerName, SamplerKind] = {
    "uniform": SamplerKind(UniformSampler, parts_by="nothing"),
    "group_balanced": SamplerKind(BalancedSampler, parts_by="group"),
    "class_balanced": SamplerKind(BalancedSampler, parts_by="class"),
    "oversampled_groups": SamplerKind(OverSampler, parts_by="group"),
    "oversampled_classes": SamplerKind(OverSampler, parts_by="class"),
    "undersampled_groups": SamplerKind(UnderSampler, parts_by="group"),
    "undersampled_classes": SamplerKind(UnderSampler, parts_by="class"),
    "balanced_batches": SamplerKind(BalancedBatches, parts_by="group"),
}


def new_sampler(name: SamplerName, images: LabelledImages, batch_size: int, seed: int) -> Sampler:
    """Make the sampler of that name for some images."""
    kind = SAMPLERS[name]
    return kind.make(kind.strata(images), batch_size, seed)


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
