"""docs/results/label_noise.json: what missing and wrong protected labels cost; the variants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.content.typed_files import FilePart, StageFile
from stages.reporting.text import Spread
from stages.shared.paths import LABEL_NOISE

Strategy = Literal["predicted", "left_out", "soft"]
STRATEGIES: tuple[Strategy, ...] = ("left_out", "predicted", "soft")
HIDDEN, FLIPPED = (0.5, 0.9), (0.05, 0.2)  # shares of the training images' protected labels


@dataclass(frozen=True)
class Variant:
    """How the protected labels of the training images are made worse, and what is done about it.

    Attributes:
        hidden: the share of the labels that are taken away.
        flipped: the share of the labels that are turned over.
        strategy: train.missing_labels; without hidden labels it has no effect.
    """

    hidden: float = 0.0
    flipped: float = 0.0
    strategy: Strategy = "predicted"


COMPLETE = "complete"  # the labels as the source has them
VARIANTS = {
    COMPLETE: Variant(),
    **{
        f"hidden_{share}_{strategy}": Variant(hidden=share, strategy=strategy)
        for share in HIDDEN
        for strategy in STRATEGIES
    },
    **{f"flipped_{share}": Variant(flipped=share) for share in FLIPPED},
}


class Measured(FilePart):
    """A recipe's trainings in a variant, on the original data, at the threshold 0.5 on test.

    Attributes:
        key: a digest of all that decides the figures.
        needs_labels: whether the recipe needs protected labels in training; if not, it is trained in the
            variant `complete` alone.
        worst_group_accuracy: of each seed, in [0, 1].
        accuracy: of each seed, in [0, 1].
    """

    key: str
    needs_labels: bool
    worst_group_accuracy: list[float]
    accuracy: list[float]

    @property
    def worst_group(self) -> Spread:
        """Mean and deviation (n - 1) of the worst-group accuracy; NaN for the deviation of one seed."""
        values = self.worst_group_accuracy
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


class VariantFigures(FilePart):
    """What was found in a variant.

    Attributes:
        hidden, flipped, strategy: see `Variant`.
        failed: why it could not be measured, a sentence; null if it could.
        recipes: by name.
    """

    hidden: float
    flipped: float
    strategy: Strategy
    failed: str | None
    recipes: dict[str, Measured]


class NoiseRecord(StageFile):
    """The figures of each variant, by the names of `VARIANTS`."""

    variants: dict[str, VariantFigures]

    def recipes(self, variant: str) -> Mapping[str, Measured]:
        """Return what was measured in a variant."""
        return self.variants[variant].recipes if variant in self.variants else {}

    def with_figures(self, name: str, found: Mapping[str, Measured], failed: str | None) -> "NoiseRecord":
        """Return the record with a variant's new figures beside, or in place of, its former ones."""
        variant = VARIANTS[name]
        figures = VariantFigures(
            hidden=variant.hidden,
            flipped=variant.flipped,
            strategy=variant.strategy,
            failed=failed,
            recipes={**self.recipes(name), **found},
        )
        return NoiseRecord(variants={**self.variants, name: figures})


def read_noise() -> NoiseRecord:
    """Read what is recorded; nothing where there is no record."""
    return NoiseRecord.read(LABEL_NOISE) if LABEL_NOISE.exists() else NoiseRecord(variants={})
