"""A generator's card: its architecture and where it comes from, as JSON beside its weights."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

CARD = "card.json"
WEIGHTS_ALONE = ("pgan", "dcgan")  # kinds of generators that are weights alone, no programs
NEEDED = ("latent_dim", "resolution", "architecture")
KEYS: dict[str, type] = {  # what a card of weights may say
    "kind": str,
    "latent_dim": int,
    "resolution": int,
    "architecture": dict,
    "made_by": str,
    "normalises_latents": bool,
    "parameters": dict,
    "sha256": str,  # of the weights
    "source": dict,
    "torch": str,
    "trained_on": dict,
}


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of the generator in a folder; `UserError` if there is no JSON object."""
    try:
        card = json.loads((folder / CARD).read_text())
        if not isinstance(card, dict):
            raise ValueError(f"{CARD} is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} holds no generator that zprime wrote: {error}.") from error
    return card


def read_card_of_weights(folder: Path) -> dict[str, Any]:
    """Read the card of weights from elsewhere: it may describe weights, but name nothing to run or open.

    Args:
        folder: of the weights and their card.

    Returns:
        The card.

    Raises:
        UserError: the card is of another kind than `WEIGHTS_ALONE`, lacks a key of `NEEDED`, or has a key or
            a type that `KEYS` does not have.
    """
    card, path = read_card(folder), folder / CARD
    if card.get("kind") not in WEIGHTS_ALONE:
        raise UserError(
            f"{path} is of kind {card.get('kind')!r}; weights alone come in with their card: "
            f"{', '.join(WEIGHTS_ALONE)}."
        )
    for key, value in card.items():
        if key not in KEYS:
            raise UserError(f"{path} has {key!r}, which is no key of a card; these are: {', '.join(KEYS)}.")
        if type(value) is not KEYS[key]:  # type(), not isinstance: a bool is no int here
            raise UserError(
                f"{path} has a {key} of type {type(value).__name__}, expected {KEYS[key].__name__}."
            )
    missing = [key for key in NEEDED if key not in card]
    if missing:
        raise UserError(f"{path} has no {missing[0]}.")
    return card
