"""A generator on disk: its weights or its program in a folder, beside the card that says how to load it.

A kind of generator is an entry of `GENERATORS`: a function from (folder, card, device) to a callable on z
with the properties `latent_dim` and `resolution`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from generators.networks.cards import CARD, GeneratorCard, read_card, read_card_of_weights
from generators.networks.dcgan import DCGANGenerator
from generators.networks.files import refuse_another_file
from generators.networks.parameters import OfZprime
from generators.networks.programs import FILES, Program, open_exported, open_factory, open_torchscript
from generators.networks.progressive import Generator
from pipeline.content.files import committed, sha256_of_file
from pipeline.errors import UserError

WEIGHTS = "generator.safetensors"


class LoadedGenerator(Protocol):
    """Maps z [n, latent_dim] to images [n, 3, resolution, resolution] in [-1, 1]."""

    @property
    def latent_dim(self) -> int:
        """The size D of z."""

    @property
    def resolution(self) -> int:
        """The side of the images, px."""

    def __call__(self, z: Tensor) -> Tensor:
        """Render latents z."""


Load = Callable[[Path, GeneratorCard, torch.device], LoadedGenerator]


def save_weights(folder: Path, generator: nn.Module) -> None:
    """Write the weights of one of zprime's own networks to a folder, all or nothing."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    # safetensors' own save_file does not sync, and raises no OSError if the disk is full.
    with committed(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(weights))


def save_generator(folder: Path, generator: nn.Module, card: GeneratorCard) -> None:
    """Write a generator's weights, and its card beside them.

    Args:
        folder: where to write.
        generator: one of zprime's own networks.
        card: its card, with the architecture; the sha256 of the weights is added.
    """
    save_weights(folder, generator)
    card.model_copy(update={"sha256": sha256_of_file(folder / WEIGHTS)}).write(folder / CARD)


def import_generator(section: OfZprime, output: Path, device: torch.device) -> GeneratorCard:
    """Copy weights that zprime saved elsewhere; nothing is read but tensors and JSON.

    Args:
        section: the path and sha256 of the weights; their card lies beside them.
        output: the folder to copy them to.
        device: not used, as weights go from file to file.

    Returns:
        The card.

    Raises:
        UserError: the file is not the one that the parameters name, or has no card of its own.
    """
    refuse_another_file(section.path, section.sha256)
    card = read_card_of_weights(section.path.parent)  # not trusted: the sha256 is that of the weights alone
    if (card.sha256 or section.sha256) != section.sha256:
        raise UserError(
            f"load_gan.path: {section.path} has sha256 {section.sha256}, and the card beside it is of "
            f"weights with sha256 {card.sha256}."
        )
    with committed(output / WEIGHTS) as temporary:
        shutil.copyfile(section.path, temporary)
    return card


def load_generator(folder: Path, device: torch.device) -> LoadedGenerator:
    """Load the generator in a folder, in evaluation mode, without gradients.

    If it is a program, it runs with all your rights (`generators/networks/programs.py`).

    Args:
        folder: the generator's.
        device: where to put it.

    Returns:
        The generator.

    Raises:
        UserError: the folder holds no generator that zprime wrote.
    """
    card = read_card(folder)
    try:
        load_kind = GENERATORS[card.kind]
        return load_kind(folder, card, device)
    except (
        OSError, AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{folder} holds no generator that zprime wrote: {' '.join(str(error).split())}."
        ) from error


def _load_pgan(folder: Path, card: GeneratorCard, device: torch.device) -> LoadedGenerator:
    """Load a progressive GAN: contiguous if it is one of pytorch_GAN_zoo, else in channels_last."""
    architecture = dict(card.architecture)
    channels = {int(size): width for size, width in architecture.pop("channels").items()}
    with device:  # drawing the initial weights, which are replaced, is faster there
        generator = Generator(channels=channels, **architecture)
    _take_weights(generator, folder)
    layout = torch.contiguous_format if generator.scales_bias else torch.channels_last
    generator.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return generator


def _load_dcgan(folder: Path, card: GeneratorCard, device: torch.device) -> LoadedGenerator:
    generator = DCGANGenerator(**card.architecture)
    _take_weights(generator, folder)
    generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator


def _take_weights(generator: nn.Module, folder: Path) -> None:
    # Not mapped into memory: an I/O error of the disk would then kill the process without a message.
    generator.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    generator.eval().requires_grad_(False)


def _load_torchscript(folder: Path, card: GeneratorCard, device: torch.device) -> LoadedGenerator:
    opened = open_torchscript(folder / FILES["torchscript"], device)
    return Program(opened.call, card.latent_dim, card.resolution)


def _load_exported(folder: Path, card: GeneratorCard, device: torch.device) -> LoadedGenerator:
    opened = open_exported(folder / FILES["exported"], device)
    return Program(opened.call, card.latent_dim, card.resolution)


def _load_factory(folder: Path, card: GeneratorCard, device: torch.device) -> LoadedGenerator:
    opened = open_factory(card.factory, device)
    return Program(opened.call, card.latent_dim, card.resolution)


GENERATORS: dict[str, Load] = {  # by the card's `kind`
    "pgan": _load_pgan,
    "dcgan": _load_dcgan,
    "torchscript": _load_torchscript,
    "exported": _load_exported,
    "factory": _load_factory,
}
