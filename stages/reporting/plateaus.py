"""Trainings that ended on their plateau: they have learned nothing, so they are no results.

`train` judges each run (`pipeline.content.trust`); `evaluate` leaves out the useless ones, and names them in
out/evaluation/plateaus.json, which the pages read.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.content.files import write_json
from pipeline.content.trust import read_judgements

PLATEAUS = "plateaus.json"  # in out/evaluation


@dataclass(frozen=True)
class Plateau:
    """A run that is left out of every result.

    Attributes:
        data, recipe, seed: identify the run.
        sentence: the reason, with its figure.
    """

    data: str
    recipe: str
    seed: int
    sentence: str

    @property
    def key(self) -> tuple[str, str, int]:
        """Data set, recipe and seed."""
        return self.data, self.recipe, self.seed


def plateaus_of(runs: Iterable[tuple[str, str, int]], folder: Path) -> list[Plateau]:
    """Find the runs that are judged useless.

    Args:
        runs: data set, recipe and seed of each.
        folder: of DATA/RECIPE/SEED/.

    Returns:
        those that are useless, in the same order.
    """
    found = []
    for data, recipe, seed in runs:
        judgements = read_judgements(folder / data / recipe / str(seed))
        useless = [judgement for judgement in judgements if judgement.level == "useless"]
        if useless:
            found.append(Plateau(data, recipe, seed, useless[0].sentence))
    return found


def write_plateaus(plateaus: Sequence[Plateau], folder: Path) -> None:
    """List the runs that are left out, in out/evaluation."""
    write_json(folder / PLATEAUS, {"runs": [asdict(plateau) for plateau in plateaus]})


def read_plateaus(folder: Path) -> list[Plateau]:
    """Read the runs that `evaluate` left out; empty if it wrote no such file."""
    path = folder / PLATEAUS
    if not path.is_file():
        return []
    return [Plateau(**run) for run in json.loads(path.read_text())["runs"]]


def plateau_sentence(plateaus: Sequence[Plateau]) -> str:
    """Name the runs that are left out in one sentence; empty if there is none."""
    if not plateaus:
        return ""
    seeds: dict[tuple[str, str], list[int]] = {}
    for plateau in plateaus:
        seeds.setdefault((plateau.data, plateau.recipe), []).append(plateau.seed)
    named = [
        f"{recipe} on {data} (seed{'s' if len(of) > 1 else ''} {', '.join(map(str, of))})"
        for (data, recipe), of in seeds.items()
    ]
    why = "as they ended on their plateau and learned nothing"
    return f"Left out of every figure, {why}: {'; '.join(named)}."
