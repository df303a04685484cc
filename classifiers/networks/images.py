"""Images with labels, read as they are needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.content.arrays import BoolArray, IntArray


@dataclass(frozen=True)
class LabelledImages:
    """Images that are read as they are needed, and their labels.

    Attributes:
        ids: [N] strings.
        read: positions [n] to uint8 [n, H, W, 3].
        targets: what is to be predicted, [N] in {0, 1}.
        groups: t * n_g + g of the data set's target t and protected group g, [N].
        synthetic: which images a generator has rendered, [N]; None for none of them.
    """

    ids: NDArray[np.object_]
    read: Callable[[IntArray], NDArray[np.uint8]]
    targets: IntArray
    groups: IntArray
    synthetic: BoolArray | None = None

    def group_counts(self, n_groups: int) -> list[int]:
        """How many images each of all groups has: [n_groups]."""
        counts: list[int] = np.bincount(self.groups, minlength=n_groups).tolist()
        return counts

    def subset(self, positions: IntArray) -> "LabelledImages":
        """The images at some positions [n], in that order, once for each time that they stand there."""
        return LabelledImages(
            ids=self.ids[positions],
            read=lambda chosen: self.read(positions[chosen]),
            targets=self.targets[positions],
            groups=self.groups[positions],
            synthetic=None if self.synthetic is None else self.synthetic[positions],
        )

    def __len__(self) -> int:
        return len(self.targets)
