"""The figures of trainings: losses, validation over the steps, weights of groups."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from stages.reporting.figures import (
    GROUP_MARKERS,
    INK,
    PANELS_PER_ROW,
    data_handles,
    group_colours,
    group_legend,
    legend_above,
    new_figure,
    svg,
)
from stages.shared.controls import TRAINING_DATA


def gan_losses(losses: pd.DataFrame) -> bytes:
    """Draw the losses of both networks over the steps, the resolutions as bands.

    Args:
        losses: step, resolution (px), discriminator and generator.

    Returns:
        the figure as SVG.
    """
    figure = new_figure(2.7)
    axes = figure.subplots()
    axes.plot(losses["step"], losses["discriminator"], color="#0072B2", linewidth=1.3)
    axes.plot(losses["step"], losses["generator"], color="#D55E00", linewidth=1.3)
    start = 0.0
    for k, (resolution, rows) in enumerate(losses.groupby("resolution")):
        end = float(rows["step"].max())
        axes.axvspan(start, end, color="#F2F2F2" if k % 2 else "#FFFFFF", zorder=0)
        axes.annotate(
            f"{resolution} px", ((start + end) / 2, 1.0), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=8.5,
        )  # fmt: skip
        start = end
    axes.set_xlim(0, start)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    handles = [
        Line2D([], [], color="#0072B2", label="discriminator"),
        Line2D([], [], color="#D55E00", label="generator"),
    ]
    legend_above(figure, handles)
    return svg(figure)


def training_curves(histories: pd.DataFrame) -> bytes:
    """Draw training loss and worst-group accuracy on validation: a column per recipe, a line per data set.

    Args:
        histories: data, recipe, seed, step, loss, worst_group_accuracy. Lines are means over the seeds,
            bands reach from the lowest to the highest.

    Returns:
        the figure as SVG.
    """
    recipes, data = histories["recipe"].unique(), histories["data"].unique().tolist()
    bands = math.ceil(len(recipes) / PANELS_PER_ROW)
    columns = math.ceil(len(recipes) / bands)
    figure = new_figure(0.4 + 4.2 * bands)
    panels = figure.subplots(2 * bands, columns, sharex=True, squeeze=False)
    for k in range(bands * columns):
        losses, accuracies = panels[2 * (k // columns) : 2 * (k // columns) + 2, k % columns]
        if k >= len(recipes):
            losses.set_visible(False)
            accuracies.set_visible(False)
            continue
        for name in data:
            rows = histories[(histories["recipe"] == recipes[k]) & (histories["data"] == name)]
            _curve(losses, rows, "loss", TRAINING_DATA[name].colour, TRAINING_DATA[name].marker)
            _curve(
                accuracies,
                rows,
                "worst_group_accuracy",
                TRAINING_DATA[name].colour,
                TRAINING_DATA[name].marker,
                scale=100.0,
            )
        losses.set_title(recipes[k])
        losses.set_ylim(bottom=0)
        losses.set_xlim(left=0)
        accuracies.set_xlabel("step")
        accuracies.set_ylim(-3, 103)
        if k % columns == 0:
            losses.set_ylabel("training loss")
            accuracies.set_ylabel("worst-group accuracy\non validation (%)")
    legend_above(figure, data_handles(data))
    return svg(figure)


def _curve(
    axes: Axes,
    rows: pd.DataFrame,
    column: str,
    colour: str,
    marker: str,
    scale: float = 1.0,
    line: LineStyleType = "-",
) -> None:
    over_seeds = rows.groupby("step")[column].agg(["mean", "min", "max"]) * scale
    axes.plot(
        over_seeds.index,
        over_seeds["mean"],
        color=colour,
        marker=marker,
        linewidth=1.4,
        markersize=4,
        linestyle=line,
    )
    axes.fill_between(
        over_seeds.index, over_seeds["min"], over_seeds["max"], color=colour, alpha=0.15, linewidth=0
    )


def group_weights_figure(histories: pd.DataFrame, groups: Sequence[str]) -> bytes:
    """Draw Group DRO's weights q over the steps: a row per recipe, a column per data set.

    Args:
        histories: data, recipe, seed, step, q_0, q_1, ...; of recipes with Group DRO only. A q that no run of
            a panel has is not drawn there; the second 2 n_g are the synthetic images' of each group.
        groups: their names, [2 n_g].

    Returns:
        the figure as SVG.
    """
    recipes, data = histories["recipe"].unique(), histories["data"].unique()
    figure = new_figure(0.7 + 2.0 * len(recipes))
    panels = figure.subplots(len(recipes), len(data), sharex=True, sharey=True, squeeze=False)
    colours = group_colours(len(groups) // 2)
    synthetic_too = f"q_{len(groups)}" in histories and histories[f"q_{len(groups)}"].notna().any()
    for row, recipe in zip(panels, recipes, strict=True):
        for axes, name in zip(row, data, strict=True):
            rows = histories[(histories["recipe"] == recipe) & (histories["data"] == name)]
            for k in range(2 * len(groups)):
                if f"q_{k}" not in rows or rows[f"q_{k}"].isna().all():
                    continue
                group = k % len(groups)
                line: LineStyleType = "-" if k < len(groups) else (0, (4, 2))
                _curve(axes, rows, f"q_{k}", colours[group], _marker(group), line=line)
            axes.set_title(name)
        row[0].set_ylabel(f"{recipe}\nweight q of the group")
    for axes in panels[-1]:
        axes.set_xlabel("step")
    panels[0, 0].set_ylim(0, None)
    panels[0, 0].set_xlim(left=0)
    handles = [
        Line2D([], [], color=colour, marker=_marker(k), markersize=5, label=group)
        for k, (colour, group) in enumerate(zip(colours, groups, strict=True))
    ]
    if synthetic_too:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="dashed: its synthetic images"))
    group_legend(figure, handles, len(groups))
    return svg(figure)


def _marker(group: int) -> str:
    return GROUP_MARKERS[group % len(GROUP_MARKERS)]
