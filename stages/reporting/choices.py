"""Means over the seeds, the recipes that validation chooses, and the share of the gap that is closed.

Pure functions of the evaluation's table of runs. No choice uses a figure of the test set.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

SELECTION = "worst_group_accuracy"  # the reported weights are the best by it on validation
CHOICE = f"validation_{SELECTION}"  # chooses a recipe, by the figure of these weights
BASELINE = "erm"  # the recipe that the gap is measured with
CHOICE_FIGURES = ("worst_group_accuracy", "accuracy", "balanced_accuracy")  # of the chosen recipe, on test


@dataclass(frozen=True)
class Gap:
    """The gap that balanced real data would close: ERM's worst-group accuracies on test, means over seeds.

    Attributes:
        original, oracle: in [0, 1]; NaN without such a run.
    """

    original: float
    oracle: float

    @property
    def size(self) -> float:
        """The oracle's accuracy minus the original's; NaN if one is missing or there is nothing to close."""
        size = self.oracle - self.original
        return size if size > 0 else math.nan

    def closed(self, mean: float, deviation: float) -> tuple[float, float]:
        """Return the share of the gap that an accuracy closes, and its deviation; the ends count as exact."""
        return (mean - self.original) / self.size, deviation / self.size


def mean_and_deviation(seeds: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Return a metric's mean and deviation over the seeds; of one seed, the bootstrap's deviation."""
    if len(seeds) == 1:
        return float(seeds[metric].iloc[0]), float(seeds[f"{metric}_bootstrap_std"].iloc[0])
    return float(seeds[metric].mean()), float(seeds[metric].std(ddof=1))


def seeds_of(runs: pd.DataFrame, data: str, recipe: str, selection: str = SELECTION) -> pd.DataFrame:
    """Return the rows of one cell of the matrix: one for each seed.

    Args:
        runs: out/evaluation/runs.parquet.
        data: the data set's name.
        recipe: the recipe's name.
        selection: the metric that chose the weights on validation.

    Returns:
        some rows of `runs`.
    """
    chosen = (runs["data"] == data) & (runs["recipe"] == recipe) & (runs["selection"] == selection)
    return runs[chosen]


def cells_of(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """List every data set with every recipe that it has, in the order of the runs."""
    return list(runs[["data", "recipe"]].drop_duplicates().itertuples(index=False, name=None))


def gap_of(runs: pd.DataFrame) -> Gap:
    """Return the gap between ERM on the original data and on the oracle's."""

    def of(data: str) -> float:
        return float(seeds_of(runs, data, BASELINE)[SELECTION].mean())

    return Gap(of("original"), of("oracle"))


def candidates_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that can be chosen: those with a figure on validation.

    A post-processed run has none, as it is fitted there: it is RECIPE+NAME, one more recipe in tables alone.

    Args:
        runs: out/evaluation/runs.parquet.

    Returns:
        some rows of `runs`.
    """
    return runs[runs[CHOICE].notna()]


def chosen_recipes(runs: pd.DataFrame) -> dict[str, str]:
    """Choose for each data set the recipe with the highest mean `CHOICE`; of equal ones the first."""
    runs = candidates_of(runs)
    means = runs[runs["selection"] == SELECTION].groupby(["data", "recipe"], sort=False)[CHOICE].mean()
    return {str(data): str(means[data].idxmax()) for data in means.index.unique("data")}


def summary_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Summarise the runs of each data set and recipe.

    Args:
        runs: out/evaluation/runs.parquet.

    Returns:
        one row per cell: data, recipe, run ("DATA RECIPE"), chosen (whether validation chooses it), and for
        `CHOICE`, each of `CHOICE_FIGURES`, "kl_scores" and "gap_closed": NAME (mean over the seeds) and
        NAME_std.
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
