"""Loss weights by group."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from classifiers.training.batches import Batch
from classifiers.training.methods.base import Context, LossOfLogits, SumOverProcesses, one_process

WeightsName = Literal["inverse", "effective_number", "reweighing"]


def inverse_frequency(counts: Tensor) -> Tensor:
    """Weigh every group by 1/n_g: with a mean over the data of 1, by N/(G n_g) of the G groups with images.

    Args:
        counts: n_g, [n_groups] float64.

    Returns:
        Weights up to a factor, [n_groups]; without a meaning where a group has no images.
    """
    return 1 / counts


def effective_number(counts: Tensor, beta: float) -> Tensor:
    """Weigh every group by (1 - β)/(1 - β^n_g), the inverse of its effective number of images.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019. 1 - β^n is
    computed by expm1, and groups without images are left out by their counts: 1 - β^n is 1 in float64 for
    large groups too.

    Args:
        counts: n_g, [n_groups] float64.
        beta: β in [0, 1); 0: equal weights, near 1: 1/n_g.

    Returns:
        Weights up to a factor, [n_groups]; without a meaning where a group has no images.
    """
    return -1 / torch.expm1(counts * torch.tensor(beta, dtype=counts.dtype).log())


def reweighing(counts: Tensor, n_protected: int) -> Tensor:
    """Weigh every group by P(y) P(a) / P(y, a).

    Under the weights, target y and protected group a are independent. Where groups are parted by source, the
    source is a part of the protected group.

    Source: Kamiran and Calders, "Data preprocessing techniques for classification without discrimination",
    Knowledge and Information Systems, 2012.

    Args:
        counts: of the images of target y and protected group a, [n_groups] float64: see `Context`.
        n_protected: the number of protected groups.

    Returns:
        Weights, [n_groups]; without a meaning where a group has no images.
    """
    table = counts.reshape(-1, 2, n_protected)  # source, target, protected group
    of_target, of_protected = table.sum(dim=(0, 2), keepdim=True), table.sum(dim=1, keepdim=True)
    return (of_target * of_protected / (table * table.sum())).reshape(-1)


def with_mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    """Scale the groups' weights so that their mean over the images is 1: then a step is as long as ERM's.

    A mean of 1 over the groups, as in published code, makes the mean over the images far smaller where
    groups differ in size (CelebA: 0.12), and with it the learning rate.

    Args:
        weights: up to a factor, [n_groups] float64.
        counts: the groups' sizes, [n_groups] float64, not all 0.

    Returns:
        [n_groups] float64; 0 where a group has no images.
    """
    occurring = torch.where(counts > 0, weights, 0.0)
    return occurring * (counts.sum() / (counts * occurring).sum())


def group_weights(name: WeightsName, beta: float, context: Context) -> Tensor:
    """Compute the weights of the groups of a phase: [n_groups] float64."""
    counts = torch.tensor(context.group_counts, dtype=torch.float64)
    weights = {
        "inverse": lambda: inverse_frequency(counts),
        "effective_number": lambda: effective_number(counts, beta),
        "reweighing": lambda: reweighing(counts, context.n_protected),
    }
    return with_mean_one(weights[name](), counts)


class Weighted(LossOfLogits):
    """The mean over the batch of each image's loss times the weight of its group.

    The sum is divided by the number of images, not by the sum of their weights, which would depend on who
    else is in the batch. An image whose protected group is not known has the mean weight, 1; or that of its
    groups, by its memberships.

    Args:
        weights: of the groups, [n_groups].
        total: sums a tensor over the processes.

    Attributes:
        weights: of the groups, [n_groups] float32.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, total: SumOverProcesses = one_process) -> None:
        super().__init__()
        self.total = total
        self.register_buffer("weights", weights.float(), persistent=False)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute this process's share of the weighted sum over the number of images of all processes."""
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="none")
        weights = torch.where(batch.known, self.weights[batch.groups], 1.0)
        if batch.memberships is not None:
            weights = batch.memberships @ self.weights
        return (weights * losses).sum() / self.total(torch.tensor(float(len(logits)), device=logits.device))
