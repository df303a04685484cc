"""Group distributionally robust optimisation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from classifiers.training.batches import Batch
from classifiers.training.methods.base import LossOfLogits, SumOverProcesses, one_process

LEAST = 1e-6  # images of a group in a batch, by their memberships: below, the group is as good as absent


class GroupDRO(LossOfLogits):
    """Group distributionally robust optimisation (Sagawa et al., ICLR 2020, Algorithm 1).

    Per batch, ℓ_g is the mean loss of group g; q_g <- q_g exp(η (ℓ_g + C/√n_g)) for the groups that are
    in the batch, then Σ q = 1; the loss is Σ q_g ℓ_g. q carries no graph. It starts uniform over the groups
    that have images: one without would keep its weight for ever, and take it from the others' losses. Where
    an image is of several groups by its memberships p_ig, ℓ_g is Σ p_ig ℓ_i / Σ p_ig (PG-DRO, Ghosal and
    Li, 2023, arXiv 2303.05809).

    Args:
        group_counts: n_g, the groups' sizes in the training data, not all 0.
        step_size: η.
        adjustment: C.
        total: sums a tensor over the processes.

    Attributes:
        q: the groups' weights, [n_groups], with sum 1.
        adjustments: C/√n_g, [n_groups].
    """

    q: Tensor
    adjustments: Tensor

    def __init__(
        self,
        group_counts: Sequence[float],
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

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Update q by the batch, and compute this process's share of Σ q_g ℓ_g."""
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="none")
        sums = batch.sums_by_group(losses, len(self.q))
        with torch.no_grad():
            counts = self.total(batch.sums_by_group(torch.ones_like(losses), len(self.q)))
            means = self.total(sums.detach()) / counts.clamp(min=LEAST)
            growth = torch.exp(self.step_size * (means + self.adjustments))
            q = torch.where(counts > 0, self.q * growth, self.q)
            self.q.copy_(q / q.sum())
            weights = self.q / counts.clamp(min=LEAST)
        return (weights * sums).sum()

    def figures(self) -> dict[str, float]:
        """Return q_g of every group g, as q_0, q_1 ..."""
        return {f"q_{group}": float(weight) for group, weight in enumerate(self.q)}
