"""One step of a network on a batch: the learning rate, gradients over several processes, and the average."""

from collections.abc import Iterable

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
    """The learning rate of a step, 0 to steps - 1, of a phase: its schedule, below a linear rise at first."""
    rising = min(1.0, (step + 1) / max(1.0, optimizer.warm_up * steps))
    falling = cosine(step, steps) if optimizer.schedule == "cosine" else 1.0
    return optimizer.learning_rate * rising * falling


def new_optimizer(parameters: Iterable[nn.Parameter], settings: Training) -> torch.optim.Optimizer:
    """Give the optimizer that the settings describe, of some parameters."""
    rate = settings.optimizer.learning_rate
    if settings.optimizer.name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, weight_decay=settings.weight_decay)
    adam = torch.optim.AdamW if settings.optimizer.name == "adamw" else torch.optim.Adam
    return adam(parameters, lr=rate, weight_decay=settings.weight_decay)


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
        optimizer: of the parameters of the network and of the method.
        rate: the learning rate.
        batch: this process's part of it.

    Returns:
        Of all processes, as it was before the step: the sum of the losses, and the sum of the scores and the
        number of the positives, then of the negatives; float64 [5].
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
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
    scores, positive = torch.sigmoid(losses.logits.detach().double()), batch.targets.double()
    sums = [torch.stack(losses.values).sum().detach().double()]
    for members in (positive, 1 - positive):
        sums += [(scores * members).sum(), members.sum()]
    total: Tensor = accelerator.reduce(torch.stack(sums), "sum")
    return total


def _set_gradients(
    losses: tuple[Tensor, ...], network: nn.Module, method: Method, accelerator: Accelerator
) -> None:
    """Set the network's gradient to what the method makes of the losses', the method's own to their sum."""
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
    """The share of the average of the weights that a step, 0 to steps - 1 of a phase, leaves of the last one.

    It halves what a step counts for after `average` of the phase's steps. Early in a phase it is less, so
    that the first weights, which are random, are soon forgotten: all of it at step 0.
    """
    half_life: float = 0.5 ** (1 / (average * steps))
    return min(half_life, step / (step + 10))


@torch.no_grad()
def average_in(average: nn.Module, network: nn.Module, memory: float) -> None:
    """Move the weights of `average` towards the network's, in place: `memory` of them stays.

    Buffers, which count what was seen, are copied.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - memory)
    for copied, buffer in zip(average.buffers(), network.buffers(), strict=True):
        copied.copy_(buffer)
