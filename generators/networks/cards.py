"""A generator's card: its architecture and where it comes from, as JSON beside its weights."""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator

from pipeline.content.typed_files import StageFile, first_fault
from pipeline.errors import UserError

CARD = "card.json"
WeightsAlone = Literal["pgan", "dcgan"]  # kinds of generators that are weights alone, no programs
KINDS = ", ".join(get_args(WeightsAlone))
# What pydantic calls a value of another type -> the type that was expected.
EXPECTED = {"int_type": "int", "string_type": "str", "dict_type": "dict", "bool_type": "bool"}


class WeightsEntries(StageFile):
    """The entries of a card that describe weights, and say where they come from, as far as that is known.

    Old cards have no kind, and their sizes in the architecture alone.

    Attributes:
        kind: how it is loaded: a key of `GENERATORS`.
        latent_dim: D, the size of z.
        resolution: the side of the images, px.
        architecture: the arguments of the network that takes the weights.
        normalises_latents: whether it divides z by its length.
        made_by: who made it.
        parameters: of its training, as in params.yaml.
        sha256: of the weights.
        source: the file, function or data that it was made of.
        torch: the version that trained it.
        trained_on: the images that it was trained on.
    """

    model_config = ConfigDict(strict=True)

    kind: str = "pgan"
    latent_dim: int
    resolution: int
    architecture: dict[str, Any] = Field({})
    made_by: str = ""
    normalises_latents: bool = False
    parameters: dict[str, Any] = Field({})
    sha256: str = ""
    source: dict[str, Any] = Field({})
    torch: str = ""
    trained_on: dict[str, Any] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_an_old_card(cls, card: Any) -> Any:
        old = isinstance(card, dict) and "kind" not in card and isinstance(card.get("architecture"), dict)
        if not old:
            return card
        sizes = {name: card["architecture"].get(name) for name in ("latent_dim", "resolution")}
        return {**sizes, **card}

    def content(self) -> dict[str, Any]:
        """Return what is written: the entries that were given; whole numbers that are keys stay numbers."""
        return self.model_dump(exclude_unset=True)


class GeneratorCard(WeightsEntries):
    """out/generator/card.json: how a generator is loaded, and where it comes from.

    A kind of generator may have entries of its own besides these.

    Attributes:
        factory: of a function: its module and its name, "my_gan:make".
        file: of a program: its name in the folder.
    """

    model_config = ConfigDict(extra="allow")

    factory: str = ""
    file: str = ""


class CardOfWeights(WeightsEntries):
    """The card of weights from elsewhere: it may describe weights, but name nothing to run or open."""

    kind: WeightsAlone  # fewer than any card has
    architecture: dict[str, Any]


def read_card(folder: Path) -> GeneratorCard:
    """Read the card of the generator in a folder; a `UserError` says so if there is none."""
    try:
        return GeneratorCard.model_validate_json((folder / CARD).read_bytes())
    except OSError as error:
        raise UserError(f"{folder} holds no generator that zprime wrote: {error}.") from error
    except ValidationError as error:
        raise UserError(
            f"{folder} holds no generator that zprime wrote: {CARD}: {first_fault(error)}."
        ) from error


def read_card_of_weights(folder: Path) -> GeneratorCard:
    """Read the card of weights from elsewhere.

    Args:
        folder: of the weights and their card.

    Returns:
        The card.

    Raises:
        UserError: the card does not follow `CardOfWeights`.
    """
    path = folder / CARD
    try:
        card = CardOfWeights.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{folder} holds no generator that zprime wrote: {error}.") from error
    except ValidationError as error:
        raise UserError(_fault_of_weights(path, error)) from error
    return GeneratorCard.model_validate(card.content())


def _fault_of_weights(path: Path, error: ValidationError) -> str:
    """Say what is wrong first in a card from elsewhere."""
    first = error.errors(include_url=False)[0]
    key, found = next(iter(first["loc"]), None), first["input"]
    if key is None:
        return f"{path.parent} holds no generator that zprime wrote: {first_fault(error)}."
    if key == "kind":
        kind = None if first["type"] == "missing" else found
        return f"{path} is of kind {kind!r}; weights alone come in with their card: {KINDS}."
    if first["type"] == "missing":
        return f"{path} has no {key}."
    if first["type"] == "extra_forbidden":
        keys = ", ".join(CardOfWeights.model_fields)
        return f"{path} has {key!r}, which is no key of a card; these are: {keys}."
    return f"{path} has a {key} of type {type(found).__name__}, expected {EXPECTED[first['type']]}."
