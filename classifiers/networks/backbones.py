"""Networks that map images [n, 3, H, W] in [-1, 1] to one logit [n]."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from classifiers.networks.cards import NetworkCard
from classifiers.networks.occam import OccamNet
from classifiers.networks.parameters import Backbone
from classifiers.networks.small import Classifier as Classifier
from classifiers.networks.small import SmallResNet as SmallResNet
from pipeline.content.elsewhere import refuse_another_file
from pipeline.content.files import committed
from pipeline.content.typed_files import StageFile, first_fault
from pipeline.errors import UserError

WEIGHTS = "network.safetensors"
CARD = "card.json"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CPU = torch.device("cpu")

Network = TypeVar("Network", bound=nn.Module)
Card = TypeVar("Card", bound=NetworkCard)


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


def save_network(folder: Path, network: nn.Module, card: StageFile) -> None:
    """Commit a network's weights, and its card."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # safetensors' own writing does not sync, and raises no OSError if the disk is full.
    with committed(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(weights))
    card.write(folder / CARD)


def load_network(folder: Path, schema: type[Card], device: torch.device = CPU) -> tuple[Classifier, Card]:
    """Read a network that `save_network` wrote, in evaluation mode, and its card."""
    return load_saved(folder, schema, lambda card: BACKBONES[card.backbone.name](card.backbone), device)


def load_saved(
    folder: Path, schema: type[Card], make: Callable[[Card], Network], device: torch.device = CPU
) -> tuple[Network, Card]:
    """Read a network and its card, as `save_network` wrote them.

    Args:
        folder: the folder.
        schema: of the card.
        make: builds the network without its weights from the card.
        device: where to load the network.

    Returns:
        The network in evaluation mode, without gradients, and its card.

    Raises:
        UserError: the folder holds no such network.
    """
    try:
        card = schema.model_validate_json((folder / CARD).read_bytes())
        with device:
            network = make(card)
        # Not mapped into memory: then an I/O error of the disk would kill the process without a message.
        network.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except ValidationError as error:
        raise UserError(
            f"{folder} holds no classifier that zprime wrote: {CARD}: {first_fault(error)}."
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no classifier that zprime wrote: {' '.join(str(error).split())}."
        ) from error
    network.eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last), card
