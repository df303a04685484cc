"""A generator on disk: its weights or its program in a folder, beside the card that says how to load it.

A kind of generator is a function from (folder, card, device) to something with `latent_dim` and
`resolution` that is called with z, and a line in `GENERATORS`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from generators.cards import CARD, read_card
from generators.dcgan import DCGANGenerator
from generators.files import refuse_another_file
from generators.networks import Generator
from generators.programs import Program, open_exported, open_factory, open_torchscript
from pipeline.errors import UserError
from pipeline.parameters import LoadGAN
from pipeline.stores import write_json

WEIGHTS = "generator.safetensors"


class LoadedGenerator(Protocol):
    """z [n, latent_dim] to images [n, 3, resolution, resolution] in [-1, 1]."""

    @property
    def latent_dim(self) -> int: ...

    @property
    def resolution(self) -> int: ...

    def __call__(self, z: Tensor) -> Tensor: ...


Load = Callable[[Path, dict[str, Any], torch.device], LoadedGenerator]


def save_weights(folder: Path, generator: nn.Module) -> None:
    """Write the weights of a network of zprime's own."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    save_file(weights, folder / WEIGHTS)


def save_generator(folder: Path, generator: nn.Module, card: dict[str, Any]) -> None:
    """Write a generator's weights, and a card: its architecture under "architecture", and what else."""
    save_weights(folder, generator)
    write_json(folder / CARD, card)


def import_generator(section: LoadGAN, output: Path, device: torch.device) -> dict[str, Any]:
    """Copy weights that zprime saved elsewhere; the card beside them. Reads nothing but tensors and JSON.

    Raises `UserError` where the file is another than the parameters name, or has no card.
    """
    assert section.path is not None and section.sha256 is not None  # the schema asks for both
    refuse_another_file(section.path, section.sha256)
    card = read_card(section.path.parent)
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(section.path, output / WEIGHTS)
    return card


def load_generator(folder: Path, device: torch.device) -> LoadedGenerator:
    """Read the generator in a folder: in evaluation mode, without gradients.

    A program among the kinds runs with all your rights (`generators/programs.py`).

    Raises `UserError` where the folder holds none that zprime wrote.
    """
    card = read_card(folder)
    try:
        load = GENERATORS[card.get("kind", "pgan")]  # old cards have no kind
        return load(folder, card, device)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no generator that zprime wrote: {' '.join(str(error).split())}."
        ) from error


def _load_pgan(folder: Path, card: dict[str, Any], device: torch.device) -> LoadedGenerator:
    architecture = dict(card["architecture"])
    channels = {int(size): width for size, width in architecture.pop("channels").items()}
    generator = Generator(channels=channels, **architecture)
    _take_weights(generator, folder)
    layout = torch.contiguous_format if generator.scales_bias else torch.channels_last
    return generator.to(device=device, memory_format=layout)  # type: ignore[call-overload]


def _load_dcgan(folder: Path, card: dict[str, Any], device: torch.device) -> LoadedGenerator:
    generator = DCGANGenerator(**card["architecture"])
    _take_weights(generator, folder)
    return generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _take_weights(generator: nn.Module, folder: Path) -> None:
    generator.load_state_dict(load_file(folder / WEIGHTS))
    generator.eval().requires_grad_(False)


def _load_torchscript(folder: Path, card: dict[str, Any], device: torch.device) -> LoadedGenerator:
    opened = open_torchscript(folder / card["file"], device)
    return Program(opened.call, card["latent_dim"], card["resolution"])


def _load_exported(folder: Path, card: dict[str, Any], device: torch.device) -> LoadedGenerator:
    opened = open_exported(folder / card["file"], device)
    return Program(opened.call, card["latent_dim"], card["resolution"])


def _load_factory(folder: Path, card: dict[str, Any], device: torch.device) -> LoadedGenerator:
    opened = open_factory(card["factory"], device)
    return Program(opened.call, card["latent_dim"], card["resolution"])


GENERATORS: dict[str, Load] = {  # by the card's `kind`
    "pgan": _load_pgan,
    "dcgan": _load_dcgan,
    "torchscript": _load_torchscript,
    "exported": _load_exported,
    "factory": _load_factory,
}
