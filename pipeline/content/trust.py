"""Judges whether a step's output may be trusted: judgements are printed, kept, and may stop the pipeline.

A stage measures figures, a pure function makes a `Judgement` of them, and `settle` prints it, writes it
beside the stage's output, and stops the run if the output is useless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.content.typed_files import StageFile
from pipeline.errors import UserError

TRUST = "trust.json"  # in the folder of a stage's output

Level = Literal["fine", "doubtful", "useless"]
LEVELS: tuple[Level, ...] = ("fine", "doubtful", "useless")  # from the best to the worst


@dataclass(frozen=True)
class Judgement:
    """States whether one step may be trusted.

    Attributes:
        step: what is judged, as it heads a row of the report: "labeller of Male".
        level: fine; doubtful (the results may suffer from it); useless (what follows would be noise).
        sentence: one sentence with the figure that decided.
        remedy: what to do, one sentence; empty if nothing is to be done.
        figures: name -> value that the level was decided by; None for a figure that is not known.
    """

    step: str
    level: Level
    sentence: str
    remedy: str
    figures: dict[str, int | float | None]  # of both: a count stays a whole number in the file


class Trust(StageFile):
    """trust.json: the judgements of one stage."""

    judgements: list[Judgement]


def worst_level(judgements: Sequence[Judgement]) -> Level:
    """Return the worst level of several judgements; "fine" if there are none."""
    return max((judgement.level for judgement in judgements), key=LEVELS.index, default="fine")


def settle(judgements: Sequence[Judgement], folder: Path, on_useless: Literal["stop", "go_on"]) -> None:
    """Print judgements, write them to `folder` as trust.json, and stop if one is useless.

    Args:
        judgements: of one stage.
        folder: the folder of the stage's output before it is published, so that a run that goes on with
            `go_on` finds its state.
        on_useless: the parameter of that name.

    Raises:
        UserError: a step is useless, and the run is to stop.
    """
    for judgement in judgements:
        advice = f" {judgement.remedy}" if judgement.remedy and judgement.level != "fine" else ""
        print(f"{judgement.level}: {judgement.step}: {judgement.sentence}{advice}", flush=True)
    Trust(judgements=list(judgements)).write(folder / TRUST)
    useless = [judgement for judgement in judgements if judgement.level == "useless"]
    if useless and on_useless == "stop":
        first = useless[0]
        raise UserError(
            f"{first.step} is useless: {first.sentence} {first.remedy} To go on all the same, set on_useless "
            "to go_on in params.yaml."
        )


def read_judgements(folder: Path) -> list[Judgement]:
    """Read the judgements that a stage wrote beside its output; an empty list if it wrote none."""
    path = folder / TRUST
    return Trust.read(path).judgements if path.is_file() else []
