"""Hard examples: the images with the highest losses, or drawn in proportion to them, of many candidates."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.training.batches import Batch
from classifiers.training.methods.base import Losses, Method, SumOverProcesses, gathered, one_process
from classifiers.training.methods.erm import ERM
from pipeline.content.seeds import generator_for

Ranking = Callable[[Tensor, Tensor, int], Tensor]


def by_loss(losses: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Rank candidates by loss, the highest first; ties go by place.

    Source: online hard example mining, Shrivastava et al., CVPR 2016.

    Args:
        losses: of all processes' candidates by place, [size] float64.
        groups: of the candidates, [size]; only some rankings need them.
        seed: of the step's random numbers; only some rankings need it.

    Returns:
        The candidates' places, [size]: the first choice first.
    """
    return torch.argsort(losses, descending=True, stable=True)


def by_loss_in_groups(losses: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Rank the hardest of every group first, then the second ones, and so on; equal ranks go by loss.

    Each of G groups gives B/G of the first B images; if it has fewer candidates, others take its places.

    Args:
        losses: see `by_loss`.
        groups: see `by_loss`.
        seed: not needed.

    Returns:
        Places, [size].
    """
    order = by_loss(losses, groups, seed)
    same = groups[order, None] == groups[order]
    rank_in_group = same.tril(diagonal=-1).sum(dim=1)
    return order[torch.argsort(rank_in_group, stable=True)]


def in_proportion_to_loss(losses: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Draw candidates one after the other without replacement, each in proportion to the losses left.

    Ranking by log ℓ + Gumbel noise is exactly this (Kool et al., "Stochastic beams and where to find them",
    ICML 2019). The noise depends on the seed and the place alone.

    Args:
        losses: see `by_loss`.
        groups: not needed.
        seed: of the noise.

    Returns:
        Places, [size].
    """
    noise = torch.from_numpy(generator_for(seed, "gumbel").gumbel(size=len(losses)))
    return by_loss(losses.log() + noise.to(losses.device), groups, seed)


RANKINGS: dict[str, Ranking] = {  # by the name of the method
    "hardest": by_loss,
    "hardest_in_groups": by_loss_in_groups,
    "loss_proportional": in_proportion_to_loss,
}


class HardExamples(Method):
    """ERM on the first of many candidates in a ranking by their losses.

    The batch has `candidates` times the images that are trained on. A first forward pass, without a graph and
    in evaluation mode, computes their losses; those that are chosen are forwarded again. The loss is the
    plain mean over the chosen ones, biased to hard images on purpose.

    Args:
        candidates: for each image that is trained on; 1: ERM.
        ranking: orders the candidates of all processes.
        total: sums a tensor over the processes.
    """

    def __init__(self, candidates: int, ranking: Ranking, total: SumOverProcesses = one_process) -> None:
        super().__init__()
        self.candidates, self.ranking, self.total = candidates, ranking, total
        self.erm = ERM(total)

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the mean loss of the chosen images; the logits are those of all candidates."""
        if self.candidates == 1:
            return self.erm.losses(network, batch)
        logits = _judged(network, batch.images)
        chosen = self._chosen(logits, batch)
        return Losses(self.erm.losses(network, _of_chosen(batch, chosen)).values, logits)

    def _chosen(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return which images of this process's part are trained on, [n] bool."""
        losses = F.binary_cross_entropy_with_logits(logits.float(), batch.targets.float(), reduction="none")
        groups = batch.groups
        if batch.memberships is None:
            groups = torch.where(batch.known, groups, -1)  # those that are not known are one more group
        order = self.ranking(
            gathered(losses.double(), batch, self.total), gathered(groups, batch, self.total), batch.seed
        )
        chosen = torch.zeros(batch.size, dtype=torch.bool, device=logits.device)
        chosen[order[: batch.size // self.candidates]] = True
        return chosen[batch.places]


def _judged(network: nn.Module, images: Tensor) -> Tensor:
    """Compute logits that no gradient passes, in evaluation mode: batch norm does not count the images."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        logits: Tensor = network(images)
    network.train(was_training)
    return logits


def _of_chosen(batch: Batch, chosen: Tensor) -> Batch:
    """Keep the images that are chosen; size and places are still those among the candidates."""
    labels = {
        name: getattr(batch, name)[chosen]
        for name in ("images", "targets", "groups", "known", "synthetic", "positions", "places")
    }
    memberships = None if batch.memberships is None else batch.memberships[chosen]
    return replace(batch, **labels, memberships=memberships)
