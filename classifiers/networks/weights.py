"""Copies of a network's weights."""

import copy

from torch import Tensor, nn


def copy_of_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copy the network's state_dict to the CPU."""
    return {name: copy.deepcopy(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}
