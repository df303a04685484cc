"""The interface of training methods: the losses of a batch, and how their gradients become one step.

On several processes each sees its part of the global batch: a method reduces the sums and counts that it
needs over the processes, and returns this process's share of the global loss, so that gradients are to be
summed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from classifiers.training.batches import Batch

SumOverProcesses = Callable[[Tensor], Tensor]
Gradients = Sequence[Tensor]  # one for each of the network's parameters that are trained, in their order


def one_process(tensor: Tensor) -> Tensor:
    """Return a tensor as it is: the sum over the processes if there is only one."""
    return tensor


@dataclass(frozen=True)
class Context:
    """The facts that a method needs of the phase that it is built for.

    Attributes:
        group_counts: the groups' sizes in the phase's images, [n_groups], not all 0. Group
            t * n_protected + g has target t and protected group g; where groups are parted by source, those
            of the synthetic images follow. By memberships the sizes are no whole numbers.
        n_protected: the number of protected groups.
        images: the number of the phase's images.
        feature_size: the number of features that the network's last layer gets.
        seed: of the first values of the method's parameters.
        total: sums a tensor over the processes.
    """

    group_counts: Sequence[float]
    n_protected: int
    images: int
    feature_size: int
    seed: int
    total: SumOverProcesses = one_process


def gathered(values: Tensor, batch: Batch, total: SumOverProcesses) -> Tensor:
    """Gather numbers of each image over the processes.

    Args:
        values: of the images of this process's part of the batch, [n, ...].
        batch: this part.
        total: sums a tensor over the processes.

    Returns:
        The numbers of the whole batch, [batch.size, ...], by the images' places in it.
    """
    return total(values.new_zeros(batch.size, *values.shape[1:]).index_copy(0, batch.places, values))


@dataclass(frozen=True)
class Losses:
    """A method's losses for a batch.

    Attributes:
        values: scalars; each is this process's share of a global loss.
        logits: the network's logits of the batch's images, [n]: the history records how far they hold the
            classes apart.
        targets: of the logits, [n] in [0, 1], where they are not the batch's.
    """

    values: tuple[Tensor, ...]
    logits: Tensor
    targets: Tensor | None = None


class Method(nn.Module):
    """A training method.

    Its parameters, such as an adversary's, are trained by the optimizer that trains the network, on the sum
    of the losses and without weight decay; its buffers are its memory. Checkpoints hold both. Each phase of
    a training has a new method.

    Attributes:
        own_rate: the learning rate of its parameters, as a multiple of the network's.
    """

    own_rate: float = 1.0

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the losses of a batch; the network computes in the training's precision here."""
        raise NotImplementedError

    def combine(self, gradients: Sequence[Gradients]) -> Gradients:
        """Combine the gradients of several losses into the network's gradient.

        It is called only if there are several losses. The gradients are those of the global batch: a
        projection, say, of each process's own gradients would depend on the number of processes.

        Args:
            gradients: for each loss its gradients, summed over the processes.

        Returns:
            The network's gradient.

        Raises:
            NotImplementedError: the method has several losses, and does not override this.
        """
        raise NotImplementedError(f"{type(self).__name__} has several losses and does not combine them")

    def figures(self) -> dict[str, float]:
        """Return the method's figures, which the history of the training records at every evaluation."""
        return {}


class LossOfLogits(Method):
    """A method with one loss, which depends on the network's logits alone: a subclass implements `loss`."""

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        """Compute the loss of the network's logits, in float32."""
        logits = network(batch.images)
        with torch.autocast(logits.device.type, enabled=False):
            return Losses((self.loss(logits.float(), batch),), logits)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute this process's share of the loss from its logits [n]."""
        raise NotImplementedError
