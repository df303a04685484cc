"""The card of a module that a function of the user's own code makes."""

from typing import Any, NamedTuple

from classifiers.networks.cards import Source
from pipeline.content.typed_files import StageFile


class RunKey(NamedTuple):
    """Identifies a run: where it stands under out/runs."""

    data: str
    recipe: str
    seed: int


class ModuleCard(StageFile):
    """out/runs/elsewhere/NAME/0/card.json, where the network is none of zprime's.

    Attributes:
        factory: the function that makes it, as module:function.
        last: the name of its last linear layer, or null.
        source: the file that its weights were in.
        data: elsewhere.
        recipe: its name; of a finished network a + and the finish behind it.
        seed: 0.
        finish: of a finished network: what the finish chose, such as the strength of its regularisation.
    """

    factory: str
    last: str | None
    source: Source
    data: str
    recipe: str
    seed: int
    finish: dict[str, Any] | None = None

    def content(self) -> dict[str, Any]:
        """Return what is written: the entries that were given."""
        return self.model_dump(mode="json", exclude_unset=True)
