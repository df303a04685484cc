"""Means and deviations of the results, and how they are written: what verdicts, losses and tables share."""

import math
import re

import pandas as pd

from stages.reporting import tables
from stages.reporting.choices import mean_and_deviation, seeds_of

Spread = tuple[float, float]  # mean and standard deviation over the seeds


def cell(runs: pd.DataFrame, data: str, recipe: str, metric: str) -> Spread | None:
    """A metric's mean and deviation of one data set and recipe; None where there is no such run."""
    seeds = seeds_of(runs, data, recipe)
    return mean_and_deviation(seeds, metric) if len(seeds) else None


def difference(first: Spread, second: Spread) -> Spread:
    """The second less the first, and the deviation of that: of independent means, √(σ₁² + σ₂²)."""
    return second[0] - first[0], math.hypot(first[1], second[1])


def unpadded(text: str) -> str:
    """'41.0 ± 1.4' of what `report_tables.spread_text` pads, so that columns of it line up."""
    return re.sub(r"±\s*", "± ", text)


def spread(values: Spread) -> str:
    """'41.0 ± 1.4' in percent, '41.0' without a deviation; '–' where there is no value."""
    text = unpadded(tables.spread_text(*values, percent=True))
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
