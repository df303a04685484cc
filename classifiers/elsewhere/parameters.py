"""The classifiers that stage load_classifier can bring in, and the parameters of each."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.parameters import Parameters


class Brought(Parameters):
    """Says which file a classifier from elsewhere has its weights in, and which images it takes."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # of the file with the weights
    resolution: int = Field(ge=1)  # px, of the images that it was trained on; as prepare.resolution


class TrainedByZprime(Brought):
    """A network that zprime trained elsewhere: its weights, with card.json beside them."""

    name: Literal["zprime"]
    path: Path  # network.safetensors


class MadeByFactory(Brought):
    """A torch module that a function of your own code returns, called without arguments."""

    name: Literal["factory"]
    factory: str = Field(pattern=r"^[\w.]+:\w+$")  # module:function
    weights: Path  # its state_dict, as safetensors or saved by torch.save
    last: str | None = None  # the module's name of its last linear layer; finishes need it


AnyClassifier = Annotated[TrainedByZprime | MadeByFactory, Field(discriminator="name")]
RecipeName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class LoadClassifier(Parameters):
    """Says which classifiers from elsewhere stand in the tables beside those that are trained here.

    Attributes:
        names: keys of `definitions`.
        definitions: all classifiers by name; each is a recipe's name in the tables.
    """

    names: list[str] = []
    definitions: dict[RecipeName, AnyClassifier] = {}

    @model_validator(mode="after")
    def _names_are_defined(self) -> "LoadClassifier":
        unknown = [name for name in self.names if name not in self.definitions]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not defined: load_classifier.definitions has no such key")
        return self
