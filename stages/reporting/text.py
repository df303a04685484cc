"""Means and deviations of the results, and how verdicts, leaks and tables write them."""

import math
import re
from collections.abc import Sequence

import pandas as pd

from stages.reporting.choices import mean_and_deviation, seeds_of
from stages.reporting.tables import FIGURE_SPACE

PERCENT = "\u00a0%"  # no line break before it

Spread = tuple[float, float]  # mean and standard deviation over the seeds


def cell(runs: pd.DataFrame, data: str, recipe: str, metric: str) -> Spread | None:
    """Return a metric's mean and deviation for a data set and recipe; None if there is no such run."""
    seeds = seeds_of(runs, data, recipe)
    return mean_and_deviation(seeds, metric) if len(seeds) else None


def difference(first: Spread, second: Spread) -> Spread:
    """Return second - first, with the deviation for independent means, √(σ₁² + σ₂²)."""
    return second[0] - first[0], math.hypot(first[1], second[1])


def spread_text(mean: float, deviation: float, percent: bool) -> str:
    """Write a mean and its deviation: '87.3 ± 0.4'.

    Args:
        mean: of a metric.
        deviation: NaN if unknown.
        percent: whether the metric is a share that is shown in percent.

    Returns:
        padded, so that right-aligned columns line up; '–' if there is no value.
    """
    if math.isnan(mean):
        return "–"
    if percent:
        return f"{mean * 100:.1f} ±".replace("-", "−") + f"{deviation * 100:.1f}".rjust(4, FIGURE_SPACE)
    return f"{mean:.3f} ± {deviation:.3f}".replace("-", "−")


def unpadded(text: str) -> str:
    """Remove the padding of `spread_text`: '41.0 ± 1.4'."""
    return re.sub(r"±\s*", "± ", text)


def plus_minus(values: Spread) -> str:
    """Return '41.0 ± 1.4' in percent, '41.0' without a deviation; '–' if there is no value."""
    text = unpadded(spread_text(*values, percent=True))
    return text.split(" ±")[0] if math.isnan(values[1]) else text


def signed(values: Spread) -> str:
    """Return '+3.2 ± 1.4' for a difference, in percent."""
    return f"+{plus_minus(values)}" if values[0] >= 0 else plus_minus(values)


def points(difference: float) -> str:
    """Return '+3.2 points' for a difference of shares."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def percent(share: float | None) -> str:
    """Return '41.0' for 0.41; '–' if undefined."""
    return "–" if share is None else f"{100 * share:.1f}"


def share(value: float | None) -> str:
    """Return '41.0 %' for 0.41; '–' if undefined."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %".replace("-", "−")


def group_values(names: Sequence[str]) -> list[str]:
    """Return only the values of each group's name, on one line: "1, 0" for "Blond_Hair=1, Male=0"."""
    return [",\u00a0".join(pair.rsplit("=", 1)[1] for pair in name.split(", ")) for name in names]


def group_headings(names: Sequence[str]) -> list[str]:
    """Return a heading for each group: its name, or only its values if there are more than four groups."""
    return list(names) if len(names) <= 4 else group_values(names)
