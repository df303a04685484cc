"""Takes one step on a batch: the learning rate, gradients over several processes, the average of weights."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from classifiers.training.batches import Batch
from classifiers.training.methods.base import Method
from classifiers.training.parameters import Optimizer, Training
from pipeline.content.resumable import cosine
from pipeline.content.tensors import reduce_gradients

MOMENTUM = 0.9


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """Compute the learning rate of step 0 to steps - 1 of a phase: the schedule times a linear warm-up."""
    rising = min(1.0, (step + 1) / max(1.0, optimizer.warm_up * steps))
    falling = cosine(step, steps) if optimizer.schedule == "cosine" else 1.0
    return optimizer.learning_rate * rising * falling


def new_optimizer(network: nn.Module, method: Method, settings: Training) -> torch.optim.Optimizer:
    """Make the optimizer that the settings describe, of the parameters of a network and of its method."""
    rate = settings.optimizer.learning_rate
    groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "rate": 1.0}]
    if own := list(method.parameters()):
        # Weight decay would weaken an adversary.
        groups.append({"params": own, "rate": method.own_rate, "weight_decay": 0.0})
    if settings.optimizer.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, weight_decay=settings.weight_decay)
    adam = torch.optim.AdamW if settings.optimizer.name == "adamw" else torch.optim.Adam
    return adam(groups, lr=rate, weight_decay=settings.weight_decay)


def descend(
    network: nn.Module,
    method: Method,
    optimizer: torch.optim.Optimizer,
    rate: float,
    batch: Batch,
    accelerator: Accelerator,
) -> Tensor:
    """Take one step on a batch.

    Args:
        network: trained in place.
        method: computes the losses.
        optimizer: of the parameters of the network and of the method.
        rate: the learning rate.
        batch: this process's part of the batch.
        accelerator: the precision and the processes.

    Returns:
        Sums over all processes, from before the step: of the losses; of the scores of the positives, and the
        number of positives; of the scores of the negatives, and their number; float64 [5]. An image whose
        target is in between counts as a part of both.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
    with accelerator.autocast():
        losses = method.losses(network, batch)
    optimizer.zero_grad(set_to_none=True)
    if len(losses.values) == 1:
        accelerator.backward(losses.values[0])
        for module in (network, method):
            reduce_gradients(module, accelerator, "sum")
    else:
        _set_gradients(losses.values, network, method, accelerator)
    optimizer.step()
    targets = batch.targets if losses.targets is None else losses.targets
    scores, positive = torch.sigmoid(losses.logits.detach().double()), targets.double()
    sums = [torch.stack(losses.values).sum().detach().double()]
    for members in (positive, 1 - positive):
        sums += [(scores * members).sum(), members.sum()]
    total: Tensor = accelerator.reduce(torch.stack(sums), "sum")
    return total


def _set_gradients(
    losses: tuple[Tensor, ...], network: nn.Module, method: Method, accelerator: Accelerator
) -> None:
    """Set the network's gradient to the method's combination of the losses' gradients.

    The gradient of the method's own parameters is the sum over the losses.

    Args:
        losses: scalars; of each this process's share.
        network: the network.
        method: combines the gradients.
        accelerator: the processes.
    """
    parameters, own = (
        [parameter for parameter in module.parameters() if parameter.requires_grad]
        for module in (network, method)
    )
    of_network, of_own = [], []
    for loss in losses:
        gradients = torch.autograd.grad(
            loss, [*parameters, *own], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        reduced = [accelerator.reduce(gradient, "sum") for gradient in gradients]
        of_network.append(reduced[: len(parameters)])
        of_own.append(reduced[len(parameters) :])
    combined = method.combine(of_network)
    for parameter, gradient in zip(parameters, combined, strict=True):
        parameter.grad = gradient
    for parameter, shares in zip(own, zip(*of_own, strict=True), strict=True):
        parameter.grad = torch.stack(shares).sum(dim=0)


def memory_of(average: float, step: int, steps: int) -> float:
    """Compute the weight of the average so far when a step's weights enter the average of weights.

    With it a step's contribution halves after `average` of the phase's steps. Early in a phase the weight is
    smaller, so that the first network weights, which are random, are soon forgotten: it is 0 at step 0.

    Args:
        average: a share of the phase's steps, above 0.
        step: the step's number, 0 to steps - 1.
        steps: how many steps the phase has.

    Returns:
        A number in [0, 1).
    """
    half_life: float = 0.5 ** (1 / (average * steps))
    return min(half_life, step / (step + 10))


@torch.no_grad()
def average_in(average: nn.Module, network: nn.Module, memory: float) -> None:
    """Average a network's weights into `average`, in place: memory * average + (1 - memory) * network.

    Buffers are copied: they hold counts, which have no average.

    Args:
        average: the average so far.
        network: the network after the step.
        memory: the weight of the average so far, see `memory_of`.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - memory)
    for copied, buffer in zip(average.buffers(), network.buffers(), strict=True):
        copied.copy_(buffer)
