"""Images with labels, read when they are needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class LabelledImages:
    """Images that are read when they are needed, and their labels.

    Attributes:
        ids: [N] strings.
        read: maps positions [n] to uint8 [n, H, W, 3].
        targets: the labels to be predicted, [N] in {0, 1}.
        groups: t * n_g + g of the data set's target t and protected group g, [N].
        synthetic: which images a generator has rendered, [N]; None if none.
        known: whose protected group is known, [N]; None if all are. Where it is not known, `groups` has the
            right target and, of the protected groups, the most likely one.
        memberships: how likely each image is of each group, [N, n_groups], rows with sum 1; None: methods
            leave the images whose group is not known out of their groups.
    """

    ids: NDArray[np.object_]
    read: Callable[[IntArray], NDArray[np.uint8]]
    targets: IntArray
    groups: IntArray
    synthetic: BoolArray | None = None
    known: BoolArray | None = None
    memberships: FloatArray | None = None

    def group_counts(self, n_groups: int) -> list[int]:
        """Count the images of each group, [n_groups], without those that methods leave out of them."""
        counts: list[int] = np.bincount(self.groups[self.has_group], minlength=n_groups).tolist()
        return counts

    def group_sizes(self, n_groups: int) -> list[float]:
        """Return how many images each group has for methods, [n_groups]: by memberships, Σ_i p_ig."""
        if self.memberships is None:
            return [float(count) for count in self.group_counts(n_groups)]
        sizes: list[float] = self.memberships.sum(axis=0).tolist()
        return sizes

    @property
    def has_group(self) -> BoolArray:
        """Which images methods and samplers take into their groups, [N]."""
        if self.known is None or self.memberships is not None:
            return np.ones(len(self), dtype=np.bool_)
        return self.known

    def subset(self, positions: IntArray) -> "LabelledImages":
        """Select the images at positions [n], in that order; repeated positions repeat their images."""
        return LabelledImages(
            ids=self.ids[positions],
            read=lambda chosen: self.read(positions[chosen]),
            targets=self.targets[positions],
            groups=self.groups[positions],
            synthetic=None if self.synthetic is None else self.synthetic[positions],
            known=None if self.known is None else self.known[positions],
            memberships=None if self.memberships is None else self.memberships[positions],
        )

    def __len__(self) -> int:
        return len(self.targets)
