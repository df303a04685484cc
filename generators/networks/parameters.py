"""The generators that stage load_gan can bring in, and the parameters of each."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
)

from pipeline.parameters import Parameters


class FromFile(Parameters):
    """Loads a generator from a file.

    Attributes:
        path: the file.
        sha256: the digest that the file must have, in hexadecimal.
    """

    name: str
    path: Path
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class OfZprime(FromFile):
    """Loads weights that zprime saved: the file generator.safetensors, with its card.json beside it."""

    name: Literal["zprime"] = "zprime"


class GANZoo(FromFile):
    """Loads a checkpoint of pytorch_GAN_zoo.

    Attributes:
        network: netG, or avgG, the average of the training's netG.
    """

    name: Literal["gan_zoo"] = "gan_zoo"
    network: Literal["avgG", "netG"] = "avgG"


class TorchScript(FromFile):
    """Loads a program that torch.jit saved.

    Attributes:
        latent_dim: the size of z; None: found out.
    """

    name: Literal["torchscript"] = "torchscript"
    latent_dim: int | None = Field(None, ge=1)


class Exported(FromFile):
    """Loads a program that torch.export saved.

    Attributes:
        latent_dim: the size of z; None: found out.
    """

    name: Literal["exported"] = "exported"
    latent_dim: int | None = Field(None, ge=1)


class Factory(Parameters):
    """Calls a function of the user's own, without arguments, that returns the same generator each time.

    Attributes:
        factory: where the function is, as module:function.
        latent_dim: the size of z; None: found out.
    """

    name: Literal["factory"] = "factory"
    factory: str = Field(pattern=r"^[\w.]+:\w+$")
    latent_dim: int | None = Field(None, ge=1)


# One entry for each generator of `stages/load_gan.py` (IMPORTERS).
LoadGAN = Annotated[OfZprime | GANZoo | TorchScript | Exported | Factory, Field(discriminator="name")]
