"""The cards of classifiers: JSON beside the weights, what a network is and what goes with it."""

from typing import Any

from classifiers.networks.parameters import Backbone
from pipeline.content.typed_files import FilePart, StageFile

NOT_SAVED = {"weights", "sha256"}  # the file of the first weights is no part of the architecture


class Source(FilePart):
    """The file that the weights of a network from elsewhere were in.

    Attributes:
        file: its name.
        sha256: its digest.
    """

    file: str
    sha256: str


class NetworkCard(StageFile):
    """The card of any classifier.

    Attributes:
        backbone: the network's `name` and `width`.
    """

    backbone: Backbone

    def content(self) -> dict[str, Any]:
        """Return what is written: the entries that were given, without the file of the first weights."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return {**given, "backbone": self.backbone.model_dump(mode="json", exclude=NOT_SAVED)}


class JudgeCard(NetworkCard):
    """out/judges/ATTRIBUTE/card.json.

    Attributes:
        attribute: what it tells.
        threshold: scores from it on are label 1.
    """

    attribute: str
    threshold: float


class LabellerCard(JudgeCard):
    """out/attributes/ATTRIBUTE/card.json.

    Attributes:
        threshold: of the labeller.
        thresholds: of the labeller, then of each half's checkers.
        halves: of each network: null where it labels, else the half of the images that it checks for.
        prior: the share of label 1 that its scores are calibrated to.
        real_share: the share of label 1 among the real training images.
    """

    thresholds: list[float]
    halves: list[int | None]
    prior: float
    real_share: float


class RunCard(NetworkCard):
    """out/runs/DATA/RECIPE/SEED/card.json.

    Attributes:
        data: what it was trained on.
        recipe: how; of a finished network its recipe, a + and the finish.
        seed: of its training.
        finish: of a finished network: what the finish chose, such as the strength of its regularisation.
        source: of a network from elsewhere: the file that its weights were in.
    """

    data: str
    recipe: str
    seed: int
    finish: dict[str, Any] | None = None
    source: Source | None = None
