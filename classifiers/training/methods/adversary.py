"""The loss of an adversary: how well it guesses the protected groups, beside what knowing nothing gives."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.training.batches import Batch
from classifiers.training.methods.base import Context

Heads = Literal["attributes", "intersections"]
MEMORY = 0.9  # of the figures, at each step


class AdversaryLoss(nn.Module):
    """The cross-entropy of guesses of the protected attributes, over the images where they are known.

    By memberships all images count: the loss of one is the mean over its groups of what it would be in each.
    With heads for intersections one softmax guesses the protected group; with heads for attributes each
    binary attribute has a logit, and their losses are summed. An adversary that knows of the target y alone
    can do no better than the entropy H(a|y) of the images it sees, and without y no better than H(a): this is
    the bound that it stays at if the network betrays nothing. Figures are averages over the last steps.

    Args:
        context: of the phase.
        heads: what is guessed.
        given_target: whether the adversary knows y: the bound is then H(a|y).
        weighted: whether the loss of each image is weighed by 1/P(a|y), or by 1/P(a) where y is not known,
            so that a rare group counts as much as a frequent one. The weights' mean over the phase is 1.

    Attributes:
        outputs: how many logits a guess has.
        weights: of the groups t * n_protected + a, [2 n_protected].
        seen: how many images of each group there were lately, weighted, [2, n_protected].
        sums: of the losses and of the images lately, [2].
    """

    weights: Tensor
    seen: Tensor
    sums: Tensor

    def __init__(self, context: Context, heads: Heads, given_target: bool, weighted: bool) -> None:
        super().__init__()
        self.heads, self.given_target, self.total = heads, given_target, context.total
        self.n_protected = context.n_protected
        self.attributes = max(1, (context.n_protected - 1).bit_length())
        self.outputs = self.attributes if heads == "attributes" else context.n_protected
        counts = torch.tensor(context.group_counts, dtype=torch.float64).reshape(-1, 2, self.n_protected)
        weights = torch.ones(2, self.n_protected)
        if weighted:
            weights = inverse_shares(counts.sum(dim=0), given_target)
        self.register_buffer("weights", weights.float().flatten(), persistent=False)
        self.register_buffer("seen", torch.zeros(2, self.n_protected, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(2, dtype=torch.float64))

    def forward(self, guesses: Tensor, batch: Batch) -> Tensor:
        """Compute this process's share of the mean loss over the global batch's images that have a group.

        Args:
            guesses: logits, [n, outputs].
            batch: this process's part of it.

        Returns:
            A scalar; 0 if no image has a group.
        """
        of_known = self._of_known if batch.memberships is None else self._by_memberships
        sum_of_losses, seen, images = of_known(guesses.float(), batch)
        with torch.no_grad():
            sums = torch.stack([sum_of_losses.double(), images.double()])
            of_all = self.total(torch.cat([seen, sums]))
            self.seen.mul_(MEMORY).add_(of_all[:-2].reshape(self.seen.shape))
            self.sums.mul_(MEMORY).add_(of_all[-2:])
        return sum_of_losses / of_all[-1].clamp(min=1.0).float()

    def _of_known(self, guesses: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Sum the weighted losses, the weights by group [2 n_protected], and the images, of known groups."""
        protected = batch.groups % self.n_protected
        group = batch.targets * self.n_protected + protected
        weights = self.weights[group] * batch.known
        seen = torch.zeros_like(self.seen).flatten().index_add(0, group, weights.double())
        return (weights * self._losses(guesses, protected)).sum(), seen, batch.known.sum()

    def _by_memberships(self, guesses: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Sum the same, each image by its memberships; groups of real and of synthetic images are one."""
        assert batch.memberships is not None
        n = len(batch.memberships)
        shares = batch.memberships.reshape(n, -1, 2 * self.n_protected).sum(dim=1)
        weights = (self.weights * shares).reshape(n, 2, self.n_protected)
        protected = torch.arange(self.n_protected, device=guesses.device)[:, None].expand(-1, n)
        losses = torch.stack([self._losses(guesses, group) for group in protected], dim=1)
        images = torch.tensor(n, device=guesses.device)
        return (weights * losses[:, None]).sum(), weights.double().sum(dim=0).flatten(), images

    def _losses(self, guesses: Tensor, protected: Tensor) -> Tensor:
        if self.heads == "intersections":
            return F.cross_entropy(guesses, protected, reduction="none")
        bits = (protected[:, None] >> torch.arange(self.attributes, device=protected.device)) & 1
        return F.binary_cross_entropy_with_logits(guesses, bits.to(guesses.dtype), reduction="none").sum(1)

    def figures(self) -> dict[str, float]:
        """Return the loss and its bound; nothing where no group was known."""
        if not self.sums[1] > 0:
            return {}
        return {
            "adversary_loss": float(self.sums[0] / self.sums[1]),
            "adversary_bound": float(self.bound(self.seen) / self.sums[1]),
        }

    def bound(self, counts: Tensor) -> Tensor:
        """Compute the least sum of the losses of guesses that do not see the network, from counts [2, n]."""
        tables = [counts]
        if self.heads == "attributes":
            group = torch.arange(self.n_protected, device=counts.device)
            tables = [
                torch.zeros(2, 2, dtype=counts.dtype, device=counts.device).index_add(
                    1, (group >> k) & 1, counts
                )
                for k in range(self.attributes)
            ]
        known = [table if self.given_target else table.sum(dim=0, keepdim=True) for table in tables]
        return torch.stack([entropy_of_rows(table) for table in known]).sum()


def entropy_of_rows(counts: Tensor) -> Tensor:
    """Compute the entropy of each row's shares times the row's sum, in nats, and sum over the rows."""
    entropies: Tensor = torch.special.entr(counts).sum() - torch.special.entr(counts.sum(dim=1)).sum()
    return entropies


def inverse_shares(counts: Tensor, given_target: bool) -> Tensor:
    """Compute weights of groups: 1/P(a|y), or 1/P(a), over the number of values of a that occur there.

    Args:
        counts: images of each target and protected group, [2, n_protected].
        given_target: P(a|y) instead of P(a).

    Returns:
        [2, n_protected]; 0 for a group without images.
    """
    of = counts if given_target else counts.sum(dim=0, keepdim=True).expand_as(counts)
    occur = (of > 0).sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(of > 0, of.sum(dim=1, keepdim=True) / (occur * torch.where(of > 0, of, 1.0)), 0.0)
