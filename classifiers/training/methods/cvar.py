"""Conditional value at risk."""

import torch
import torch.nn.functional as F
from torch import Tensor

from classifiers.training.batches import Batch
from classifiers.training.methods.base import LossOfLogits, SumOverProcesses, gathered, one_process


class CVaR(LossOfLogits):
    """The mean loss of the worst share α of the batch's images.

    It is the highest mean under weights of at most 1/(αB) each (Levy et al., NeurIPS 2020). Where αB is not a
    whole number, the last image counts as the fraction that is left.

    Args:
        share: α in (0, 1]; 1: ERM.
        total: sums a tensor over the processes.
    """

    def __init__(self, share: float, total: SumOverProcesses = one_process) -> None:
        super().__init__()
        self.share, self.total = share, total

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute this process's share of the mean over the worst images of all processes."""
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="none")
        of_all = gathered(losses.detach(), batch, self.total)
        wanted = torch.tensor(self.share * batch.size, device=losses.device)
        ranks = torch.arange(batch.size, dtype=losses.dtype, device=losses.device)
        weights = torch.empty_like(of_all)
        weights[torch.argsort(of_all, descending=True, stable=True)] = (wanted - ranks).clamp(0, 1)
        return (weights[batch.places] * losses).sum() / wanted
