"""Means and deviations of the results, and how they are written: what verdicts, losses and tables share."""

import math
import re
from collections.abc import Sequence

import pandas as pd

from stages.reporting.choices import mean_and_deviation, seeds_of
from stages.reporting.tables import FIGURE_SPACE

PERCENT = "\u00a0%"  # not to be parted from its number

Spread = tuple[float, float]  # mean and standard deviation over the seeds


def cell(runs: pd.DataFrame, data: str, recipe: str, metric: str) -> Spread | None:
    """A metric's mean and deviation of one data set and recipe; None where there is no such run."""
    seeds = seeds_of(runs, data, recipe)
    return mean_and_deviation(seeds, metric) if len(seeds) else None


def difference(first: Spread, second: Spread) -> Spread:
    """The second less the first, and the deviation of that: of independent means, √(σ₁² + σ₂²)."""
    return second[0] - first[0], math.hypot(first[1], second[1])


def spread_text(mean: float, deviation: float, percent: bool) -> str:
    """'87.3 ± 0.4', padded so that right-aligned columns of it line up; '–' where there is no value."""
    if math.isnan(mean):
        return "–"
    if percent:
        return f"{mean * 100:.1f} ±".replace("-", "−") + f"{deviation * 100:.1f}".rjust(4, FIGURE_SPACE)
    return f"{mean:.3f} ± {deviation:.3f}".replace("-", "−")


def unpadded(text: str) -> str:
    """'41.0 ± 1.4' of what `report_spread_text` pads, so that columns of it line up."""
    return re.sub(r"±\s*", "± ", text)


def spread(values: Spread) -> str:
    """'41.0 ± 1.4' in percent, '41.0' without a deviation; '–' where there is no value."""
    text = unpadded(spread_text(*values, percent=True))
    return text.split(" ±")[0] if math.isnan(values[1]) else text


def signed(values: Spread) -> str:
    """'+3.2 ± 1.4' of a difference in percent, as `spread`."""
    return f"+{spread(values)}" if values[0] >= 0 else spread(values)


def points(difference: float) -> str:
    """'+3.2 points' of a difference of shares."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def share(value: float | None) -> str:
    """'41.0 %'; '–' of what is not defined."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %".replace("-", "−")


def group_values(names: Sequence[str]) -> list[str]:
    """Of each group's name the values alone, on one line: "1, 0" of "Blond_Hair=1, Male=0"."""
    return [",\u00a0".join(pair.rsplit("=", 1)[1] for pair in name.split(", ")) for name in names]


def group_headings(names: Sequence[str]) -> list[str]:
    """What a column for each group is headed with: its name, or of more than four its values alone."""
    return list(names) if len(names) <= 4 else group_values(names)
