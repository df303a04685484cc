"""docs/results/methods.json: its schema, and how its figures are collected from the present outputs."""

import math

import numpy as np
import pandas as pd

from pipeline.content.files import write_json
from pipeline.content.typed_files import FilePart, StageFile
from stages.parameters import AllParameters
from stages.reporting.choices import BASELINE, SELECTION, cells_of, mean_and_deviation, seeds_of
from stages.reporting.plateaus import plateau_sentence, read_plateaus
from stages.shared.paths import EVALUATION, METHODS, RUNS

FIGURES = {  # names in methods.json -> columns of runs.parquet
    "worst_group_accuracy": "worst_group_accuracy",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "equalized_odds_difference": "equalized_odds_difference",
    "average_odds_difference": "average_odds_difference_at_half",
    "phi": "phi",
}
REAL = "original"
SYNTHETIC = "augmented"
# Loss weights are said to lose their effect as training goes on (Byrd and Lipton, 2019): gains over ERM on
# validation are compared at these shares of the steps.
EARLY = 0.3
LATE = 1.0
WEIGHTED = ("inverse_frequency", "effective_number", "reweighing")


class SeedsSpread(FilePart):
    """A figure over the seeds: its mean and its standard deviation (n - 1)."""

    mean: float
    std: float | None

    @property
    def pair(self) -> tuple[float, float]:
        """Mean and deviation; NaN for a deviation that is not known."""
        return self.mean, math.nan if self.std is None else self.std


class RelativeCost(FilePart):
    """Images forward and backward through the network, relative to ERM on the same data."""

    forward: float
    backward: float


class MethodFigures(FilePart):
    """The figures of a method on a data set, on test; φ is by the average odds difference, at 0.05.

    Attributes:
        feasible: the share of the seeds in which |average odds difference| is below 0.05.
        cost: of its training, and of what finishes it.
        labels: where it needs protected labels: training, validation (to fit on), prediction.
    """

    worst_group_accuracy: SeedsSpread
    accuracy: SeedsSpread
    balanced_accuracy: SeedsSpread
    equalized_odds_difference: SeedsSpread
    average_odds_difference: SeedsSpread
    phi: SeedsSpread
    feasible: float
    cost: RelativeCost
    labels: list[str]


class MethodsRun(FilePart):
    """What made the figures.

    Attributes:
        target: the target attribute.
        protected: the protected attributes.
        seeds: how many trainings each figure is of.
        steps: of the network that is kept.
        gains: recipe with loss weights -> data set -> gain over ERM in worst-group accuracy on validation,
            early in the training and at its end, means over the seeds.
        left_out: the runs that learned nothing, which no figure has, in a sentence; empty if there is none.
    """

    target: str
    protected: list[str]
    seeds: int
    steps: int
    gains: dict[str, dict[str, tuple[float, float]]]
    left_out: str


class MethodsRecord(StageFile):
    """docs/results/methods.json: DATA -> METHOD -> figures, and what made them."""

    run: MethodsRun
    original: dict[str, MethodFigures]
    augmented: dict[str, MethodFigures]

    @property
    def by_data(self) -> dict[str, dict[str, MethodFigures]]:
        """The figures by data set."""
        return {REAL: self.original, SYNTHETIC: self.augmented}


def collected(parameters: AllParameters, runs: pd.DataFrame) -> MethodsRecord:
    """Collect the figures of the outputs in the current folder.

    Args:
        parameters: as params.yaml holds them.
        runs: out/evaluation/runs.parquet.

    Returns:
        the content of methods.json.
    """
    found: dict[str, dict[str, MethodFigures]] = {REAL: {}, SYNTHETIC: {}}
    for data, recipe in cells_of(runs):
        if data in found:
            found[data][recipe] = figures_of(runs, data, recipe)
    run = MethodsRun(
        target=parameters.target,
        protected=parameters.protected,
        seeds=len(parameters.train.seeds),
        steps=parameters.train.steps,
        left_out=plateau_sentence(read_plateaus(EVALUATION)),
        gains={
            recipe: {data: gains_over_time(parameters, data, recipe) for data in found}
            for recipe in WEIGHTED
            if recipe in parameters.train.recipes
        },
    )
    return MethodsRecord(run=run, original=found[REAL], augmented=found[SYNTHETIC])


def figures_of(runs: pd.DataFrame, data: str, recipe: str) -> MethodFigures:
    """Return the figures of a recipe on a data set."""
    seeds, baseline = seeds_of(runs, data, recipe), seeds_of(runs, data, BASELINE)

    def spread(name: str) -> SeedsSpread:
        mean, deviation = mean_and_deviation(seeds, name)
        return SeedsSpread(mean=mean, std=None if math.isnan(deviation) else deviation)

    forward, backward = (
        float(seeds[name].mean() / baseline[name].mean()) for name in ("images_forward", "images_backward")
    )
    return MethodFigures(
        **{name: spread(column) for name, column in FIGURES.items()},
        feasible=float(seeds["phi_feasible"].mean()),
        cost=RelativeCost(forward=forward, backward=backward),
        labels=str(seeds["needs"].iloc[0]).split(),
    )


def gains_over_time(parameters: AllParameters, data: str, recipe: str) -> tuple[float, float]:
    """Return a recipe's gain over ERM in worst-group accuracy on validation at `EARLY` and `LATE` steps."""
    section = parameters.train

    def at(name: str, share: float) -> float:
        values = []
        for seed in section.seeds:
            history = pd.read_csv(RUNS / data / name / str(seed) / "history.csv")
            values.append(float(np.interp(share * section.steps, history["step"], history[SELECTION])))
        return float(np.mean(values))

    early, late = (at(recipe, share) - at(BASELINE, share) for share in (EARLY, LATE))
    return early, late


def keep_methods(parameters: AllParameters, runs: pd.DataFrame) -> None:
    """Write methods.json from the outputs in the current folder."""
    write_json(METHODS, collected(parameters, runs).model_dump())
