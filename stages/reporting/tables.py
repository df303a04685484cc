"""What the report says in words and tables: pure functions of the evaluation's table of runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.measures.evaluation import MATCHED as MATCHED_NAMES
from classifiers.measures.evaluation import METRICS, Metric, Shown
from pipeline.content.groups import protected_groups
from stages.reporting.choices import (
    BASELINE,
    CHOICE,
    CHOICE_FIGURES,
    SELECTION,
    cells_of,
    chosen_recipes,
    gap_of,
    mean_and_deviation,
    seeds_of,
    summary_table,
)

BINS = 50  # of every score histogram, as in kl_scores
FIGURE_SPACE = "\u2007"  # as wide as a digit
PERCENT = "\u00a0%"  # not to be parted from its number


def columns_of(table: str) -> tuple[Metric, ...]:
    """List the metrics that a table shows, in the order of their registration."""
    return tuple(metric for metric in METRICS if metric.table == table)


ACCURACIES, PAPER, DISTANCES = (columns_of(table) for table in ("accuracies", "paper", "fairness"))
(MATCHED,) = columns_of("matched")


def calibration_columns(attribute: str = "") -> tuple[Shown, ...]:
    """The calibration errors of the two groups of the protected attribute, or of one of several."""
    return tuple(
        Shown(f"protected_{g}_calibration_error{attribute}", f"ECE, group {g}", True, "lowest")
        for g in (0, 1)
    )


def group_columns(n_groups: int) -> tuple[Shown, ...]:
    """The accuracy of every group, [2 n_g]."""
    return tuple(Shown(f"group_{g}_accuracy", f"group {g}", percent=True) for g in range(n_groups))


def attribute_columns(attribute: str) -> tuple[Shown, ...]:
    """Of several protected attributes, the measures of one for itself."""
    alone = [metric for metric in (*ACCURACIES, *PAPER, *DISTANCES) if metric.of_groups]
    renamed = (Shown(f"{m.name}_{attribute}", m.heading, m.percent, m.best) for m in alone)
    return (*renamed, *calibration_columns(f"_{attribute}"))


# METHODS 2, of CelebA: AP, DEO, BA (%) and KL by the kind of target, baseline → augmented, each ± two
# deviations of the bootstrap. One BA: CelebA's test groups are about as frequent as its training groups.
PUBLISHED = {
    "inconsistently labelled": (
        "66.3±1.8 → 65.2±1.9", "21.5±4.4 → 16.5±4.2", "2.1±0.6 → 0.5±0.6", "–", "1.7±0.3 → 1.3±0.4",
    ),
    "gender-dependent": (
        "78.6±1.4 → 77.8±1.4", "25.7±3.5 → 23.4±3.6", "2.3±0.5 → 1.6±0.5", "–", "1.3±0.2 → 1.2±0.2",
    ),
    "gender-independent": (
        "83.9±1.5 → 83.0±1.6", "16.7±5.0 → 13.9±5.2", "0.3±0.6 → 0.0±0.5", "–", "1.1±0.5 → 0.9±0.6",
    ),
}  # fmt: skip
# METHODS 3, of CelebA, Blond_Hair with Male: the recipe, worst-group and average accuracy (%).
PUBLISHED_ACCURACIES = (
    ("ERM", 41.1, 94.8),
    ("Group DRO", 41.1, 94.7),
    ("ERM, strong ℓ2", 37.8, 95.8),
    ("Group DRO, strong ℓ2", 86.7, 93.5),
)
# METHODS 3, what the study that zprime follows reports of itself.
STUDY = (
    "In the study that zprime follows (10,000 images, 20 epochs, batches of 4), worst-group accuracy was "
    f"0{PERCENT} to 12{PERCENT}, an epoch of Group DRO took 1.5 times one of ERM, and it ran out of memory."
)


def spread_text(mean: float, deviation: float, percent: bool) -> str:
    """'87.3 ± 0.4', padded so that right-aligned columns of it line up; '–' where there is no value."""
    if math.isnan(mean):
        return "–"
    if percent:
        return f"{mean * 100:.1f} ±".replace("-", "−") + f"{deviation * 100:.1f}".rjust(4, FIGURE_SPACE)
    return f"{mean:.3f} ± {deviation:.3f}".replace("-", "−")


def table_rows(
    runs: pd.DataFrame, columns: Sequence[Shown], selection: str = SELECTION
) -> list[dict[str, Any]]:
    """A row for each data set and recipe: data, recipe, cells (metric -> text), chosen (by validation).

    Args:
        runs: of out/evaluation/runs.parquet.
        selection: the metric that chose the weights on validation.
    """
    chosen = chosen_recipes(runs)
    return [
        {
            "data": data,
            "recipe": recipe,
            "cells": {
                column.name: spread_text(
                    *mean_and_deviation(seeds_of(runs, data, recipe, selection), column.name), column.percent
                )
                for column in columns
            },
            "chosen": chosen[data] == recipe,
        }
        for data, recipe in cells_of(runs)
    ]


def summary_rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The figures that choose and are compared, as text (%): data, recipe, chosen, and each NAME."""
    table = summary_table(runs)
    texts = {
        name: [
            spread_text(*spread, percent=True)
            for spread in zip(table[name], table[f"{name}_std"], strict=True)
        ]
        for name in (CHOICE, *CHOICE_FIGURES, "gap_closed")
    }
    rows = table[["data", "recipe", "chosen"]].assign(**texts).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def worst_group_of(seeds: pd.DataFrame, n_groups: int) -> int:
    """The group whose accuracy, mean over the seeds, is the lowest."""
    return int(np.nanargmin([seeds[column.name].mean() for column in group_columns(n_groups)]))


def accuracies_beside(seeds: pd.DataFrame, n_groups: int, ending: str = "") -> list[dict[str, Any]]:
    """Each group's accuracy where gaps are measured, mean over the seeds: text (%), whether it is the worst.

    A gap that closes because every group got worse shows here.

    Args:
        ending: of several protected attributes "_NAME", for the groups of one.
    """
    names = (f"{column.name}{MATCHED_NAMES}{ending}" for column in group_columns(n_groups))
    means = np.array([seeds[name].mean() for name in names])
    lowest = np.fmin.reduce(means)
    return [
        {"text": "–" if math.isnan(mean) else f"{mean * 100:.1f}", "worst": bool(mean == lowest)}
        for mean in means
    ]


def in_percent(mean: float, deviation: float) -> str:
    """'41.0 ± 1.4 %', of a sentence, never broken over two lines."""
    return f"{mean * 100:.1f} ± {deviation * 100:.1f}".replace(" ", "\u00a0") + PERCENT


def verdict(before: tuple[float, float], after: tuple[float, float]) -> tuple[str, str]:
    """A change of a mean ± deviation: its verb, and what to think of it, in points."""
    gain = after[0] - before[0]
    change = f"{gain * 100:+.1f} points".replace("-", "−")
    if abs(gain) <= math.hypot(before[1], after[1]):
        return "goes", f"{change}: no clear change, it is within the deviations"
    return ("rises", change) if gain > 0 else ("falls", f"{change}: the augmentation made it worse")


def headline(runs: pd.DataFrame, recipe: str) -> str:
    """One sentence: what the augmentation did to a recipe's worst-group accuracy, for better or worse."""
    values = {
        data: mean_and_deviation(seeds_of(runs, data, recipe), SELECTION)
        for data, of in cells_of(runs)
        if of == recipe
    }
    texts = {data: in_percent(*value) for data, value in values.items()}
    oracle = (
        f"; the oracle, trained on balanced real data, reaches {texts['oracle']}" if "oracle" in texts else ""
    )
    if "augmented" not in texts:
        return f"With {recipe}, every training on the augmented data ended on its plateau{oracle}."
    augmented = f"{texts['augmented']} on the augmented data"
    if "original" not in values:
        return f"With {recipe}, worst-group accuracy is {augmented}{oracle}."
    verb, judged = verdict(values["original"], values["augmented"])
    return (
        f"With {recipe}, worst-group accuracy {verb} from {texts['original']} on the original data to "
        f"{augmented} ({judged}){oracle}."
    )


def choice_sentence(runs: pd.DataFrame) -> str:
    """One sentence: the best recipe of the original and of the augmented data, as validation chooses them.

    Empty where neither has a run.
    """
    recipes = chosen_recipes(runs)
    values = {
        data: mean_and_deviation(seeds_of(runs, data, recipes[data]), SELECTION)
        for data in ("original", "augmented")
        if data in recipes
    }
    parts = [f"{recipes[data]} on the {data} data ({in_percent(*value)})" for data, value in values.items()]
    if not parts:
        return ""
    sentence = f"Of all recipes, validation chooses {' and '.join(parts)}"
    if len(values) == 2:
        sentence += f": {verdict(values['original'], values['augmented'])[1]}"
    closed = gap_of(runs).closed(*values["augmented"])[0] if "augmented" in values else math.nan
    if math.isnan(closed):
        return f"{sentence}."
    share = f"{closed * 100:.0f}".replace("-", "−") + PERCENT
    return f"{sentence}; the latter closes {share} of the gap to the oracle."


def before_and_after(values: Mapping[str, str]) -> str:
    """'41.1 → 60.2' of the original and the augmented data; without the former, the latter's value alone."""
    return " → ".join([*([values["original"]] if "original" in values else []), values.get("augmented", "–")])


def tiles(
    runs: pd.DataFrame, recipe: str, datasheet: Mapping[str, Any], target: str, protected: Sequence[str]
) -> list[dict[str, str]]:
    """The key figures under the headline: label, value and note."""
    best, gap = chosen_recipes(runs), gap_of(runs)

    def over_data(metric: str, recipes: Mapping[str, str]) -> dict[str, str]:
        means = {data: float(seeds_of(runs, data, recipe)[metric].mean()) for data, recipe in recipes.items()}
        return {data: f"{100 * mean:.1f}" for data, mean in means.items() if not math.isnan(mean)}

    same = dict.fromkeys(best, recipe)
    worst = over_data(SELECTION, same)
    oracle = f"; oracle {worst['oracle']}{PERCENT}" if "oracle" in worst else ""
    ends = [seeds_of(runs, "augmented", r)[SELECTION].mean() for r in (recipe, best.get("augmented", recipe))]
    shares = [gap.closed(float(end), 0.0)[0] for end in ends]
    closed = " · ".join("–" if math.isnan(share) else f"{100 * share:.0f}" for share in shares)
    kept, flipped = 100 * datasheet["target_kept"], 100 * datasheet["protected_flipped"]
    return [
        {
            "label": f"Worst-group accuracy, {recipe}",
            "value": before_and_after(worst) + PERCENT,
            "note": f"original → augmented{oracle}",
        },
        {
            "label": "Worst group, recipe chosen on validation",
            "value": before_and_after(over_data(SELECTION, best)) + PERCENT,
            "note": before_and_after(best),
        },
        {
            "label": "Gap closed by the augmented data",
            "value": closed.replace("-", "−") + PERCENT,
            "note": f"{recipe} · recipe chosen; gap: {BASELINE} on oracle less on original",
        },
        {
            "label": f"Accuracy, {recipe}",
            "value": before_and_after(over_data("accuracy", same)) + PERCENT,
            "note": f"balanced: {before_and_after(over_data('balanced_accuracy', same))}{PERCENT}",
        },
        {
            "label": "KL of the training labels",
            "value": f"{datasheet['before']['kl_joint']:.3f} → {datasheet['after']['kl_joint']:.3f}",
            "note": f"nats; 0 where {target} is independent of {' and '.join(protected)}",
        },
        {
            "label": "Pairs: kept · flipped",
            "value": f"{kept:.1f} · {flipped:.1f}{PERCENT}",
            "note": f"{target} kept · {'what was to flip' if len(protected) > 1 else protected[0]} flipped",
        },
    ]


def deviation_note(seeds: int, resamples: int) -> str:
    """What stands behind ± in this report."""
    if seeds == 1:
        return (
            f"One seed: ± is the bootstrap standard deviation over the test images ({resamples} resamples); "
            "it does not show how much another seed would differ."
        )
    return f"Mean ± standard deviation over {seeds} seeds (n − 1)."


def group_values(names: Sequence[str]) -> list[str]:
    """Of each group's name the values alone, on one line: "1, 0" of "Blond_Hair=1, Male=0"."""
    return [",\u00a0".join(pair.rsplit("=", 1)[1] for pair in name.split(", ")) for name in names]


def group_headings(names: Sequence[str]) -> list[str]:
    """What a column for each group is headed with: its name, or of more than four its values alone."""
    return list(names) if len(names) <= 4 else group_values(names)


def groups_of(labels: pd.DataFrame, attributes: Sequence[str]) -> NDArray[np.int64]:
    """The group t * n_g + a of each row, of the columns of the target and the protected attributes: [n]."""
    protected, n_groups = protected_groups(labels[list(attributes[1:])].to_numpy(dtype=np.int64))
    return labels[attributes[0]].to_numpy(dtype=np.int64) * n_groups + protected


def evenly_per_group(table: pd.DataFrame, per_group: int) -> pd.DataFrame:
    """As many rows of every group, evenly spaced in the order of the ids: nothing is picked by eye.

    Args:
        table: id, group, and what else is to be kept.
    """
    chosen = []
    for _, members in table.sort_values("id").groupby("group"):
        count = min(per_group, len(members))
        chosen.append(members.iloc[np.arange(count) * len(members) // count])
    return pd.concat(chosen, ignore_index=True)


def binned_shares(scores: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Histograms over [0, 1]: score (the bin's centre), then for each set the share of its scores in %."""
    edges = np.linspace(0, 1, BINS + 1)
    shares = {name: np.histogram(s, edges)[0] * 100 / max(1, len(s)) for name, s in scores.items()}
    return pd.DataFrame({"score": (edges[:-1] + edges[1:]) / 2, **shares})
