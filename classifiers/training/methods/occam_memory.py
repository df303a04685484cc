"""What the exits of an OccamNet got right: their accuracies of late, and the memory of every image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

UNKNOWN = -1  # an image that has not been seen yet
SETTLING_WINDOWS = 2  # in which what counts is the present alone


class Correctness(nn.Module):
    """Remembers for which training images each exit was right.

    An exit whose accuracy in the window so far is at most its threshold is still learning: what it gets right
    now counts, and is recorded. That of others no longer changes.

    Args:
        images: N, how many there are.
        thresholds: of the exits, above chance: 0 is what guessing reaches (an accuracy of ½), 1 is perfect.

    Attributes:
        correct: whether each exit was right for each image, int8 [exits, N]; -1 where that is unknown.
        hits: how many images of each class each exit got right in the window, [exits, 2].
        seen: the images of each class in the window, [2].
    """

    correct: Tensor
    hits: Tensor
    seen: Tensor
    least: Tensor

    def __init__(self, images: int, thresholds: Sequence[float]) -> None:
        super().__init__()
        exits = len(thresholds)
        least = (1 + torch.tensor(thresholds, dtype=torch.float64)) / 2
        self.register_buffer("least", least, persistent=False)
        self.register_buffer("correct", torch.full((exits, images), UNKNOWN, dtype=torch.int8))
        self.register_buffer("hits", torch.zeros(exits, 2, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))

    def begin_window(self) -> None:
        """Forget the accuracies."""
        self.hits.zero_()
        self.seen.zero_()

    def remembered(self, right: Tensor, positive: Tensor, positions: Tensor, window: int) -> Tensor:
        """Return for which images of the global batch the exits are right, or were; record it.

        Args:
            right: whether each exit is right now, bool [exits, B].
            positive: the targets, [B].
            positions: of the images, [B].
            window: its number, from 0.

        Returns:
            float64 [exits, B] in {0, 1}.
        """
        classes = torch.stack([1 - positive, positive]).double()
        self.seen += classes.sum(dim=1)
        self.hits += right.double() @ classes.T
        stored = self.correct[:, positions]
        learns = (self.accuracies() <= self.least)[:, None]
        if window < SETTLING_WINDOWS:
            learns = torch.ones_like(learns)
        targets = torch.where(learns | (stored == UNKNOWN), right.to(torch.int8), stored)
        # An image that is in the batch twice was right if both copies were.
        new = torch.full_like(self.correct, 2)
        new.scatter_reduce_(1, positions.expand_as(targets), targets, "amin")
        self.correct.copy_(torch.where(new < 2, new, self.correct))
        return targets.double()

    def accuracies(self) -> Tensor:
        """Compute the mean of both classes' accuracies in the window, of those with images: [exits]."""
        return (self.hits / self.seen.clamp(min=1)).sum(dim=1) / (self.seen > 0).sum().clamp(min=1)
