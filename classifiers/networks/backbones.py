"""Networks that map images [n, 3, H, W] in [-1, 1] to one logit [n]."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from classifiers.networks.occam import OccamNet
from classifiers.networks.parameters import Backbone
from classifiers.networks.small import Classifier as Classifier
from classifiers.networks.small import SmallResNet as SmallResNet
from pipeline.content.elsewhere import refuse_another_file
from pipeline.content.files import committed, write_json
from pipeline.errors import UserError

WEIGHTS = "network.safetensors"
CARD = "card.json"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CPU = torch.device("cpu")

Network = TypeVar("Network", bound=nn.Module)


class TorchvisionResNet(Classifier):
    """torchvision's ResNet-18 or ResNet-50 with one logit; it normalises its input as ImageNet's networks do.

    Args:
        name: "resnet18" or "resnet50".
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        import torchvision.models  # lazy: slow import

        self.network = getattr(torchvision.models, name)(weights=None)
        self.network.fc = nn.Linear(self.network.fc.in_features, 1)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)

    @property
    def last(self) -> nn.Linear:
        """The last layer, from features [n, D] to [n, 1]."""
        layer: nn.Linear = self.network.fc
        return layer

    def features(self, images: Tensor) -> Tensor:
        """Compute features [n, D] of images [n, 3, H, W] in [-1, 1]."""
        network = self.network
        maps = network.conv1(((images + 1) / 2 - self.mean) / self.std)
        maps = network.maxpool(network.relu(network.bn1(maps)))
        maps = network.layer4(network.layer3(network.layer2(network.layer1(maps))))
        return torch.flatten(network.avgpool(maps), 1)


BACKBONES: dict[str, Callable[[Backbone], Classifier]] = {
    "small": lambda parameters: SmallResNet(parameters.width),
    "occam": lambda parameters: OccamNet(parameters.width),
    "resnet18": lambda parameters: TorchvisionResNet("resnet18"),
    "resnet50": lambda parameters: TorchvisionResNet("resnet50"),
}


def new_backbone(parameters: Backbone, seed: int) -> Classifier:
    """Build the network that the parameters describe: random weights from `seed`, then those of the file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BACKBONES[parameters.name](parameters)
    if parameters.weights is not None:
        _load_pretrained(network, parameters)
    return network


def _load_pretrained(network: nn.Module, parameters: Backbone) -> None:
    """Load torchvision's weights, all but those of the last layer, from a file with a known sha256."""
    path, sha256 = parameters.weights, parameters.sha256
    assert path is not None and sha256 is not None
    refuse_another_file(path, sha256, "backbone.weights")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
        missing, unexpected = network.network.load_state_dict(weights, strict=False)  # type: ignore[union-attr]
    except Exception as error:  # torch raises a dozen kinds, which all mean that the file is no state_dict
        # Not torch's own message: it has many lines, and says how to run an unsafe file after all.
        raise UserError(
            f"backbone.weights: {path} is no state_dict of torchvision's {parameters.name}, readable as "
            f"tensors only ({type(error).__name__})."
        ) from error
    if set(missing) != {"fc.weight", "fc.bias"} or unexpected:
        raise UserError(f"backbone.weights: {path} is not a state_dict of torchvision's {parameters.name}.")


def save_network(folder: Path, network: nn.Module, parameters: Backbone, card: dict[str, Any]) -> None:
    """Commit a network's weights, and a card: the backbone's parameters, and the given entries."""
    # The file of pretrained weights is not part of the architecture: it may be gone later.
    backbone = parameters.model_dump(include={"name", "width"})
    _save(folder, network, {"backbone": backbone, **card})


def save_again(folder: Path, network: nn.Module, card: dict[str, Any], changes: dict[str, Any]) -> None:
    """Commit the weights of a network that `load_network` read, and its card with some entries changed."""
    _save(folder, network, card | changes)


def _save(folder: Path, network: nn.Module, card: dict[str, Any]) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # safetensors' own writing does not sync, and raises no OSError if the disk is full.
    with committed(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(weights))
    write_json(folder / CARD, card)


def load_network(folder: Path, device: torch.device = CPU) -> tuple[Classifier, dict[str, Any]]:
    """Read a network that `save_network` wrote, in evaluation mode, and its card."""
    return load_saved(folder, lambda backbone, card: BACKBONES[backbone.name](backbone), device)


def load_saved(
    folder: Path, make: Callable[[Backbone, dict[str, Any]], Network], device: torch.device = CPU
) -> tuple[Network, dict[str, Any]]:
    """Read a network and its card, as `save_network` wrote them.

    Args:
        folder: the folder.
        make: builds the network without its weights from the backbone's parameters and the card.
        device: where to load the network.

    Returns:
        The network in evaluation mode, without gradients, and its card.

    Raises:
        UserError: the folder holds no such network.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        with device:
            network = make(Backbone.model_validate(card["backbone"]), card)
        # Not mapped into memory: then an I/O error of the disk would kill the process without a message.
        network.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no classifier that zprime wrote: {' '.join(str(error).split())}."
        ) from error
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last), card
