"""Bias against performance: the recipes that no other one beats in both, and their picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from pipeline.content.arrays import BoolArray, FloatArray
from stages.reporting.choices import BASELINE, SELECTION, cells_of, mean_and_deviation, seeds_of
from stages.reporting.columns import takes_columns
from stages.reporting.figures import INK, new_figure, svg
from stages.reporting.labelling import Label, place_labels
from stages.reporting.tables import Cell, Heading, Table
from stages.reporting.text import spread_text
from stages.shared.controls import TRAINING_DATA, USABLE

if TYPE_CHECKING:
    from classifiers.training.method_settings import Recipe

BIAS = "equalized_odds_difference"
PERFORMANCES = {"balanced_accuracy": "balanced accuracy", SELECTION: "worst-group accuracy"}
# The families of methods, by where they act, and their markers.
ERM, IMAGES, LOSS, NETWORK = "ERM", "other images", "another loss", "another network"
AFTER, SCORES = "after training", "on scores"
FAMILIES = {ERM: "o", IMAGES: "s", LOSS: "^", NETWORK: "P", AFTER: "D", SCORES: "X"}
DASHES: LineStyleType = (0, (4, 2))  # of the frontier

MatrixCell = tuple[str | None, str | None]  # data set, recipe; None: no run can be recommended


def pareto_frontier(bias: FloatArray, performance: FloatArray) -> BoolArray:
    """Tell which points no other point dominates.

    A point dominates another one if its |bias| is no larger and its performance no lower, and one of the two
    is better. Equal points do not dominate each other. A point without a value is not on the frontier.

    Args:
        bias: signed or not, [n]; 0 is best.
        performance: [n]; the highest is best.

    Returns:
        [n].
    """
    size, known = np.abs(bias), ~(np.isnan(bias) | np.isnan(performance))
    no_worse = (size[:, None] <= size) & (performance[:, None] >= performance)
    better = (size[:, None] < size) | (performance[:, None] > performance)
    dominated = np.any(no_worse & better, axis=0)
    frontier: BoolArray = known & ~dominated
    return frontier


def family_of(recipe: str, needs: str, definitions: Mapping[str, "Recipe"]) -> str:
    """Return the family of a recipe, a key of `FAMILIES`.

    Args:
        recipe: its name; one that is not defined is made of a trained network (RECIPE+NAME), or is a network
            from elsewhere.
        needs: the protected labels that it needs, as in runs.parquet.
        definitions: train.definitions of the parameters.

    Returns:
        where it acts.
    """
    if recipe not in definitions:
        if "+" not in recipe:
            return NETWORK
        return SCORES if "prediction" in needs.split() else AFTER
    definition = definitions[recipe]
    if definition.backbone is not None:
        return NETWORK
    if definition.method.name != "erm":
        return LOSS
    seen = (definition.sampler, definition.phases.name, definition.group_by, definition.real_share)
    return ERM if seen == ("uniform", "one", "group", None) else IMAGES


def pareto_points(runs: pd.DataFrame, definitions: Mapping[str, "Recipe"]) -> pd.DataFrame:
    """Summarise each data set and recipe as a point of each of the two panels.

    Args:
        runs: out/evaluation/runs.parquet.
        definitions: train.definitions of the parameters.

    Returns:
        data, recipe, family; of `BIAS` and each of `PERFORMANCES` the mean over the seeds, and its deviation
        as NAME_std; and NAME_frontier, whether no other data set and recipe that a user could use dominates
        it.
    """
    records = []
    for data, recipe in cells_of(runs):
        seeds = seeds_of(runs, data, recipe)
        record: dict[str, Any] = {"data": data, "recipe": recipe}
        record["family"] = family_of(recipe, str(seeds["needs"].iloc[0]), definitions)
        for name in (BIAS, *PERFORMANCES):
            record[name], record[f"{name}_std"] = mean_and_deviation(seeds, name)
        records.append(record)
    points = pd.DataFrame(records)
    usable = points["data"].isin(USABLE)
    for name in PERFORMANCES:
        points[f"{name}_frontier"] = False
        candidates = points[usable]
        found = pareto_frontier(candidates[BIAS].to_numpy(), candidates[name].to_numpy())
        points.loc[usable, f"{name}_frontier"] = found
    return points


def frontier_table(points: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Name the members of the two frontiers, from the fairest on.

    Args:
        points: as `pareto_points` returns.
        runs: out/evaluation/runs.parquet.

    Returns:
        the table.
    """
    members = points[points[[f"{name}_frontier" for name in PERFORMANCES]].any(axis=1)].sort_values(BIAS)
    takes, rows = takes_columns(), list[list[Cell | str]]()
    for row in members.to_dict("records"):
        figures = [spread_text(row[name], row[f"{name}_std"], percent=True) for name in (BIAS, *PERFORMANCES)]
        on = " and ".join(text for name, text in PERFORMANCES.items() if row[f"{name}_frontier"])
        taken = [column.cell(runs, row["data"], row["recipe"]) for column in takes]
        rows.append([row["data"], Cell(row["recipe"], look="code"), *figures, on, *taken])
    return Table(
        "The frontiers",
        "data and recipes that no other one a user could use beats in both bias and performance; means over "
        "the seeds, on test.",
        [
            "Trained on",
            "Recipe",
            Heading("Equalised odds difference (%)", hint="best: 0"),
            *(Heading(f"{text.capitalize()} (%)", hint="best: highest") for text in PERFORMANCES.values()),
            Heading("On the frontier of", is_number=False),
            *(column.heading for column in takes),
        ],
        rows,
        labels=2,
    )


def plot_tables(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of DVC's plots by the name of their panel: run, bias, performance, on_frontier."""
    return {
        name: pd.DataFrame(
            {
                "run": points["data"] + " " + points["recipe"],
                "bias": points[BIAS],
                "performance": points[name],
                "on_frontier": points[f"{name}_frontier"],
            }
        )
        for name in PERFORMANCES
    }


def pareto_figure(points: pd.DataFrame, recommended: MatrixCell) -> bytes:
    """Draw bias against performance: a panel for each of `PERFORMANCES`, a mark for each data set and recipe.

    Colours are the data sets', markers the families'; whiskers are deviations. Named are the frontier's
    members, ERM, and what is recommended.

    Args:
        points: as `pareto_points` returns.
        recommended: what is recommended.

    Returns:
        the figure as SVG.
    """
    figure = new_figure(5.4)
    panels = figure.subplots(1, len(PERFORMANCES))
    for axes, (name, text) in zip(panels, PERFORMANCES.items(), strict=True):
        _draw_panel(axes, points, name, recommended)
        axes.set_title(text.capitalize())
        axes.set_xlabel("equalised odds difference on test (%), fairer to the left")
        axes.set_ylabel(f"{text} on test (%)")
    data, families = (list(dict.fromkeys(points[column])) for column in ("data", "family"))
    of_data = [Line2D([], [], color=TRAINING_DATA[d].colour, linewidth=4, label=d) for d in data]
    of_families = [
        Line2D([], [], color=INK, marker=marker, markersize=6, linestyle="", label=family)
        for family, marker in FAMILIES.items()
        if family in families
    ]
    ring = Line2D([], [], marker="o", markersize=11, mfc="none", mec=INK, linestyle="", label="recommended")
    step = Line2D([], [], color=INK, linestyle=DASHES, label="frontier")
    figure.legend(handles=of_data, loc="outside upper left", ncols=len(of_data), borderaxespad=0.2)
    others = [*of_families, step, *([ring] if recommended[0] else [])]
    figure.legend(handles=others, loc="outside lower left", ncols=len(others), borderaxespad=0.2)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels are placed in the final layout
    for axes, name in zip(panels, PERFORMANCES, strict=True):
        place_labels(axes, _marks(points, name), _labels(points, name, recommended))
    return svg(figure)


def _marks(points: pd.DataFrame, name: str) -> FloatArray:
    """Return the points of a panel in percent, [n, 2]."""
    marks: FloatArray = 100 * points[[BIAS, name]].to_numpy(dtype=np.float64)
    return marks


def _draw_panel(axes: Axes, points: pd.DataFrame, name: str, recommended: MatrixCell) -> None:
    for row in points.to_dict("records"):
        colour, x, y = TRAINING_DATA[row["data"]].colour, 100 * row[BIAS], 100 * row[name]
        deviations = {"xerr": 100 * row[f"{BIAS}_std"], "yerr": 100 * row[f"{name}_std"]}
        axes.errorbar(x, y, **deviations, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.35, zorder=2)
        axes.plot(
            x, y, FAMILIES[row["family"]], color=colour, markersize=6, zorder=3,
            markerfacecolor=colour if row["data"] in USABLE else "white",
        )  # fmt: skip
        if (row["data"], row["recipe"]) == recommended:
            axes.plot(x, y, "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, zorder=4)
    frontier = points[points[f"{name}_frontier"]].sort_values([BIAS, name])
    if len(frontier):
        # To the edges of the panel: what is below and to the right of the line is dominated.
        right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
        x, y = 100 * frontier[BIAS].to_numpy(), 100 * frontier[name].to_numpy()
        axes.autoscale(False)
        axes.step([x[0], *x, right], [bottom, *y, y[-1]], where="post", color=INK, linestyle=DASHES, zorder=1)


def _labels(points: pd.DataFrame, name: str, recommended: MatrixCell) -> Sequence[Label]:
    """Return the names of a panel's marks that have one, the most important first."""
    labels = []
    for row, (x, y) in zip(points.to_dict("records"), _marks(points, name).tolist(), strict=True):
        is_recommended, on_frontier = (row["data"], row["recipe"]) == recommended, row[f"{name}_frontier"]
        if (is_recommended or on_frontier or row["recipe"] == BASELINE) and not np.isnan([x, y]).any():
            colour = TRAINING_DATA[row["data"]].colour
            labels.append(Label(x, y, row["recipe"], colour, is_recommended, on_frontier))
    return sorted(labels, key=lambda label: (not label.is_bold, not label.is_first))
