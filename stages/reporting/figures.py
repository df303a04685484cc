"""The report's figures: tables in, SVG out. All look alike, and the same tables give the same bytes."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.typing import LineStyleType

from stages.shared.controls import TRAINING_DATA

# Okabe and Ito's colours, which the colour-blind can tell apart. A group's hue shows its target, its shade
# the protected group: the last is the darkest.
GROUP_COLOURS = (("#56B4E9", "#0072B2"), ("#E69F00", "#D55E00"))  # for one protected attribute
GROUP_SHADES = ("Blues", "Oranges")  # Matplotlib's colour maps, for several attributes
GROUP_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GROUP_LINES: tuple[LineStyleType, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)))
SOURCE_COLOURS = {"z": "#4D4D4D", "z_prime": "#009E73"}
SOURCE_LABELS = {"z": "G(z)", "z_prime": "G(z′)"}
INK = "#333333"
WIDTH = 11.2  # inches, of every figure: the page shows them at one scale
PANELS_PER_ROW = 4
BINS = 50  # of every score histogram, as in kl_scores
LEAST_SHARE = 0.05  # %, where the logarithmic axis of the histograms begins

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "zprime",  # without it the ids in the file differ from run to run
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E6E6E6",
        "grid.linewidth": 0.8,
        "legend.frameon": False,
    }
)


def binned_shares(scores: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Compute histograms over [0, 1]: score (the bin's centre), then the share of each set's scores in %."""
    edges = np.linspace(0, 1, BINS + 1)
    shares = {name: np.histogram(s, edges)[0] * 100 / max(1, len(s)) for name, s in scores.items()}
    return pd.DataFrame({"score": (edges[:-1] + edges[1:]) / 2, **shares})


def group_colours(n_protected: int) -> list[str]:
    """Return a colour for each group t * n_g + g: [2 n_g]."""
    if n_protected == 2:
        return [colour for hue in GROUP_COLOURS for colour in hue]
    shades = np.linspace(0.4, 0.95, n_protected)
    return [to_hex(matplotlib.colormaps[name](shade)) for name in GROUP_SHADES for shade in shades]


def new_figure(height: float) -> Figure:
    """Make a figure of the page's width, its height in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def svg(figure: Figure) -> bytes:
    """Draw a figure as SVG, without what differs from run to run."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def legend_above(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """Draw a legend above a figure."""
    figure.legend(handles=list(handles), loc="outside upper left", ncols=len(handles), borderaxespad=0.2)


def group_legend(figure: Figure, handles: Sequence[Line2D], n_groups: int, title: str = "") -> None:
    """Draw a legend of the groups above a figure, in two rows if they are many."""
    columns = {4: 4, 8: 3}.get(n_groups, 2)  # with more attributes the names are longer
    figure.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=columns,
        borderaxespad=0.2,
        title=title,
        alignment="left",
    )


def data_handles(data: Sequence[str]) -> list[Line2D]:
    """Return the legend's handles of data sets, in their colours."""
    return [
        Line2D([], [], color=TRAINING_DATA[d].colour, marker=TRAINING_DATA[d].marker, markersize=5, label=d)
        for d in data
    ]


def group_accuracies_figure(table: pd.DataFrame, groups: Sequence[str]) -> bytes:
    """Draw the accuracy of every group: a panel per recipe, a marker per data set.

    Args:
        table: data, recipe, group (number), mean and deviation (shares).
        groups: their names, in the order of their numbers.

    Returns:
        the figure as SVG.
    """
    recipes, data = table["recipe"].unique(), table["data"].unique().tolist()
    rows_of_panels = math.ceil(len(recipes) / PANELS_PER_ROW)
    columns = math.ceil(len(recipes) / rows_of_panels)
    step = 0.72 / len(data)
    figure = new_figure(0.4 + rows_of_panels * (0.7 + len(groups) * max(0.4, 0.11 * len(data))))
    panels = figure.subplots(rows_of_panels, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(recipes) :]:
        axes.set_visible(False)
    for axes, recipe in zip(panels.flat, recipes, strict=False):
        for k, name in enumerate(data):
            rows = table[(table["recipe"] == recipe) & (table["data"] == name)]
            axes.errorbar(
                rows["mean"] * 100,
                rows["group"] + (k - (len(data) - 1) / 2) * step,
                xerr=rows["deviation"] * 100,
                fmt=TRAINING_DATA[name].marker,
                color=TRAINING_DATA[name].colour,
                markersize=5,
                capsize=2.5,
                linewidth=1.2,
            )
        axes.set_title(recipe)
        axes.set_yticks(range(len(groups)), groups)
        axes.grid(axis="y", visible=False)
    for axes in panels[-1]:
        axes.set_xlabel("accuracy on test (%)")
    panels[0, 0].set_ylim(len(groups) - 0.5, -0.5)
    panels[0, 0].set_xlim(-2, 102)
    legend_above(figure, data_handles(data))
    return svg(figure)


def _in_lines(group: str) -> str:
    return group.replace(", ", "\n")


def data_sets(summaries: Mapping[str, Mapping[str, float]], groups: Sequence[str]) -> bytes:
    """Draw the group sizes and KL divergences of the training data.

    Args:
        summaries: data set -> group_0, group_1, ... (images), kl_joint and kl_uniform (nats).
        groups: their names.

    Returns:
        the figure as SVG.
    """
    stacked = len(groups) > 4  # more groups need the whole width
    figure = new_figure(5.8 if stacked else 2.9)
    sizes, divergences = figure.subplots(2, 1) if stacked else figure.subplots(1, 2, width_ratios=[2.1, 1])
    labels = [_in_lines(group) for group in groups]
    _bars(sizes, summaries, [f"group_{k}" for k in range(len(groups))], labels, "{:,.0f}")
    sizes.set_ylabel("training images")
    sizes.set_title("Group sizes")
    names = ["kl_joint", "kl_uniform"]
    labels = ["D(p(t,g) ‖ p(t) p(g))\nkl_joint", "D(p(t,g) ‖ uniform)\nkl_uniform"]
    _bars(divergences, summaries, names, labels, "{:.3f}")
    divergences.set_ylabel("KL divergence (nats)")
    divergences.set_title("Distance from balance")
    legend_above(figure, [Patch(color=TRAINING_DATA[name].colour, label=name) for name in summaries])
    return svg(figure)


def _bars(
    axes: Axes,
    summaries: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    labels: Sequence[str],
    number: str,
) -> None:
    width = 0.8 / len(summaries)
    for k, (data, summary) in enumerate(summaries.items()):
        places = np.arange(len(names)) + (k - (len(summaries) - 1) / 2) * width
        bars = axes.bar(
            places, [summary[name] for name in names], width * 0.92, color=TRAINING_DATA[data].colour
        )
        many = len(summaries) * len(names) > 12  # then the numbers would overlap
        axes.bar_label(bars, fmt=number, fontsize=6.5 if many else 7.5, padding=1.5, rotation=90 * many)
    axes.set_xticks(range(len(names)), labels, fontsize=8.5)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.25)


def target_scores(
    histograms: Mapping[tuple[str, int], pd.DataFrame], target: str, protected: Sequence[str], recipe: str
) -> bytes:
    """Draw histograms of the target score on test: a row per true class, a column per data set.

    Args:
        histograms: (data set, true class) -> score, protected_0, protected_1, ... (% of that group).
        target: the target attribute.
        protected: the names of the protected groups, [n_g].
        recipe: the recipe whose scores they are.

    Returns:
        the figure as SVG.
    """
    data = list(dict.fromkeys(name for name, _ in histograms))
    few, colours = len(protected) == 2, group_colours(len(protected))
    figure = new_figure(4.9)
    panels = figure.subplots(2, len(data), sharex=True, sharey=True, squeeze=False)
    for (name, truth), table in histograms.items():
        axes = panels[truth, data.index(name)]
        for group in range(len(protected)):
            colour = colours[len(protected) * truth + group]
            line = "-" if few else GROUP_LINES[group % len(GROUP_LINES)]
            _histogram(axes, table, f"protected_{group}", colour, line, filled=few)
        axes.set_title(f"{name}, true {target}={truth}")
    for axes in panels[-1]:
        axes.set_xlabel(f"score of {target}")
    for axes in panels[:, 0]:
        axes.set_ylabel("share of the group (%)")
    handles = [
        Line2D(
            [],
            [],
            color=colours[len(protected) * truth + group],
            linestyle="-" if few else GROUP_LINES[group % len(GROUP_LINES)],
            label=f"{target}={truth}, {name}",
        )
        for group, name in enumerate(protected)
        for truth in (0, 1)
    ]
    group_legend(figure, handles, len(colours), title=recipe)
    return svg(figure)


def _histogram(
    axes: Axes,
    table: pd.DataFrame,
    column: str,
    colour: str,
    line: LineStyleType = "-",
    filled: bool = True,
) -> None:
    edges = np.linspace(0, 1, len(table) + 1)
    heights = table[column].to_numpy()
    if filled:
        axes.stairs(heights, edges, baseline=LEAST_SHARE, fill=True, color=colour, alpha=0.28)
    axes.stairs(heights, edges, baseline=LEAST_SHARE, color=colour, linewidth=1.4, linestyle=line)
    axes.set_yscale("log")
    axes.set_ylim(LEAST_SHARE, 130)
    axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.set_xlim(0, 1)


def synthetic_scores(histograms: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float]) -> bytes:
    """Draw histograms of the attribute classifiers' scores of the pairs.

    Args:
        histograms: attribute -> score, z and z_prime (% of the images).
        thresholds: attribute -> its classifier's threshold.

    Returns:
        the figure as SVG.
    """
    figure = new_figure(2.8)
    panels = figure.subplots(1, len(histograms), sharey=True, squeeze=False)[0]
    for axes, (attribute, table) in zip(panels, histograms.items(), strict=True):
        for source, colour in SOURCE_COLOURS.items():
            _histogram(axes, table, source, colour)
        axes.axvline(thresholds[attribute], color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.set_title(f"Classifier of {attribute}")
        axes.set_xlabel(f"score of {attribute}")
    panels[0].set_ylabel("share of the images (%)")
    handles: list[Line2D | Patch] = [
        Patch(color=colour, alpha=0.75, label=SOURCE_LABELS[source])
        for source, colour in SOURCE_COLOURS.items()
    ]
    threshold = Line2D([], [], color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label="threshold")
    legend_above(figure, [*handles, threshold])
    return svg(figure)
