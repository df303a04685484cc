"""What the report says in words and tables: pure functions of the evaluation's table of runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

SELECTION = "worst_group_accuracy"  # on validation; metrics.json has the same
BINS = 50  # of every score histogram, as in kl_scores
FIGURE_SPACE = "\u2007"  # as wide as a digit
PERCENT = "\u00a0%"  # not to be parted from its number


@dataclass(frozen=True)
class Column:
    """A metric in a table: its name in metrics.json, its heading, and whether it is written in %."""

    name: str
    heading: str
    percent: bool = False


ACCURACIES = (
    Column("accuracy", "Accuracy", percent=True),
    Column("balanced_accuracy", "Balanced accuracy", percent=True),
    Column("worst_group_accuracy", "Worst-group accuracy", percent=True),
)
MATCHED = Column("worst_group_accuracy_count_matched", "Worst-group accuracy", percent=True)
PAPER = (  # the columns of the paper's tables, in their order
    Column("average_precision", "AP", percent=True),
    Column("deo", "DEO", percent=True),
    Column("bias_amplification", "BA", percent=True),
    Column("kl_scores_published", "KL as published (nats)"),
)
DISTANCES = (
    Column("kl_scores", "KL of scores (nats)"),
    Column("statistical_parity_difference", "SPD", percent=True),
    Column("equal_opportunity_difference", "EOD", percent=True),
    Column("average_odds_difference", "AOD", percent=True),
    Column("disparate_impact", "Disparate impact (ratio)"),
    Column("protected_0_calibration_error", "ECE, group 0", percent=True),
    Column("protected_1_calibration_error", "ECE, group 1", percent=True),
)
GROUP_ACCURACIES = tuple(Column(f"group_{g}_accuracy", f"group {g}", percent=True) for g in range(4))
MATCHED_GROUP_ACCURACIES = tuple(f"group_{g}_accuracy_count_matched" for g in range(4))

# METHODS 2, of CelebA: AP, DEO, BA (%) and KL by the kind of target, baseline → augmented, each ± two
# deviations of the bootstrap.
PUBLISHED = {
    "inconsistently labelled": (
        "66.3±1.8 → 65.2±1.9", "21.5±4.4 → 16.5±4.2", "2.1±0.6 → 0.5±0.6", "1.7±0.3 → 1.3±0.4",
    ),
    "gender-dependent": (
        "78.6±1.4 → 77.8±1.4", "25.7±3.5 → 23.4±3.6", "2.3±0.5 → 1.6±0.5", "1.3±0.2 → 1.2±0.2",
    ),
    "gender-independent": (
        "83.9±1.5 → 83.0±1.6", "16.7±5.0 → 13.9±5.2", "0.3±0.6 → 0.0±0.5", "1.1±0.5 → 0.9±0.6",
    ),
}  # fmt: skip
# METHODS 3, of CelebA, Blond_Hair with Male: the recipe, worst-group and average accuracy (%).
PUBLISHED_ACCURACIES = (
    ("ERM", 41.1, 94.8),
    ("Group DRO", 41.1, 94.7),
    ("ERM, strong ℓ2", 37.8, 95.8),
    ("Group DRO, strong ℓ2", 86.7, 93.5),
)


def mean_and_deviation(seeds: pd.DataFrame, metric: str) -> tuple[float, float]:
    """A metric's mean over the seeds and its standard deviation: over them, or the one seed's bootstrap's."""
    if len(seeds) == 1:
        return float(seeds[metric].iloc[0]), float(seeds[f"{metric}_bootstrap_std"].iloc[0])
    return float(seeds[metric].mean()), float(seeds[metric].std(ddof=1))


def spread_text(mean: float, deviation: float, percent: bool) -> str:
    """'87.3 ± 0.4', padded so that right-aligned columns of it line up; '–' where there is no value."""
    if math.isnan(mean):
        return "–"
    if percent:
        return f"{mean * 100:.1f} ±".replace("-", "−") + f"{deviation * 100:.1f}".rjust(4, FIGURE_SPACE)
    return f"{mean:.3f} ± {deviation:.3f}".replace("-", "−")


def seeds_of(runs: pd.DataFrame, data: str, recipe: str, selection: str = SELECTION) -> pd.DataFrame:
    """The rows of one cell of the matrix: one for each seed."""
    chosen = (runs["data"] == data) & (runs["recipe"] == recipe) & (runs["selection"] == selection)
    return runs[chosen]


def table_rows(
    runs: pd.DataFrame,
    columns: Sequence[Column],
    best: str | None = None,
    lowest: bool = False,
    selection: str = SELECTION,
) -> list[dict[str, Any]]:
    """A row for each data set and recipe: data, recipe, cells (metric -> text), best.

    Args:
        runs: of out/evaluation/runs.parquet.
        best: the metric that decides which row of a data set is marked; equal ones all are.
        lowest: whether less of it is better.
        selection: the metric that chose the weights on validation.
    """
    means = (
        runs[runs["selection"] == selection].groupby(["data", "recipe"], sort=False).mean(numeric_only=True)
    )
    marked = means[best].groupby("data").transform("min" if lowest else "max") if best else None
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
            "best": marked is not None and means.loc[(data, recipe), best] == marked[data, recipe],
        }
        for data, recipe in means.index
    ]


def worst_group_of(seeds: pd.DataFrame) -> int:
    """The group whose accuracy, mean over the seeds, is the lowest."""
    return int(np.nanargmin([seeds[column.name].mean() for column in GROUP_ACCURACIES]))


def accuracies_beside(seeds: pd.DataFrame) -> list[dict[str, Any]]:
    """Each group's accuracy where gaps are measured, mean over the seeds: text (%), whether it is the worst.

    A gap that closes because every group got worse shows here.
    """
    means = np.array([seeds[name].mean() for name in MATCHED_GROUP_ACCURACIES])
    lowest = np.fmin.reduce(means)
    return [
        {"text": "–" if math.isnan(mean) else f"{mean * 100:.1f}", "worst": bool(mean == lowest)}
        for mean in means
    ]


def headline(runs: pd.DataFrame, recipe: str) -> str:
    """One sentence: what the augmentation did to a recipe's worst-group accuracy, for better or worse."""
    values = {
        data: mean_and_deviation(seeds_of(runs, data, recipe), SELECTION) for data in runs["data"].unique()
    }
    texts = {
        data: f"{mean * 100:.1f} ± {deviation * 100:.1f}".replace(" ", "\u00a0") + PERCENT
        for data, (mean, deviation) in values.items()
    }
    augmented = f"{texts['augmented']} on the augmented data"
    oracle = (
        f"; the oracle, trained on balanced real data, reaches {texts['oracle']}" if "oracle" in texts else ""
    )
    if "original" not in values:
        return f"With {recipe}, worst-group accuracy is {augmented}{oracle}."
    (before, before_deviation), (after, after_deviation) = values["original"], values["augmented"]
    gain = after - before
    change = f"{gain * 100:+.1f} points".replace("-", "−")
    if abs(gain) <= math.hypot(before_deviation, after_deviation):
        verb, verdict = "goes", f"{change}: no clear change, it is within the deviations"
    elif gain > 0:
        verb, verdict = "rises", change
    else:
        verb, verdict = "falls", f"{change}: the augmentation made it worse"
    return (
        f"With {recipe}, worst-group accuracy {verb} from {texts['original']} on the original data to "
        f"{augmented} ({verdict}){oracle}."
    )


def before_and_after(values: Mapping[str, str]) -> str:
    """'41.1 → 60.2' of the original and the augmented data, or the augmented data's value alone."""
    return " → ".join(values[data] for data in ("original", "augmented") if data in values)


def tiles(
    runs: pd.DataFrame, recipe: str, datasheet: Mapping[str, Any], attributes: Sequence[str]
) -> list[dict[str, str]]:
    """The key figures under the headline: label, value and note."""
    chosen = runs[runs["selection"] == SELECTION]
    means = chosen.groupby(["data", "recipe"], sort=False).mean(numeric_only=True)
    data = runs["data"].unique().tolist()

    def of_recipe(metric: str) -> dict[str, str]:
        return {name: f"{100 * means.loc[(name, recipe), metric]:.1f}" for name in data}

    worst = of_recipe(SELECTION)
    oracle = f"; oracle {worst['oracle']}{PERCENT}" if "oracle" in worst else ""
    by_recipe = {name: means.loc[name][SELECTION] for name in data}
    best = before_and_after({name: f"{100 * values.max():.1f}" for name, values in by_recipe.items()})
    kept, flipped = 100 * datasheet["target_kept"], 100 * datasheet["protected_flipped"]
    target, protected = attributes
    return [
        {
            "label": f"Worst-group accuracy, {recipe}",
            "value": before_and_after(worst) + PERCENT,
            "note": f"original → augmented{oracle}",
        },
        {
            "label": "Worst group, best recipe",
            "value": best + PERCENT,
            "note": before_and_after({name: str(values.idxmax()) for name, values in by_recipe.items()}),
        },
        {
            "label": f"Accuracy, {recipe}",
            "value": before_and_after(of_recipe("accuracy")) + PERCENT,
            "note": f"balanced: {before_and_after(of_recipe('balanced_accuracy'))}{PERCENT}",
        },
        {
            "label": "KL of the training labels",
            "value": f"{datasheet['before']['kl_joint']:.3f} → {datasheet['after']['kl_joint']:.3f}",
            "note": f"nats; 0 where {target} is independent of {protected}",
        },
        {
            "label": "Pairs: kept · flipped",
            "value": f"{kept:.1f} · {flipped:.1f}{PERCENT}",
            "note": f"{target} kept · {protected} flipped",
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
