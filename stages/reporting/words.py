"""The report's sentences on the evaluation's table of runs: headline, choices, key figures."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from stages.reporting.choices import (
    BASELINE,
    SELECTION,
    cells_of,
    chosen_recipes,
    gap_of,
    mean_and_deviation,
    seeds_of,
)
from stages.reporting.text import PERCENT, percent
from stages.shared.datasheet import Datasheet


def in_percent(mean: float, deviation: float) -> str:
    """Return '41.0 ± 1.4 %' for a sentence, never broken over two lines."""
    return f"{mean * 100:.1f} ± {deviation * 100:.1f}".replace(" ", "\u00a0") + PERCENT


def verdict(before: tuple[float, float], after: tuple[float, float]) -> tuple[str, str]:
    """Describe a change of a mean ± deviation: a verb, and its size in points against the deviations."""
    gain = after[0] - before[0]
    change = f"{gain * 100:+.1f} points".replace("-", "−")
    if abs(gain) <= math.hypot(before[1], after[1]):
        return "goes", f"{change}: no clear change, it is within the deviations"
    return ("rises", change) if gain > 0 else ("falls", f"{change}: the augmentation made it worse")


def headline(runs: pd.DataFrame, recipe: str) -> str:
    """Say in one sentence what the augmentation did to a recipe's worst-group accuracy, good or bad."""
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
    """Name in one sentence the recipes that validation chooses for the original and the augmented data.

    Args:
        runs: out/evaluation/runs.parquet.

    Returns:
        the sentence; empty if neither has a run.
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
    """Return '41.1 → 60.2' for the original and the augmented data; without the former, only the latter."""
    return " → ".join([*([values["original"]] if "original" in values else []), values.get("augmented", "–")])


def tiles(
    runs: pd.DataFrame, recipe: str, datasheet: Datasheet, target: str, protected: Sequence[str]
) -> list[dict[str, str]]:
    """Return the key figures under the headline.

    Args:
        runs: out/evaluation/runs.parquet.
        recipe: the recipe of the headline.
        datasheet: out/balanced/datasheet.json.
        target: the target attribute.
        protected: the protected attributes.

    Returns:
        label, value and note of each.
    """
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
    kept, flipped = (percent(of) for of in (datasheet.target_kept, datasheet.protected_flipped))
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
            "value": f"{datasheet.before.kl_joint:.3f} → {datasheet.after.kl_joint:.3f}",
            "note": f"nats; 0 where {target} is independent of {' and '.join(protected)}",
        },
        {
            "label": "Pairs: kept · flipped",
            "value": f"{kept} · {flipped}{PERCENT}",
            "note": f"{target} kept · {'what was to flip' if len(protected) > 1 else protected[0]} flipped",
        },
    ]


def deviation_note(seeds: int, resamples: int) -> str:
    """Say what ± means in this report."""
    if seeds == 1:
        return (
            f"One seed: ± is the bootstrap standard deviation over the test images ({resamples} resamples); "
            "it does not show how much another seed would differ."
        )
    return f"Mean ± standard deviation over {seeds} seeds (n − 1)."
