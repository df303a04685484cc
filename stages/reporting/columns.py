"""The columns of the tables of the runs: figures of runs.parquet as text."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from classifiers.measures.evaluation import MATCHED, METRICS, Metric, Shown
from stages.reporting.choices import BASELINE, CHOICE, SELECTION, gap_of, mean_and_deviation, seeds_of
from stages.reporting.tables import Cell, Heading
from stages.reporting.text import group_headings, group_values, spread_text
from stages.shared.controls import ELSEWHERE

LABELS = {"training": "train", "validation": "val.", "prediction": "pred."}  # as narrow columns write them
TAKES = "what it takes"  # stands above the columns of labels and costs


@dataclass(frozen=True)
class RunColumn:
    """A column of a table of the runs.

    Attributes:
        heading: what stands above it.
        cell: returns the text for a data set and a recipe, from out/evaluation/runs.parquet.
    """

    heading: Heading
    cell: Callable[[pd.DataFrame, str, str], Cell | str]


def columns_of(table: str) -> tuple[Metric, ...]:
    """List the metrics that a table shows, in the order of their registration."""
    return tuple(metric for metric in METRICS if metric.table == table)


ACCURACIES, PAPER, FAIRNESS, AT_HALF = (
    columns_of(table) for table in ("accuracies", "paper", "fairness", "at_half")
)
(WORST_MATCHED,) = columns_of("matched")
(WORST,) = (metric for metric in ACCURACIES if metric.name == SELECTION)
WORST_ON_VALIDATION = Shown(CHOICE, WORST.heading, percent=True)


def calibration_metrics(attribute: str = "") -> tuple[Shown, ...]:
    """Return the calibration errors of the two groups of the protected attribute, or of one of several."""
    return tuple(
        Shown(f"protected_{g}_calibration_error{attribute}", f"ECE, group {g}", True, "lowest")
        for g in (0, 1)
    )


def metrics_alone(attribute: str) -> tuple[Shown, ...]:
    """Return the metrics of one of several protected attributes, measured without the others."""
    alone = [metric for metric in (*ACCURACIES, *PAPER, *FAIRNESS) if metric.of_groups]
    renamed = (Shown(f"{m.name}_{attribute}", m.heading, m.percent, m.best) for m in alone)
    return (*renamed, *calibration_metrics(f"_{attribute}"))


def metric_column(
    metric: Shown, over: str = "", selection: str = SELECTION, look: str = "", named: bool = True
) -> RunColumn:
    """Show a metric's mean and deviation over the seeds.

    Args:
        metric: the name, heading and unit of a column of `runs`.
        over: what stands above the column and its neighbours.
        selection: the metric that chose the weights on validation.
        look: of the cells.
        named: whether the metric's name stands below its heading.

    Returns:
        the column.
    """
    heading = f"{metric.heading} (%)" if metric.percent else metric.heading
    code = metric.name.replace("_", "_\u200b") if named else ""

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> Cell:
        values = mean_and_deviation(seeds_of(runs, data, recipe, selection), metric.name)
        return Cell(spread_text(*values, metric.percent), look=look)

    return RunColumn(Heading(heading, code, f"best: {metric.best}", over), cell)


def gap_column(over: str = "") -> RunColumn:
    """Show the share of the gap that is closed."""

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> str:
        worst = mean_and_deviation(seeds_of(runs, data, recipe), SELECTION)
        return spread_text(*gap_of(runs).closed(*worst), percent=True)

    return RunColumn(Heading("Gap closed (%)", "gap_\u200bclosed", "best: highest", over), cell)


def worst_group_of(seeds: pd.DataFrame, n_groups: int) -> int:
    """Return the group with the lowest accuracy, mean over the seeds."""
    return int(np.nanargmin([seeds[f"group_{group}_accuracy"].mean() for group in range(n_groups)]))


def worst_group_column(names: Sequence[str], over: str = "") -> RunColumn:
    """Show which group is the worst one."""

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> str:
        return group_headings(names)[worst_group_of(seeds_of(runs, data, recipe), len(names))]

    return RunColumn(Heading("Its worst group", over=over, is_number=False), cell)


def group_columns(names: Sequence[str], sizes: Sequence[int] = ()) -> list[RunColumn]:
    """Show every group's accuracy at 0.5, each row's lowest marked.

    Args:
        names: of the groups, [2 n_g].
        sizes: test images of each group, shown in the headings; empty: not shown.

    Returns:
        a column for each group.
    """

    def column(group: int, heading: str) -> RunColumn:
        note = f", n = {sizes[group]:,}" if sizes else ""

        def cell(runs: pd.DataFrame, data: str, recipe: str) -> Cell:
            seeds = seeds_of(runs, data, recipe)
            text = spread_text(*mean_and_deviation(seeds, f"group_{group}_accuracy"), percent=True)
            return Cell(text, look="worst" if worst_group_of(seeds, len(names)) == group else "")

        return RunColumn(Heading(heading, f"group_{group}{note}", names[group]), cell)

    return [column(group, heading) for group, heading in enumerate(group_headings(names))]


def columns_beside(names: Sequence[str], over: str, ending: str = "") -> list[RunColumn]:
    """Show each group's accuracy at the gaps' threshold, mean over the seeds (%), each row's lowest marked.

    These columns reveal a gap that closed only because every group got worse.

    Args:
        names: of the groups.
        over: what stands above the columns.
        ending: "_NAME" for the groups of one of several protected attributes.

    Returns:
        a column for each group.
    """

    def column(group: int, heading: str) -> RunColumn:
        def cell(runs: pd.DataFrame, data: str, recipe: str) -> Cell:
            seeds = seeds_of(runs, data, recipe)
            means = [seeds[f"group_{g}_accuracy{MATCHED}{ending}"].mean() for g in range(len(names))]
            mean = means[group]
            text = "–" if math.isnan(mean) else f"{mean * 100:.1f}"
            return Cell(text, look="worst" if mean == np.fmin.reduce(means) else "")

        return RunColumn(Heading(heading, f"group_{group}", names[group], over), cell)

    return [column(group, heading) for group, heading in enumerate(group_values(names))]


def feasible_column(over: str = "", ending: str = "") -> RunColumn:
    """Show in how many of the seeds φ is not 0: "2 of 3".

    Args:
        over: what stands above the column.
        ending: "_NAME" for the groups of one of several protected attributes.

    Returns:
        the column.
    """

    def cell(runs: pd.DataFrame, data: str, recipe: str) -> str:
        seeds = seeds_of(runs, data, recipe)[f"phi_feasible{ending}"]
        return f"{seeds.sum():.0f} of {len(seeds)}"

    return RunColumn(Heading("Feasible seeds", "phi_\u200bfeasible", "best: all", over), cell)


def needs_of(runs: pd.DataFrame, data: str, recipe: str) -> str:
    """Say which protected labels a recipe needs: "none", "train", "train, val."; "–" if unknown."""
    needs = set(str(seeds_of(runs, data, recipe)["needs"].iloc[0]).split())
    return ", ".join(text for name, text in LABELS.items() if name in needs) or (
        "–" if data == ELSEWHERE else "none"
    )


def relative_cost(runs: pd.DataFrame, data: str, recipe: str) -> tuple[float, float]:
    """Return a recipe's images forward and backward over ERM's on the same data, means over the seeds.

    Args:
        runs: out/evaluation/runs.parquet.
        data: the data set's name.
        recipe: the recipe's name.

    Returns:
        two ratios; NaN if ERM was not trained on these data.
    """
    names = ["images_forward", "images_backward"]
    own, erm = (seeds_of(runs, data, of)[names].mean() for of in (recipe, BASELINE))
    forward, backward = (own / erm).tolist()
    return forward, backward


def takes_columns() -> list[RunColumn]:
    """Show which protected labels a recipe needs, and its cost relative to ERM's."""

    def cost(runs: pd.DataFrame, data: str, recipe: str) -> str:
        ratios = relative_cost(runs, data, recipe)
        return "–" if any(map(math.isnan, ratios)) else "/".join(f"{ratio:.2f}" for ratio in ratios)

    labels = "protected labels of training images, of validation images to fit on, at prediction"
    images = "images forward / backward in training, relative to ERM on the same data"
    return [
        RunColumn(Heading("Labels", "", labels, TAKES, is_number=False), needs_of),
        RunColumn(Heading("Cost", "× ERM", images, TAKES), cost),
    ]
