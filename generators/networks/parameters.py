"""Parameters of a generator to load."""

from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    model_validator,
)

from pipeline.parameters import Parameters


class LoadGAN(Parameters):
    kind: Literal["zprime", "gan_zoo", "torchscript", "exported", "factory"]
    path: Path | None = None  # the file; of zprime, out/generator/generator.safetensors with its card.json
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")  # of that file
    network: Literal["avgG", "netG"] = "avgG"  # gan_zoo: avgG is the average of the training's netG
    factory: str | None = Field(
        None, pattern=r"^[\w.]+:\w+$"
    )  # module:function; the same generator each time
    latent_dim: int | None = Field(None, ge=1)  # torchscript, factory: D of z; null: found out

    @model_validator(mode="after")
    def _the_generator_is_named(self) -> "LoadGAN":
        if self.kind == "factory" and self.factory is None:
            raise ValueError("kind factory needs factory, as in my_module:my_function")
        if self.kind != "factory" and (self.path is None or self.sha256 is None):
            raise ValueError(f"kind {self.kind} needs the path of a file and its sha256")
        return self
