"""The targets of the default benchmark, and whether the figures of the runs reach them.

Pure functions. A target whose runs are missing is neither reached nor missed: the missing runs are named.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from classifiers.training.method_settings import Recipe
from stages.reporting.choices import BASELINE, SELECTION, cells_of, chosen_recipes, gap_of, seeds_of
from stages.reporting.text import Spread, cell, difference, plus_minus, points

SEEDS = 5  # the targets are about means over so many seeds
HALF_OF_GAP, MOST_OF_GAP = 0.5, 0.85  # targets 1 and 2: shares of the gap
POINTS = 0.03  # target 2: of worst-group accuracy
ROUNDING = 1e-9  # means of equal figures may differ by this
NO_GAP = "There is no gap to measure: it takes ERM on all three data sets, and the oracle's the better."
# The best recipe on the original data must be chosen from these, or beating it says little.
RIVALS: dict[str, Callable[[Recipe], bool]] = {
    "Group DRO": lambda recipe: recipe.method.name == "group_dro",
    "group-balanced batches": lambda recipe: recipe.sampler == "group_balanced",
}
ENDS = (("original", BASELINE), ("oracle", BASELINE))  # of the gap

MatrixCell = tuple[str, str]  # data set, recipe


@dataclass(frozen=True)
class Verdict:
    """The verdict on a target.

    Attributes:
        claim: the target, one sentence.
        measured: the figures that decide, and the missing runs if they cannot.
        reached: None if a run that it needs is missing.
    """

    claim: str
    measured: str
    reached: bool | None

    @property
    def word(self) -> str:
        """The verdict in one word or two."""
        return {True: "reached", False: "not reached", None: "cannot be told"}[self.reached]


def verdicts(runs: pd.DataFrame, definitions: Mapping[str, Recipe]) -> list[Verdict]:
    """Decide the three targets by the figures of the runs.

    Args:
        runs: out/evaluation/runs.parquet; recipes are chosen on validation (`stages.reporting.choices`).
        definitions: train.definitions of the parameters.

    Returns:
        a verdict on each target.
    """
    chosen = chosen_recipes(runs)
    return [
        _half_of_the_gap(runs),
        _most_of_the_gap(runs, chosen, definitions),
        _accuracy_stays(runs, chosen),
    ]


def _decided(claim: str, measured: str, reached: bool, missing: Sequence[str]) -> Verdict:
    """Return a verdict; it is open if runs are missing."""
    if not missing:
        return Verdict(claim, measured, reached)
    return Verdict(claim, f"{measured} What it takes and is missing: {'; '.join(missing)}.", None)


def _seeds(runs: pd.DataFrame, data: str, recipe: str) -> int:
    return int(seeds_of(runs, data, recipe)["seed"].nunique())


def _missing_seeds(runs: pd.DataFrame, cells: Sequence[MatrixCell]) -> list[str]:
    """Name the cells with fewer than `SEEDS` seeds."""
    counts = {(data, recipe): _seeds(runs, data, recipe) for data, recipe in cells}
    return [
        f"{SEEDS} seeds of {recipe} on the {data} data (there {'is' if n == 1 else 'are'} {n})"
        for (data, recipe), n in counts.items()
        if n < SEEDS
    ]


def _missing_rivals(runs: pd.DataFrame, definitions: Mapping[str, Recipe]) -> list[str]:
    """Name those of `RIVALS` that no recipe on the original data covers, or none with all seeds."""
    trained = [recipe for data, recipe in cells_of(runs) if data == "original" and recipe in definitions]
    missing = []
    for name, is_one in RIVALS.items():
        recipes = [recipe for recipe in trained if is_one(definitions[recipe])]
        if not recipes:
            missing.append(f"a recipe with {name} on the original data")
        elif max(_seeds(runs, "original", recipe) for recipe in recipes) < SEEDS:
            missing += _missing_seeds(runs, [("original", recipe) for recipe in recipes])
    return missing


def _closed(runs: pd.DataFrame, recipe: str) -> Spread | None:
    """Return the share of the gap that the augmented data close with a recipe; None if there is no gap."""
    found = cell(runs, "augmented", recipe, SELECTION)
    closed = gap_of(runs).closed(*found) if found else (math.nan, math.nan)
    return None if math.isnan(closed[0]) else closed


def _half_of_the_gap(runs: pd.DataFrame) -> Verdict:
    claim = "ERM on the augmented data closes at least half of the gap."
    closed = _closed(runs, BASELINE)
    if closed is None:
        return Verdict(claim, NO_GAP, None)
    missing = _missing_seeds(runs, [*ENDS, ("augmented", BASELINE)])
    return _decided(
        claim, f"It closes {plus_minus(closed)} % of it.", closed[0] >= HALF_OF_GAP - ROUNDING, missing
    )


def _most_of_the_gap(
    runs: pd.DataFrame, chosen: Mapping[str, str], definitions: Mapping[str, Recipe]
) -> Verdict:
    claim = (
        "The best recipe on the augmented data closes at least 85 % of the gap, and beats the best recipe on "
        "the original data, group-balanced batches and Group DRO among them, by at least 3 points, beyond "
        "one standard deviation."
    )
    closed = _closed(runs, chosen["augmented"])
    best = {data: cell(runs, data, chosen[data], SELECTION) for data in ("original", "augmented")}
    before, after = best["original"], best["augmented"]
    if closed is None or before is None or after is None:
        return Verdict(claim, NO_GAP, None)
    gain, deviation = difference(before, after)
    beats = gain >= POINTS - ROUNDING and gain > deviation
    measured = (
        f"{chosen['augmented']} on the augmented data closes {plus_minus(closed)} % of it: worst-group "
        f"accuracy {plus_minus(after)} %, against {plus_minus(before)} % of {chosen['original']} on the "
        f"original data: {points(gain)}, with a deviation of {100 * deviation:.1f}; the gain "
        + ("passes" if beats else "does not pass")
        + " on its own."
    )
    cells = dict.fromkeys([*ENDS, *((data, chosen[data]) for data in best)])  # without duplicates
    missing = dict.fromkeys(_missing_rivals(runs, definitions) + _missing_seeds(runs, list(cells)))
    return _decided(claim, measured, closed[0] >= MOST_OF_GAP - ROUNDING and beats, list(missing))


def _accuracy_stays(runs: pd.DataFrame, chosen: Mapping[str, str]) -> Verdict:
    claim = (
        "Average accuracy on the balanced test set is no lower than ERM's on the original data: with ERM, "
        "and with the best recipe, on the augmented data."
    )
    before = cell(runs, "original", BASELINE, "accuracy")
    recipes = list(dict.fromkeys((BASELINE, chosen["augmented"])))
    after = {recipe: cell(runs, "augmented", recipe, "accuracy") for recipe in recipes}
    found = {recipe: values for recipe, values in after.items() if values is not None}
    if before is None or len(found) < len(after):
        return Verdict(claim, "It takes ERM on the original and on the augmented data.", None)
    texts = [f"{recipe} {plus_minus(values)} %" for recipe, values in found.items()]
    measured = f"On the augmented data {', '.join(texts)}; ERM on the original {plus_minus(before)} %."
    missing = _missing_seeds(runs, [ENDS[0], *(("augmented", recipe) for recipe in recipes)])
    return _decided(claim, measured, all(v[0] >= before[0] - ROUNDING for v in found.values()), missing)
