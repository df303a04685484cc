"""A generator's card: its architecture and where it comes from, as JSON beside its weights."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

CARD = "card.json"


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the generator in a folder; `UserError` where there is none."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no generator that zprime wrote: {error}.") from error
    return card
