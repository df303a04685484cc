"""Spectral decoupling."""

from collections.abc import Sequence

import torch
from torch import Tensor

from classifiers.training.batches import Batch
from classifiers.training.methods.base import SumOverProcesses, one_process
from classifiers.training.methods.erm import ERM


class SpectralDecoupling(ERM):
    """ERM and a penalty on logits away from a target of each class (Pezeshki et al., NeurIPS 2021).

    L = mean ℓ + λ Σ_y mean over class y of (z - γ_y)², as in the code of the paper's CelebA experiment (there
    λ = 0.1, γ = 0.44 and 2.5). Each class has its own mean, whatever its share of the batch, and there is no
    factor 1/2. So the penalty of the paper's formula, (λ'/2) mean z², is that of γ = (0, 0) and λ = λ'/4 in a
    batch that has as many images of both classes.

    Args:
        strength: λ; 0: ERM.
        targets: γ of classes 0 and 1.
        total: sums a tensor over the processes.
    """

    gammas: Tensor

    def __init__(
        self, strength: float, targets: Sequence[float], total: SumOverProcesses = one_process
    ) -> None:
        super().__init__(total)
        self.strength = strength
        self.register_buffer("gammas", torch.tensor(targets, dtype=torch.float32), persistent=False)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute this process's share of the mean loss and the penalty; absent classes have no penalty."""
        counts = self.total(torch.bincount(batch.targets, minlength=2).to(logits.dtype))
        weights = 1 / counts.clamp(min=1.0)
        squares = (logits - self.gammas[batch.targets]).square()
        return super().loss(logits, batch) + self.strength * (weights[batch.targets] * squares).sum()
