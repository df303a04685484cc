"""The report's figure of adversaries: their loss, and the entropy where it stays if nothing is betrayed."""

import math

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from stages.reporting.figures import INK, PANELS_PER_ROW, new_figure, svg
from stages.shared.controls import TRAINING_DATA

LOSS, BOUND = "adversary_loss", "adversary_bound"  # columns of history.csv
DASHES: LineStyleType = (0, (4, 2))


def losses_figure(histories: pd.DataFrame) -> bytes:
    """Draw the loss of adversaries and its bound over the steps: a panel per recipe, a colour per data set.

    Args:
        histories: data, recipe, seed, step, adversary_loss, adversary_bound; recipes without an adversary
            have no value of the last two, and no panel. Lines are means over the seeds.

    Returns:
        the figure as SVG.
    """
    shown = histories[histories[LOSS].notna()]
    recipes, data = shown["recipe"].unique(), shown["data"].unique().tolist()
    rows_of_panels = math.ceil(len(recipes) / PANELS_PER_ROW)
    columns = math.ceil(len(recipes) / rows_of_panels)
    figure = new_figure(0.5 + 2.3 * rows_of_panels)
    panels = figure.subplots(rows_of_panels, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(recipes) :]:
        axes.set_visible(False)
    for axes, recipe in zip(panels.flat, recipes, strict=False):
        for name in data:
            rows = shown[(shown["recipe"] == recipe) & (shown["data"] == name)]
            means = rows.groupby("step")[[LOSS, BOUND]].mean()
            for column, line in ((LOSS, "-"), (BOUND, DASHES)):
                colour = TRAINING_DATA[name].colour
                axes.plot(means.index, means[column], color=colour, linewidth=1.4, linestyle=line)
        axes.set_title(recipe)
        axes.set_xlabel("step")
    panels[0, 0].set_ylim(bottom=0)
    panels[0, 0].set_xlim(left=0)
    for axes in panels[:, 0]:
        axes.set_ylabel("adversary’s loss (nats)")
    handles = [Line2D([], [], color=TRAINING_DATA[name].colour, label=name) for name in data]
    handles.append(Line2D([], [], color=INK, linestyle=DASHES, label="entropy of the attributes"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), borderaxespad=0.2)
    return svg(figure)
