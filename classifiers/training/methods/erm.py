"""Empirical risk minimisation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from classifiers.training.batches import Batch
from classifiers.training.methods.base import LossOfLogits, SumOverProcesses, one_process


class ERM(LossOfLogits):
    """Empirical risk minimisation: the mean binary cross-entropy of the batch.

    Args:
        total: sums a tensor over the processes.
    """

    def __init__(self, total: SumOverProcesses = one_process) -> None:
        super().__init__()
        self.total = total

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute this process's share of the mean over the images of all processes."""
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="sum")
        return losses / self.total(torch.tensor(float(len(logits)), device=logits.device))
