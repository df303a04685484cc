"""Training on mixtures of two images; `classifiers.training.pairs` draws them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.training.batches import Batch
from classifiers.training.methods.base import Losses, SumOverProcesses, one_process
from classifiers.training.methods.erm import ERM
from pipeline.content.seeds import generator_for

Mix = Literal["mixup", "cutmix"]


class Mixing(ERM):
    """ERM on mixtures of two images, with mixtures of their targets.

    With λ ~ Beta(α, α) of each pair, mixup trains on λ x₁ + (1 - λ) x₂ (Zhang et al., ICLR 2018). CutMix
    pastes a box of x₂ into x₁ that has the share 1 - λ of the image; where an edge cuts the box, λ is what
    is left of x₁ (Yun et al., ICCV 2019). The target is λ y₁ + (1 - λ) y₂ for both.

    Args:
        alpha: α.
        mix: how images are mixed.
        total: sums a tensor over the processes.
    """

    def __init__(self, alpha: float, mix: Mix, total: SumOverProcesses = one_process) -> None:
        super().__init__(total)
        self.alpha, self.mix = alpha, mix

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the loss of the mixtures of a batch's pairs."""
        images, targets = self.mixed(batch)
        losses = super().losses(network, replace(batch, images=images, targets=targets))
        return replace(losses, targets=targets)

    def mixed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mix the pairs of a batch.

        Args:
            batch: this process's part of the batch: the first images of n pairs, then their second ones.

        Returns:
            The mixtures, [n, 3, H, W] in [-1, 1], and their targets, [n] in [0, 1].
        """
        first, second = batch.images.chunk(2)
        rows = batch.places.chunk(2)[0]  # the numbers of the pairs in the whole batch
        drawn = self.kept(batch.size // 2, first.shape[2:], generator_for(batch.seed, "mix"))
        kept = torch.from_numpy(drawn[rows.cpu().numpy()]).to(first.device)
        share = kept.mean(dim=(1, 2, 3))
        one, other = batch.targets.chunk(2)
        return kept * first + (1 - kept) * second, share * one + (1 - share) * other

    def kept(self, pairs: int, size: Sequence[int], random: np.random.Generator) -> NDArray[np.float32]:
        """Draw how much of the first image each pixel of a mixture has.

        Args:
            pairs: how many pairs the whole batch has.
            size: the height and width of an image.
            random: draws it.

        Returns:
            In [0, 1]: [pairs, 1, 1, 1] for mixup, [pairs, 1, H, W] for CutMix.
        """
        shares = random.beta(self.alpha, self.alpha, pairs)
        if self.mix == "mixup":
            return shares[:, None, None, None].astype(np.float32)
        inside = np.ones((pairs, 1, 1, 1), dtype=bool)
        for axis, length in zip((2, 3), size, strict=True):
            places = (np.arange(length) + 0.5) / length
            near = np.abs(places - random.random((pairs, 1))) < np.sqrt(1 - shares)[:, None] / 2
            inside = inside & np.expand_dims(near, (1, 5 - axis))
        return (~inside).astype(np.float32)
