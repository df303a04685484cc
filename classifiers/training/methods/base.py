"""What a training method is: the losses of a batch, and how their gradients become one step of the network.

On several processes each sees its part of the global batch: a method reduces the sums and counts that it
needs over them, and gives this process's share of the global loss, so that gradients are to be summed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from classifiers.training.batches import Batch

SumOverProcesses = Callable[[Tensor], Tensor]
Gradients = Sequence[Tensor]  # one for each of the network's parameters that are trained, in their order


def one_process(tensor: Tensor) -> Tensor:
    """The sum over the processes where there is one only."""
    return tensor


@dataclass(frozen=True)
class Context:
    """What a method is told of the phase that it is built for.

    Attributes:
        group_counts: the groups' sizes in the phase's images, [n_groups], not all 0.
        total: gives the sum of a tensor over the processes.
    """

    group_counts: list[int]
    total: SumOverProcesses = one_process


@dataclass(frozen=True)
class Losses:
    """What a method makes of a batch.

    Attributes:
        values: the losses, scalars; of each this process's share of the global one.
        logits: what the network says of the batch's images, [n]: the history has how far it holds the classes
            apart.
    """

    values: tuple[Tensor, ...]
    logits: Tensor


class Method(nn.Module):
    """A training method.

    Its parameters, such as an adversary's, are trained by the optimizer of the network's, on the sum of the
    losses; its buffers are its memory. Both are in checkpoints. Each phase of a training has a new one.
    """

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Give the losses of a batch; the network computes in the training's precision here."""
        raise NotImplementedError

    def combine(self, gradients: Sequence[Gradients]) -> Gradients:
        """Give the network's gradient, of those of each loss, which are sums over the processes already.

        It is called where there are several losses; a projection, say, has to see the gradients of the global
        batch, or the result would depend on the number of processes.
        """
        raise NotImplementedError(f"{type(self).__name__} has several losses and does not combine them")

    def figures(self) -> dict[str, float]:
        """Give what the history of the training is to say of the method, at every evaluation."""
        return {}


class LossOfLogits(Method):
    """A method with one loss, which depends on the network's logits alone: a subclass says `loss`."""

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Give the loss of the network's logits, in float32."""
        logits = network(batch.images)
        with torch.autocast(logits.device.type, enabled=False):
            return Losses((self.loss(logits.float(), batch),), logits)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Give this process's share of the loss, of its logits [n]."""
        raise NotImplementedError
