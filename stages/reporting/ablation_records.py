"""The schema of docs/results/ablations.json."""

from typing import Any, ClassVar

from pipeline.content.typed_files import FileOf, FilePart, Share
from stages.shared.paths import ABLATIONS


class MeanAndStd(FilePart):
    """A figure over the seeds: its mean and its standard deviation (n - 1); null for what is not known."""

    mean: float | None
    std: float | None


class JudgedMoves(FilePart):
    """What the judges say of the complements that were moved into the rarest group.

    Attributes:
        pairs: how many complements.
        flipped, kept: shares of them that flipped what they should, and kept the rest.
        label_noise: data set -> the share of wrong labels in the group.
    """

    pairs: int
    flipped: Share
    kept: Share
    label_noise: dict[str, Share]


class VariantFigures(FilePart):
    """The figures of a variant that did not fail.

    Attributes:
        data: data set -> recipe -> metric -> figure.
        rarest: the name of the rarest group.
        images: the synthetic images of each group, by its name.
        distinct: how many different images are among as many plain G(z).
        judged: of the rarest group; null without judges.
    """

    data: dict[str, dict[str, dict[str, MeanAndStd]]]
    rarest: str
    images: dict[str, int]
    distinct: dict[str, int]
    judged: JudgedMoves | None


class AblationRecord(FilePart):
    """A variant, and what was measured of it: the entries of `VariantFigures`, missing if it failed.

    Attributes:
        name: a key of `VARIANTS`.
        about: what it is.
        against: the variant that it is held against.
        changes: its changes of params.yaml, by dotted name.
        recipes, seeds: that its classifiers were trained with.
        key: a digest of all that decides the figures; null if the variant cannot be made.
        failed: why it failed, a sentence; null if it did not.
    """

    name: str
    about: str
    against: str | None
    changes: dict[str, Any]
    recipes: list[str]
    seeds: list[int]
    key: str | None
    failed: str | None
    data: dict[str, dict[str, dict[str, MeanAndStd]]] | None = None
    rarest: str | None = None
    images: dict[str, int] | None = None
    distinct: dict[str, int] | None = None
    judged: JudgedMoves | None = None

    @property
    def figures(self) -> VariantFigures:
        """What was measured."""
        return VariantFigures(**{name: getattr(self, name) for name in VariantFigures.model_fields})

    def measured(self, figures: VariantFigures) -> "AblationRecord":
        """Return the record with what was measured."""
        return self.model_copy(update=dict(figures))


class Ablations(FileOf[list[AblationRecord]]):
    """docs/results/ablations.json: the variants that were tried, in the order of `VARIANTS`."""

    MADE_BY: ClassVar[str] = "zprime ablations"


def recorded() -> list[AblationRecord]:
    """Read the records that exist."""
    return Ablations.read(ABLATIONS).root if ABLATIONS.exists() else []
