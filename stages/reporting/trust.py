"""The report's sentences and tables on how far the run can be trusted, and on mirroring."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.content.trust import Judgement, read_judgements, worst_level
from stages.parameters import AllParameters
from stages.reporting.tables import Cell, Table
from stages.shared.paths import ATTRIBUTES, BALANCED, GENERATOR, HYPERPLANES, LABELS, QUALITY, RUNS

NAMED = 3  # steps that the overall sentence names at most
CONSEQUENCES = {
    "useless": "what follows from it is noise, and should not be used",
    "doubtful": "the results may suffer from it",
}


def trust_rows(parameters: AllParameters) -> list[Judgement]:
    """Read the judgements that the stages wrote beside their outputs.

    Args:
        parameters: as params.yaml holds them.

    Returns:
        the judgements in the order of the pipeline. A step that was not judged is left out; trainings that
        are fine share one row.
    """
    folders: list[Path] = [
        *(ATTRIBUTES / name for name in parameters.attributes),
        GENERATOR,
        LABELS / "z",
        HYPERPLANES,
        BALANCED,
        QUALITY,
    ]
    rows = [judgement for folder in folders for judgement in read_judgements(folder)]
    return rows + _training_rows(parameters)


def _training_rows(parameters: AllParameters) -> list[Judgement]:
    """Return the trainings of recipes that are not fine, then one row for all others."""
    matrix = parameters.train
    judged = [
        judgement
        for data in matrix.data
        for recipe in matrix.recipes
        for seed in matrix.seeds
        for judgement in read_judgements(RUNS / data / recipe / str(seed))
    ]
    rows = [judgement for judgement in judged if judgement.level != "fine"]
    if len(rows) < len(judged):
        n = len(judged) - len(rows)
        which = f"the other {n:,}" if rows else f"all {n:,}"
        sentence = f"{which} left their plateau." if n > 1 else "one left its plateau."
        rows.append(Judgement("trainings", "fine", sentence, "", {}))
    return rows


def trust_table(rows: Sequence[Judgement]) -> Table:
    """Show every judgement, and what to do about those that are not fine."""
    return Table(
        "Whether each step may be trusted",
        "fine; doubtful: the results may suffer from it; useless: what follows from it is noise. A stage "
        "whose output is useless stops the pipeline, unless `on_useless` is `go_on`.",
        ["Step", "Level", "What was found", "What to do"],
        [
            [
                f"{row.step[:1].upper()}{row.step[1:]}",
                Cell(row.level, look=f"level {row.level}"),
                f"{row.sentence[:1].upper()}{row.sentence[1:]}",
                "" if row.level == "fine" else row.remedy,
            ]
            for row in rows
        ],
        labels=4,
        wide=True,
    )


def overall(rows: Sequence[Judgement]) -> str:
    """Say in one sentence the worst level, and which steps have it."""
    if not rows:
        return "No step of this run was judged."
    level = worst_level(rows)
    if level == "fine":
        return f"Each of the {len(rows)} judgements below is fine."
    steps = [row.step for row in rows if row.level == level]
    named = "; ".join(steps[:NAMED]) + (f"; and {len(steps) - NAMED} more" if len(steps) > NAMED else "")
    return f"{level.capitalize()} – {named}: {CONSEQUENCES[level]}."


def mirroring(parameters: AllParameters) -> str:
    """Say which trainings mirror images at random, and what this means."""
    flips = {
        "the attribute classifiers": parameters.train_attribute.flip,
        "the recipes": parameters.train.flip,
        "the generator": parameters.generator == "train_gan" and parameters.train_gan.flip,
    }
    names = [name for name, flip in flips.items() if flip]
    meaning = "right for faces and scenes, wrong for text and digits"
    if not names:
        return f"No training mirrored images (flip): {meaning}."
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return (
        f"Mirrored at random (flip) in the training of {listed}: every other image is shown mirrored left to "
        f"right, which is {meaning}."
    )
