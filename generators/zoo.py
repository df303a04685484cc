"""Checkpoints of facebookresearch/pytorch_GAN_zoo (PGAN and DCGAN), read into zprime's own networks.

A checkpoint is a `torch.save` file of a dict: `config`, an object of the class `CONFIG_CLASS`; `netG`, `netD`
and mostly `avgG` (the average of netG), state dicts; sometimes `tmp`. The file is read as tensors only, and
what its config says of the network is checked against them.

Source: models/ of the repository, in particular networks/progressive_conv_net.py, networks/custom_layers.py
and networks/DCGAN_nets.py.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from generators.networks.cards import GeneratorCard
from generators.networks.dcgan import DCGANGenerator
from generators.networks.files import Record, read_tensors, refuse_another_file
from generators.networks.loading import save_weights
from generators.networks.parameters import GANZoo
from generators.networks.progressive import EqualizedConv2d, EqualizedLinear, Generator, resolutions_up_to
from pipeline.errors import UserError
from pipeline.parameters import sentence_of

CONFIG_CLASS = "models.utils.config.BaseConfig"

# The values that zprime's PGAN is built for; they are also pytorch_GAN_zoo's defaults.
PGAN_VALUES = {
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
    "alpha": 0,  # of the fade-in: 0 after it has ended
    "dimOutput": 3,  # RGB
    "lossCriterion": "WGANGP",  # the other losses put a tanh behind the last layer
}
DCGAN_TANH = {"DCGAN": True, "MSE": True, "WGANGP": False}  # by lossCriterion: is there a tanh?

Size = Annotated[int, Field(ge=1, le=2**16, strict=True)]


class _Config(BaseModel):
    """Describes the part of a config that gives the network's shape, under the names that checkpoints use."""

    model_config = ConfigDict(extra="ignore")

    latent_dim: Size = Field(alias="latentVectorDim")  # noise and, of a conditional GAN, categories
    categories: int = Field(0, alias="categoryVectorDim", ge=0, strict=True)


class PGANConfig(_Config):
    """Describes the config of a progressive GAN."""

    first_width: Size = Field(alias="depthScale0")  # channels at 4 px
    other_widths: list[Size] = Field(alias="depthOtherScales", max_length=8)  # at 8 px, 16 px ... 1024 px
    equalized: bool = Field(True, alias="equalizedlR", strict=True)


class DCGANConfig(_Config):
    """Describes the config of a DCGAN."""

    width: Size = Field(alias="dimG")
    depth: int = Field(alias="depth", ge=0, le=7, strict=True)


def import_checkpoint(section: GANZoo, folder: Path, device: torch.device) -> GeneratorCard:
    """Write a checkpoint's generator into `folder` as one of zprime's networks.

    Args:
        section: the checkpoint's path and sha256, and which of its networks to take.
        folder: where to write the weights.
        device: not used, as weights go from file to file.

    Returns:
        The generator's card.

    Raises:
        UserError: the file is not the expected one, cannot be read, or holds no such network.
    """
    path = section.path
    refuse_another_file(path, section.sha256)
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint.get(section.network), dict):
        held = [name for name in ("avgG", "netG") if isinstance(checkpoint.get(name), dict)]
        raise UserError(
            f"load_gan.network: {path} has no {section.network}; it has {' and '.join(held) or 'neither'}."
        )
    state = _State(checkpoint[section.network], f"load_gan.path: {section.network} of {path}")
    config = vars(checkpoint["config"])
    if "depthScale0" not in config and "dimG" not in config:
        raise UserError(
            f"{state.name} is neither a PGAN nor a DCGAN: its config has no depthScale0 and no dimG."
        )
    kind, make = ("pgan", _pgan) if "depthScale0" in config else ("dcgan", _dcgan)
    network, architecture = make(config, state)
    save_weights(folder, network)
    return GeneratorCard(
        kind=kind,
        latent_dim=network.latent_dim,
        resolution=network.resolution,
        architecture=architecture,
        source={"file": path.name, "sha256": section.sha256, "network": section.network},
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as tensors, plain values, and a `Record` for its config.

    Args:
        path: the file.

    Returns:
        The checkpoint's content.

    Raises:
        UserError: the file cannot be read as tensors only, or has no config.
    """
    checkpoint = read_tensors(path, CONFIG_CLASS)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("config"), Record):
        raise UserError(f"load_gan.path: {path} is no checkpoint of pytorch_GAN_zoo: it has no config.")
    return checkpoint


class _State:
    """Holds a state dict of the checkpoint, from which a network's tensors are taken one by one.

    Args:
        tensors: by name; the part "module" of a name is a wrapper's (DataParallel, an equalised layer) and is
            left out.
        name: what error sentences call it.
    """

    def __init__(self, tensors: Mapping[Any, Any], name: str) -> None:
        self.name = name
        self._left = {_without_wrappers(str(key)): value for key, value in tensors.items()}

    def take(self, key: str, shape: torch.Size) -> Tensor:
        """Take out the tensor of this name as float32; `UserError` unless it has the shape given."""
        tensor = self._left.pop(key, None)
        # A tensor that is not on the CPU may have no data (device meta).
        if not isinstance(tensor, Tensor) or tensor.device.type != "cpu" or not tensor.is_floating_point():
            raise UserError(f"{self.name} has no tensor {key} of floats.")
        if tensor.shape != shape:
            raise UserError(
                f"{self.name} has {key} of shape {list(tensor.shape)}; its config implies {list(shape)}."
            )
        return tensor.float()

    def finish(self) -> None:
        """Raise `UserError` if tensors are left: then the checkpoint holds another network."""
        left = [key for key in self._left if not key.endswith(".num_batches_tracked")]
        if left:
            raise UserError(f"{self.name} has a tensor that its config does not imply: {left[0]}.")


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part != "module")


def _parsed_config(config_class: type[Any], config: Mapping[str, Any], state: _State) -> Any:
    try:
        return config_class.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{state.name}: its config"
        if first["type"] == "missing":
            raise UserError(f"{where} has no {first['loc'][0]}.") from error
        raise UserError(sentence_of(error, where)) from error


def _refuse_conditional(shape: _Config, state: _State) -> None:
    if shape.categories:
        raise UserError(
            f"{state.name} is conditional: {shape.categories} of its {shape.latent_dim} latent numbers are "
            "codes of categories (categoryVectorDim), and zprime draws all of them as normal noise."
        )


def _pgan(config: Mapping[str, Any], state: _State) -> tuple[Generator, dict[str, Any]]:
    """Build the progressive GAN as zprime's `Generator`.

    zprime's layers multiply weights and biases by a scale. If the checkpoint's layers are not equalised, its
    values are divided by that scale first.

    Args:
        config: the checkpoint's.
        state: the network's tensors.

    Returns:
        The network, and the arguments that it was made with.

    Raises:
        UserError: the config has values that zprime's network is not built for, or does not fit the tensors.
    """
    for key, wanted in PGAN_VALUES.items():
        value = config.get(key, wanted)
        if not isinstance(value, bool | int | float | str) or value != wanted:
            raise UserError(
                f"{state.name} is a PGAN of {key} {_short(value)}; zprime can read those of {key} {wanted!r}."
            )
    shape = _parsed_config(PGANConfig, config, state)
    _refuse_conditional(shape, state)
    widths = [shape.first_width, *shape.other_widths]
    resolution = 4 * 2 ** len(shape.other_widths)
    channels = dict(zip(resolutions_up_to(resolution), widths, strict=True))
    with torch.device("meta"):  # shapes alone: the weights come from the file
        network = Generator(shape.latent_dim, resolution, channels, scales_bias=True)
    for key, layer in _pgan_layers(network):
        weight = state.take(f"{key}.weight", layer.weight.shape)
        assert layer.bias is not None
        bias = state.take(f"{key}.bias", layer.bias.shape)
        divisor = 1.0 if shape.equalized else layer.scale
        layer.weight, layer.bias = nn.Parameter(weight / divisor), nn.Parameter(bias / divisor)
    state.finish()
    architecture = {
        "latent_dim": shape.latent_dim,
        "resolution": resolution,
        "channels": channels,
        "scales_bias": True,
    }
    return network, architecture


def _pgan_layers(network: Generator) -> Iterator[tuple[str, EqualizedConv2d | EqualizedLinear]]:
    """Yield every layer of the network with its name in pytorch_GAN_zoo."""
    yield "formatLayer", network.first
    yield "groupScale0.0", network.first_conv
    for k, block in enumerate(network.blocks):
        yield f"scaleLayers.{k}.0", block.first  # type: ignore[misc]
        yield f"scaleLayers.{k}.1", block.second  # type: ignore[misc]
    for k, layer in enumerate(network.to_rgb):
        yield f"toRGBLayers.{k}", layer  # type: ignore[misc]


def _dcgan(config: Mapping[str, Any], state: _State) -> tuple[DCGANGenerator, dict[str, Any]]:
    """Build the DCGAN as zprime's `DCGANGenerator`.

    Args:
        config: the checkpoint's.
        state: the network's tensors.

    Returns:
        The network, and the arguments that it was made with.

    Raises:
        UserError: the config has values that zprime's network is not built for, or does not fit the tensors.
    """
    loss, channels = config.get("lossCriterion"), config.get("dimOutput", 3)
    if not isinstance(loss, str) or loss not in DCGAN_TANH:
        raise UserError(
            f"{state.name} is a DCGAN of lossCriterion {_short(loss)}; zprime can read those of "
            f"{', '.join(DCGAN_TANH)}."
        )
    if not isinstance(channels, int) or channels != 3:
        raise UserError(
            f"{state.name} is a DCGAN of dimOutput {_short(channels)}; zprime can read those of 3."
        )
    shape = _parsed_config(DCGANConfig, config, state)
    _refuse_conditional(shape, state)
    architecture = {
        "latent_dim": shape.latent_dim,
        "width": shape.width,
        "depth": shape.depth,
        "tanh": DCGAN_TANH[loss],
    }
    with torch.device("meta"):  # shapes alone: the weights come from the file
        network = DCGANGenerator(**architecture)
    expected = network.state_dict()
    tensors = {key: state.take(name, expected[key].shape) for key, name in _dcgan_names(shape.depth)}
    state.finish()
    network.load_state_dict(tensors, assign=True)
    return network, architecture


def _dcgan_names(depth: int) -> Iterator[tuple[str, str]]:
    """Yield, for every tensor, its name in zprime's network and its name in pytorch_GAN_zoo's."""
    yield "convolutions.0.weight", "formatLayer.weight"
    for k in range(1, depth + 1):
        yield f"convolutions.{k}.weight", f"main.convTranspose{k}.weight"
    yield f"convolutions.{depth + 1}.weight", "main.outlayer.weight"
    for k in range(depth + 1):
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"norms.{k}.{name}", f"main.batchNorm{k}.{name}"


def _short(value: Any) -> str:
    """Write a value of a foreign config, at most 40 characters of it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:40]}…"
