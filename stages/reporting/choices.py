"""Means over the seeds, the recipes that validation chooses, and the share of the gap that is closed.

Pure functions of the evaluation's table of runs. Nothing here looks at a figure of the test set to choose.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

SELECTION = "worst_group_accuracy"  # on validation; whose weights are reported
CHOICE = f"validation_{SELECTION}"  # what chooses a recipe: of those weights
BASELINE = "erm"  # the recipe that the gap is measured with
CHOICE_FIGURES = ("worst_group_accuracy", "accuracy", "balanced_accuracy")  # on test, of the recipe chosen


@dataclass(frozen=True)
class Gap:
    """What balanced real data would bring: worst-group accuracies of ERM on test, means over the seeds.

    Attributes:
        original, oracle: in [0, 1]; NaN where there is no such run.
    """

    original: float
    oracle: float

    @property
    def size(self) -> float:
        """The oracle's less the original's; NaN where one is missing or there is nothing to close."""
        size = self.oracle - self.original
        return size if size > 0 else math.nan

    def closed(self, mean: float, deviation: float) -> tuple[float, float]:
        """The share of the gap that a worst-group accuracy closes, and its deviation: of fixed ends."""
        return (mean - self.original) / self.size, deviation / self.size


def mean_and_deviation(seeds: pd.DataFrame, metric: str) -> tuple[float, float]:
    """A metric's mean over the seeds and its standard deviation: over them, or the one seed's bootstrap's."""
    if len(seeds) == 1:
        return float(seeds[metric].iloc[0]), float(seeds[f"{metric}_bootstrap_std"].iloc[0])
    return float(seeds[metric].mean()), float(seeds[metric].std(ddof=1))


def seeds_of(runs: pd.DataFrame, data: str, recipe: str, selection: str = SELECTION) -> pd.DataFrame:
    """The rows of one cell of the matrix: one for each seed."""
    chosen = (runs["data"] == data) & (runs["recipe"] == recipe) & (runs["selection"] == selection)
    return runs[chosen]


def cells_of(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Every data set and recipe, in the order of the runs."""
    return list(runs[["data", "recipe"]].drop_duplicates().itertuples(index=False, name=None))


def gap_of(runs: pd.DataFrame) -> Gap:
    """The gap between ERM on the original data and on the oracle's."""

    def of(data: str) -> float:
        return float(seeds_of(runs, data, BASELINE)[SELECTION].mean())

    return Gap(of("original"), of("oracle"))


def chosen_recipes(runs: pd.DataFrame) -> dict[str, str]:
    """For each data set the recipe with the best `CHOICE`, mean over the seeds; of equal ones the first."""
    means = runs[runs["selection"] == SELECTION].groupby(["data", "recipe"], sort=False)[CHOICE].mean()
    return {str(data): str(means[data].idxmax()) for data in means.index.unique("data")}


def summary_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set and recipe: what validation says, whether it is chosen, and test's figures.

    Returns:
        data, recipe, run ("DATA RECIPE"), chosen, and for `CHOICE`, each of `CHOICE_FIGURES`, "kl_scores" and
        "gap_closed" NAME (mean over the seeds) and NAME_std.
    """
    gap, chosen = gap_of(runs), chosen_recipes(runs)
    records: list[dict[str, Any]] = []
    for data, recipe in cells_of(runs):
        seeds = seeds_of(runs, data, recipe)
        record = {"data": data, "recipe": recipe, "run": f"{data} {recipe}", "chosen": chosen[data] == recipe}
        values = {name: mean_and_deviation(seeds, name) for name in (CHOICE, *CHOICE_FIGURES, "kl_scores")}
        values["gap_closed"] = gap.closed(*values[SELECTION])
        for name, (mean, deviation) in values.items():
            record |= {name: mean, f"{name}_std": deviation}
        records.append(record)
    return pd.DataFrame(records)
