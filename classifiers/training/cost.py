"""Counts the images that go through a network while it is trained: what a method costs, whatever the machine.

Steps do not tell: one method draws more images than it learns from, another computes gradients of several
losses or towards the images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.content.resumable import Session


@dataclass
class Count:
    """The images that a network computed.

    Attributes:
        forward: images whose outputs were computed, with or without a graph.
        backward: images through which gradients were propagated back to the first layer, once for every time.
    """

    forward: int = 0
    backward: int = 0

    def over_processes(self, session: Session) -> Tensor:
        """Sum the counts over the processes: int64 [2] on the device, which is not waited for."""
        device = session.accelerator.device
        counts = [torch.full((), n, dtype=torch.int64, device=device) for n in (self.forward, self.backward)]
        return session.total(torch.stack(counts))


def first_layer(network: nn.Module) -> nn.Module:
    """Return the first module of a network, in the order of their definition, with parameters of its own."""
    return next(module for module in network.modules() if [*module.parameters(recurse=False)])


@contextmanager
def counted(network: nn.Module) -> Iterator[Count]:
    """Count the images that go through a network's first layer meanwhile.

    The first layer is hooked, not the network: a method may call `features`, may compute several gradients
    of one graph, and may compute gradients towards the images alone.

    Args:
        network: its first layer is called once for a batch [n, ...], whatever is called of the network.

    Yields:
        The count, which grows.
    """
    count = Count()

    def on_forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        images = len(output)
        count.forward += images
        if output.requires_grad:
            output.register_hook(lambda gradient: on_backward(images))

    def on_backward(images: int) -> None:
        count.backward += images

    handle = first_layer(network).register_forward_hook(on_forward)
    try:
        yield count
    finally:
        handle.remove()
