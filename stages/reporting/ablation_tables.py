"""The tables and sentences on the ablations in docs/results.md: pure functions of the ablations' records."""

import math
from collections.abc import Sequence

from stages.reporting.ablation_records import AblationRecord, JudgedMoves
from stages.reporting.choices import CHOICE, SELECTION
from stages.reporting.tables import Table
from stages.reporting.text import Spread, difference, plus_minus, points, share, signed

METRICS = {SELECTION: "worst group", "accuracy": "average", CHOICE: "worst group on validation"}
NOT_JUDGED = JudgedMoves(pairs=0, flipped=None, kept=None, label_noise={})
ACCURACY_HEADINGS = (
    "variant",
    "recipe",
    *(f"{name}: {of}" for name in METRICS.values() for of in ("augmented", "sampled", "difference")),
)
JUDGED_HEADINGS = (
    "variant",
    "synthetic images",
    "distinct ones of sampled",
    "flipped",
    "kept",
    "wrong labels: augmented",
    "sampled",
)


def accuracy_table(records: Sequence[AblationRecord]) -> Table:
    """Show the accuracies of every variant and recipe."""
    return Table("Accuracies", "in percent.", ACCURACY_HEADINGS, accuracy_rows(records), labels=2)


def judged_table(records: Sequence[AblationRecord]) -> Table:
    """Show what happened to the rarest group in every variant."""
    return Table("The rarest group", "as judged.", JUDGED_HEADINGS, judged_rows(records))


def accuracy_rows(records: Sequence[AblationRecord]) -> list[list[str]]:
    """Return a row for each variant and recipe, as `ACCURACY_HEADINGS`; difference: augmented - sampled."""
    rows = []
    for record in records:
        for recipe in record.recipes:
            row = [record.name, recipe]
            for metric in METRICS:
                if record.failed:
                    row += ["failed", "failed", ""]
                    continue
                sampled, augmented = (
                    figure(record, data, recipe, metric) for data in ("sampled", "augmented")
                )
                row += [
                    plus_minus(augmented),
                    plus_minus(sampled),
                    signed(difference(sampled, augmented)),
                ]
            rows.append(row)
    return rows


def judged_rows(records: Sequence[AblationRecord]) -> list[list[str]]:
    """Return a row on the rarest group for each variant that did not fail, as `JUDGED_HEADINGS`."""
    rows = []
    for record in (record for record in records if not record.failed):
        of = record.figures
        judged = of.judged or NOT_JUDGED
        rows.append(
            [record.name, f"{of.images[of.rarest]:,}", f"{of.distinct[of.rarest]:,}",
             share(judged.flipped), share(judged.kept),
             *(share(judged.label_noise.get(data)) for data in ("augmented", "sampled"))]
        )  # fmt: skip
    return rows


def figure(record: AblationRecord, data: str, recipe: str, metric: str) -> Spread:
    """Return a metric's mean and deviation over the seeds.

    Args:
        record: of one variant.
        data: "augmented" or "sampled".
        recipe: the recipe's name.
        metric: the metric's name.

    Returns:
        mean and deviation; NaN if missing.
    """
    of = record.figures.data[data][recipe][metric]
    mean, deviation = (math.nan if value is None else value for value in (of.mean, of.std))
    return mean, deviation


def sentences(records: Sequence[AblationRecord]) -> list[str]:
    """Say in a sentence what each variant is, and what it changed on augmented data or why it failed."""
    by_name = {record.name: record for record in records}
    found = []
    for record in records:
        start = f"`{record.name}`: {record.about}"
        against = by_name.get(record.against) if record.against else None
        shared = [] if against is None else [r for r in record.recipes if r in against.recipes]
        if record.failed:
            found.append(f"{start}; it failed: {record.failed}")
        elif record.against == record.name:
            first, *others = record.recipes
            changes = "; ".join(_change((record, first), (record, recipe)) for recipe in others)
            found.append(f"{start}; worst-group accuracy against {first}: {changes}.")
        elif against is None or against.failed or not shared:
            found.append(f"{start}; there is nothing to hold it against.")
        else:
            changes = "; ".join(_change((against, recipe), (record, recipe)) for recipe in shared)
            found.append(f"{start}; worst-group accuracy against `{against.name}`: {changes}.")
    return found


def best_on_validation(records: Sequence[AblationRecord]) -> str:
    """Name in a sentence the variant and recipe that validation prefers on each data set; "" if none."""
    cells = [(record, recipe) for record in records if not record.failed for recipe in record.recipes]
    if not cells:
        return ""
    found = []
    for data in ("augmented", "sampled"):
        record, recipe = max(cells, key=lambda of: figure(of[0], data, of[1], CHOICE)[0])
        chosen, test = (plus_minus(figure(record, data, recipe, metric)) for metric in (CHOICE, SELECTION))
        found.append(
            f"`{record.name}` with {recipe} on `{data}` ({chosen} % in its worst group; on test {test} %)"
        )
    return f"Of all variants, validation prefers {' and '.join(found)}."


def _change(against: tuple[AblationRecord, str], present: tuple[AblationRecord, str]) -> str:
    """Say how much worst-group accuracy changes on augmented data from one (record, recipe) to another."""
    former, latter = (figure(of, "augmented", recipe, SELECTION) for of, recipe in (against, present))
    gain, deviation = difference(former, latter)
    within = abs(gain) <= deviation  # false for one seed, whose deviation is NaN
    return f"{points(gain)} with {present[1]}" + (", within the deviations" if within else "")


def commands(records: Sequence[AblationRecord]) -> list[str]:
    """Return the commands that measure these records again: one for all with the same seeds and recipes."""
    names: dict[str, list[str]] = {}
    for record in records:
        seeds, recipes = ",".join(map(str, record.seeds)), ",".join(record.recipes)
        names.setdefault(f"--seeds {seeds} --recipes {recipes}", []).append(record.name)
    return [" ".join(["zprime ablations", *of, options]) for options, of in names.items()] or [
        "zprime ablations"
    ]
