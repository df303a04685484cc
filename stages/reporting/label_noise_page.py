"""Shows what missing and wrong protected labels cost: a figure, and a section of docs/methods.md."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.content.files import committed
from stages.reporting.choices import BASELINE
from stages.reporting.figures import INK, WIDTH
from stages.reporting.noise_record import (
    COMPLETE,
    FLIPPED,
    HIDDEN,
    STRATEGIES,
    VARIANTS,
    Measured,
    NoiseRecord,
    read_noise,
)
from stages.reporting.tables import markdown_grid
from stages.reporting.text import Spread, difference, plus_minus, points
from stages.shared.paths import LABEL_NOISE_FIGURE, METHODS_PAGE

WORDS = {"left_out": "left out", "predicted": "predicted", "soft": "soft"}
# Of a line: the variants that it joins, by share; its colour, by Okabe and Ito; its marker.
LINES: dict[str, tuple[dict[float, str], str, str]] = {
    **{
        f"hidden, {WORDS[strategy]}": (
            {0.0: COMPLETE, **{share: f"hidden_{share}_{strategy}" for share in HIDDEN}},
            colour,
            marker,
        )
        for strategy, colour, marker in zip(
            STRATEGIES, ("#D55E00", "#0072B2", "#009E73"), ("v", "o", "s"), strict=True
        )
    },
    "turned over": ({0.0: COMPLETE, **{share: f"flipped_{share}" for share in FLIPPED}}, "#4D4D4D", "x"),
}
COLUMNS = 4  # panels in a row
HEIGHT = 2.3  # inches, of a row


def recipes_of(record: NoiseRecord) -> list[str]:
    """Return the recipes that need protected labels, and were trained with complete ones."""
    return [name for name, of in record.recipes(COMPLETE).items() if of.needs_labels]


def references_of(record: NoiseRecord) -> dict[str, Measured]:
    """Return what was measured of recipes that need no protected labels."""
    return {name: of for name, of in record.recipes(COMPLETE).items() if not of.needs_labels}


def line_of(record: NoiseRecord, recipe: str, variants: Mapping[float, str]) -> list[tuple[float, Spread]]:
    """Return the points of a line: share, and worst-group accuracy, of the variants that were measured."""
    return [
        (share, record.recipes(variant)[recipe].worst_group)
        for share, variant in variants.items()
        if recipe in record.recipes(variant)
    ]


def noise_figure(record: NoiseRecord) -> Figure:
    """Draw worst-group accuracy against the share of labels: a panel per recipe, a line per strategy."""
    recipes = recipes_of(record)
    rows = max(1, math.ceil(len(recipes) / COLUMNS))
    columns = min(COLUMNS, max(1, len(recipes)))
    figure = Figure(figsize=(WIDTH, 0.6 + HEIGHT * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, recipe in zip(panels, recipes, strict=False):
        _panel(axes, record, recipe)
    for axes in panels[len(recipes) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(recipes) - columns) : len(recipes)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    legend: dict[str, Artist] = {}
    for axes in panels[: len(recipes)]:
        handles, labels = axes.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
    figure.legend(list(legend.values()), list(legend), loc="outside upper left", ncols=max(1, len(legend)))
    figure.supxlabel("share of the training images' protected labels (%)", fontsize="medium", color=INK)
    figure.supylabel("worst-group accuracy on test (%)", fontsize="medium", color=INK)
    return figure


def _panel(axes: Axes, record: NoiseRecord, recipe: str) -> None:
    for name, (variants, colour, marker) in LINES.items():
        found = line_of(record, recipe, variants)
        if len(found) < 2:
            continue
        shares = [100 * share for share, _ in found]
        means, deviations = (100 * np.array([pair[k] for _, pair in found]) for k in (0, 1))
        axes.errorbar(
            shares,
            means,
            None if np.isnan(deviations).all() else deviations,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.4,
            capsize=2,
            linestyle="--" if name == "turned over" else "-",
            label=name,
        )
    for name, of in references_of(record).items():
        axes.axhline(100 * of.worst_group[0], color="#999999", linewidth=1, linestyle=":", label=name)
    axes.set_title(recipe)
    axes.set_ylim(0, 100)


def draw_figure(record: NoiseRecord, path: Path) -> None:
    """Write the figure as PNG, where any recipe that needs labels is measured."""
    if recipes_of(record):
        path.parent.mkdir(parents=True, exist_ok=True)
        with committed(path) as temporary:
            noise_figure(record).savefig(temporary, format="png", dpi=110, metadata={"Software": None})


# --- The section of the page -----------------------------------------------------------------------------


def heading_of(variant: str) -> str:
    """Name a variant as a column: "50 % hidden, left out"."""
    of = VARIANTS[variant]
    if variant == COMPLETE:
        return "complete"
    if of.flipped:
        return f"{100 * of.flipped:.0f} % turned over"
    return f"{100 * of.hidden:.0f} % hidden, {WORDS[of.strategy]}"


def mean_cost(record: NoiseRecord, variant: str) -> float | None:
    """Compute the change in worst-group accuracy against complete labels, the mean over the recipes."""
    complete, found = record.recipes(COMPLETE), record.recipes(variant)
    changes = [
        found[name].worst_group[0] - complete[name].worst_group[0]
        for name in recipes_of(record)
        if name in found
    ]
    return float(np.mean(changes)) if changes else None


def still_ahead(record: NoiseRecord, variant: str, reference: str) -> list[str]:
    """Name the recipes whose worst group beats a reference's by more than the deviation, if there is one."""
    found, baseline = record.recipes(variant), references_of(record)[reference].worst_group
    ahead = []
    for name in recipes_of(record):
        if name in found:
            gain, deviation = difference(baseline, found[name].worst_group)
            if gain > (0.0 if math.isnan(deviation) else deviation):
                ahead.append(name)
    return ahead


@dataclass(frozen=True)
class NoiseSection:
    """What the template of the section shows.

    Attributes:
        figure: the path of the figure from the page.
        table: worst-group accuracies, a row per recipe, in Markdown.
        costs: of each variant what it costs, such as "50 % hidden, left out: −3.2 points".
        ahead: of the worst variants: which recipes are still ahead of the recipe that needs no labels.
        reference: `erm`; empty where it was not measured.
        failures: sentences on variants that could not be measured.
    """

    figure: str
    table: str
    costs: list[str]
    ahead: list[str]
    reference: str
    failures: list[str]


def noise_section() -> NoiseSection | None:
    """Return what docs/methods.md shows; None where nothing is measured."""
    record = read_noise()
    recipes = recipes_of(record)
    if not recipes:
        return None
    rows = [[f"`{name}`", *(_cell(record, variant, name) for variant in VARIANTS)] for name in recipes]
    reference = BASELINE if BASELINE in references_of(record) else ""
    costs = {variant: mean_cost(record, variant) for variant in VARIANTS if variant != COMPLETE}
    failures = {name: record.variants[name].failed for name in VARIANTS if name in record.variants}
    worst = [name for name, of in VARIANTS.items() if of.hidden == HIDDEN[-1] or of.flipped == FLIPPED[-1]]
    return NoiseSection(
        figure=LABEL_NOISE_FIGURE.relative_to(METHODS_PAGE.parent).as_posix(),
        table=markdown_grid(["recipe", *map(heading_of, VARIANTS)], rows),
        costs=[f"{heading_of(name)}: {points(cost)}" for name, cost in costs.items() if cost is not None],
        ahead=[
            f"{heading_of(name)}: {_named(still_ahead(record, name, reference))}"
            for name in worst
            if reference and name in record.variants
        ],
        reference=reference,
        failures=[f"{heading_of(name)}: {why}" for name, why in failures.items() if why],
    )


def _named(recipes: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in recipes) or "none"


def _cell(record: NoiseRecord, variant: str, recipe: str) -> str:
    found = record.recipes(variant).get(recipe)
    return "–" if found is None else plus_minus(found.worst_group)
