"""Adversarial de-biasing: a step that an adversary of the prediction does not profit from."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from classifiers.training.batches import Batch
from classifiers.training.methods.adversary import AdversaryLoss, Heads
from classifiers.training.methods.base import Context, Gradients, Losses, Method
from classifiers.training.methods.erm import ERM

Constraint = Literal["demographic_parity", "equalized_odds"]


class AdversarialDebiasing(Method):
    """Adversarial de-biasing (Zhang, Lemoine, Mitchell, AIES 2018).

    An adversary guesses the protected attributes from the network's logit z: with demographic parity from
    [z], with equalised odds from [z, z y, z (1 - y), y]. It is linear in z, not in a probability, which
    saturates. It knows y itself too, so that it need not learn y from z. The adversary descends its loss L_A;
    the network, with g_P and g_A the gradients of its own loss and of L_A, descends along

        g_P - proj(g_P onto g_A) - α g_A.

    The projection takes out what would help the adversary, the last term works against it. Both are of the
    gradient of all the network's weights as one vector, as in the paper; libraries take every tensor alone.
    With Adam the step is no longer orthogonal to g_A, as it is rescaled afterwards.

    Args:
        context: of the phase. Weights of groups suit batches drawn as the images come.
        constraint: what the adversary knows beside the logit.
        heads: attributes: each is guessed, and fair for itself alone; intersections: their groups are, the
            loss weighed by 1/P(a|y), or 1/P(a) with demographic parity, as some of them are rare.
        alpha: α.
        rising: whether α begins at 0, and rises with the root of the step's number as the paper's does.
        projection: whether the projection is taken out.
        own_rate: the adversary's learning rate as a multiple of the network's.
    """

    def __init__(
        self,
        context: Context,
        constraint: Constraint = "equalized_odds",
        heads: Heads = "attributes",
        alpha: float = 1.0,
        rising: bool = False,
        projection: bool = True,
        own_rate: float = 10.0,
    ) -> None:
        super().__init__()
        self.alpha, self.rising, self.projection, self.own_rate = alpha, rising, projection, own_rate
        self.knows_target = constraint == "equalized_odds"
        self.prediction = ERM(context.total)
        self.guess = AdversaryLoss(
            context, heads, given_target=self.knows_target, weighted=heads == "intersections"
        )
        inputs = 4 if self.knows_target else 1
        self.adversary = nn.utils.skip_init(nn.Linear, inputs, self.guess.outputs)
        for parameter in self.adversary.parameters():
            nn.init.zeros_(parameter)  # its loss is convex: nothing has to be random
        self.strength = alpha  # α of the step

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the network's loss and the adversary's."""
        logits = network(batch.images)
        self.strength = self.alpha * math.sqrt(batch.progress) if self.rising else self.alpha
        with torch.autocast(logits.device.type, enabled=False):
            guesses = self.adversary(self._seen(logits.float(), batch.targets.float()))
            values = (self.prediction.loss(logits.float(), batch), self.guess(guesses, batch))
        return Losses(values, logits)

    def _seen(self, logits: Tensor, positive: Tensor) -> Tensor:
        if not self.knows_target:
            return logits[:, None]
        return torch.stack([logits, logits * positive, logits * (1 - positive), positive], dim=1)

    def combine(self, gradients: Sequence[Gradients]) -> Gradients:
        """Compute g_P - proj(g_P onto g_A) - α g_A; g_P if g_A is 0."""
        own, adversarys = gradients
        return without_the_adversarys(own, adversarys, self.strength, self.projection)

    def figures(self) -> dict[str, float]:
        """Return the adversary's loss, `adversary_loss`, and H(a) or H(a|y), `adversary_bound`."""
        return self.guess.figures()


def without_the_adversarys(
    own: Gradients, adversarys: Gradients, alpha: float, projection: bool
) -> list[Tensor]:
    """Compute g_P - proj(g_P onto g_A) - α g_A over all tensors as one vector.

    In float64: the square of a small float32 would be 0.

    Args:
        own: g_P.
        adversarys: g_A, of the same shapes.
        alpha: α.
        projection: whether the projection is subtracted.

    Returns:
        The tensors of the difference.
    """
    factor = torch.tensor(alpha, dtype=torch.float64, device=own[0].device)
    if projection:
        pairs = [(p.double(), a.double()) for p, a in zip(own, adversarys, strict=True)]
        product = torch.stack([(p * a).sum() for p, a in pairs]).sum()
        square = torch.stack([(a * a).sum() for _, a in pairs]).sum()
        factor = factor + torch.where(square > 0, product / square, 0.0)
    return [p - (factor * a.double()).to(p.dtype) for p, a in zip(own, adversarys, strict=True)]
