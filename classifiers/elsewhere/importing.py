"""Brings in a classifier that was trained elsewhere, and loads it again from a run's folder.

A network of zprime's is weights alone: nothing is read but tensors and JSON. The function behind a factory
is a program and runs with all your rights: **name only one that you trust**. Its weights are read as tensors
only, from a file with a known sha256, and saved again as safetensors; the code is not copied.
"""

import json
from pathlib import Path
from textwrap import shorten

import torch
from pydantic import ValidationError
from safetensors.torch import load
from torch import Tensor, nn

from classifiers.elsewhere.adapted import Adapted, module_of
from classifiers.elsewhere.cards import ModuleCard, RunKey
from classifiers.elsewhere.parameters import AnyClassifier, MadeByFactory, TrainedByZprime
from classifiers.networks.backbones import BACKBONES, CARD, CPU, WEIGHTS, Classifier, load_network
from classifiers.networks.cards import RunCard, Source
from classifiers.networks.parameters import Backbone
from pipeline.content.elsewhere import first_line, refuse_another_file
from pipeline.errors import UserError

Card = RunCard | ModuleCard


def import_classifier(
    settings: AnyClassifier, where: str, run: RunKey, device: torch.device = CPU
) -> tuple[Classifier, Card]:
    """Bring in a classifier from elsewhere.

    Args:
        settings: what it is, and its weights.
        where: the parameter that has the settings, for errors.
        run: where it is to stand.
        device: where to put it.

    Returns:
        The network in evaluation mode, without gradients, and its card, with which `load_run`
        builds it again.

    Raises:
        UserError: a file is missing or another one, the function fails, or the weights do not fit.
    """
    if isinstance(settings, TrainedByZprime):
        refuse_another_file(settings.path, settings.sha256, f"{where}.path")
        network, card = _of_zprime(settings, where, run)
    else:
        refuse_another_file(settings.weights, settings.sha256, f"{where}.weights")
        network, card = _of_factory(settings, where, run)
    return _ready(network, device), card


def load_run(folder: Path, device: torch.device = CPU) -> tuple[Classifier, Card]:
    """Read the network of a run, trained here or elsewhere, in evaluation mode, and its card.

    Args:
        folder: of the run.
        device: where to load the network.

    Returns:
        The network, without gradients, and its card.

    Raises:
        UserError: the folder holds no such network, or the user's function has changed.
    """
    try:
        card = ModuleCard.model_validate_json((folder / CARD).read_bytes())
    except (OSError, ValidationError):
        return load_network(folder, RunCard, device)  # it says what is wrong
    network = Adapted(module_of(card.factory, str(folder / CARD)), card.last, str(folder / CARD))
    _put(network, _tensors(folder / WEIGHTS, str(folder)), f"{folder}: {WEIGHTS}")
    return _ready(network, device), card


def _of_zprime(settings: TrainedByZprime, where: str, run: RunKey) -> tuple[Classifier, Card]:
    """Build a network of zprime's; of its card, which is not trusted, only the backbone's name and width."""
    path = settings.path
    beside = path.parent / CARD
    try:
        backbone = Backbone.model_validate(json.loads(beside.read_text())["backbone"])
    except (OSError, ValueError, ValidationError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}.path: {beside} is no card of a network that zprime trained ({first_line(error)})."
        ) from error
    network = BACKBONES[backbone.name](backbone)
    _put(network, _tensors(path, f"{where}.path"), f"{where}.path: {path}")
    source = Source(file=path.name, sha256=settings.sha256)
    return network, RunCard(backbone=backbone, source=source, **run._asdict())


def _of_factory(settings: MadeByFactory, where: str, run: RunKey) -> tuple[Classifier, Card]:
    module = module_of(settings.factory, f"{where}.factory")
    _put(module, _tensors(settings.weights, f"{where}.weights"), f"{where}.weights: {settings.weights}")
    source = Source(file=settings.weights.name, sha256=settings.sha256)
    card = ModuleCard(factory=settings.factory, last=settings.last, source=source, **run._asdict())
    return Adapted(module, settings.last, f"{where}.last"), card


def _tensors(path: Path, where: str) -> dict[str, Tensor]:
    """Read a state_dict as tensors only: safetensors, or else what `torch.save` wrote."""
    try:
        # Not mapped into memory: then an I/O error of the disk would kill the process without a message.
        if path.suffix == ".safetensors":
            return load(path.read_bytes())
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict) or not all(isinstance(of, Tensor) for of in weights.values()):
            raise TypeError("it holds something else")
    except Exception as error:  # torch raises a dozen kinds, which all mean that the file is no state_dict
        # Not torch's own message: it has many lines, and says how to run an unsafe file after all.
        raise UserError(
            f"{where}: {path} is no state_dict, readable as tensors only ({type(error).__name__})."
        ) from error
    return weights


def _put(network: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{what} does not fit its network: {shorten(str(error), 300, placeholder=' ...')}"
        ) from error


def _ready(network: Classifier, device: torch.device) -> Classifier:
    return network.eval().requires_grad_(False).to(device)
