"""What training minimises: the mean loss (ERM), or the loss of the worst group (Group DRO).

An objective takes logits [n] and a `Batch`, and gives a scalar. On several processes each sees its
part of the global batch: the objective reduces group sums and counts over them, and gives this
process's share of the global loss, so that gradients are to be summed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.training.parameters import Recipe

SumOverProcesses = Callable[[Tensor], Tensor]


def one_process(tensor: Tensor) -> Tensor:
    """The sum over the processes where there is one only."""
    return tensor


@dataclass(frozen=True)
class Batch:
    """images [n, 3, H, W] in [-1, 1]; targets [n] in {0, 1}; groups [n], integers below n_groups."""

    images: Tensor
    targets: Tensor
    groups: Tensor


class ERM(nn.Module):
    """Empirical risk minimisation: the mean binary cross-entropy of the batch."""

    def __init__(self, total: SumOverProcesses = one_process) -> None:
        super().__init__()
        self.total = total

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="sum")
        return losses / self.total(torch.tensor(float(len(logits)), device=logits.device))


class GroupDRO(nn.Module):
    """Group distributionally robust optimisation (Sagawa et al., ICLR 2020, Algorithm 1).

    Per batch, ℓ_g is the mean loss of group g; q_g <- q_g exp(η (ℓ_g + C/√n_g)) for the groups that are
    in the batch, then Σ q = 1; the loss is Σ q_g ℓ_g. q carries no graph. It starts uniform over the groups
    that have images: one without would keep its weight for ever, and take it from the others' losses.

    Args:
        group_counts: n_g, the groups' sizes in the training data, not all 0.
        step_size: η.
        adjustment: C.
    """

    q: Tensor
    adjustments: Tensor

    def __init__(
        self,
        group_counts: list[int],
        step_size: float = 0.01,
        adjustment: float = 0.0,
        total: SumOverProcesses = one_process,
    ) -> None:
        super().__init__()
        self.step_size = step_size
        self.total = total
        counts = torch.tensor(group_counts, dtype=torch.float32)
        occurs = (counts > 0).float()
        self.register_buffer("q", occurs / occurs.sum())
        self.register_buffer("adjustments", adjustment / counts.clamp(min=1.0).sqrt(), persistent=False)

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="none")
        sums = torch.zeros_like(self.q).index_add(0, batch.groups, losses)
        with torch.no_grad():
            counts = self.total(torch.bincount(batch.groups, minlength=len(self.q)).to(self.q.dtype))
            means = self.total(sums.detach()) / counts.clamp(min=1.0)
            growth = torch.exp(self.step_size * (means + self.adjustments))
            q = torch.where(counts > 0, self.q * growth, self.q)
            self.q.copy_(q / q.sum())
            weights = self.q / counts.clamp(min=1.0)
        return (weights * sums).sum()


OBJECTIVES: dict[str, Callable[[Recipe, list[int], SumOverProcesses], nn.Module]] = {
    "erm": lambda recipe, counts, total: ERM(total),
    "group_dro": lambda recipe, counts, total: GroupDRO(counts, recipe.step_size, recipe.adjustment, total),
}
