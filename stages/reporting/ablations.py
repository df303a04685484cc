"""``zprime ablations [NAME...]``: measure what each step of the augmentation contributes.

Each variant (`stages.reporting.ablation_variants`) changes the present params.yaml. It runs in a copy of the
project that shares its DVC cache, so that only the stages run that depend on the changes. It trains on the
augmented data and on the control `sampled`, equal numbers of plain G(z), which the changes alter too: the
difference is what the complements add. docs/results/ablations.json is written after each variant: a stopped
run keeps what it has, and the same command goes on with what is missing. `zprime results` puts the figures
into words.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from classifiers import selection
from classifiers.measures.evaluation import Predictions, Values
from classifiers.measures.measuring import group_metrics, overall_metrics
from pipeline.content.groups import group_names
from pipeline.content.tables import read_table
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from pipeline.work import digest_of
from stages.parameters import AllParameters, read_parameters
from stages.reporting.ablation_records import (
    AblationRecord,
    Ablations,
    JudgedMoves,
    MeanAndStd,
    VariantFigures,
    recorded,
)
from stages.reporting.ablation_variants import VARIANTS, changed
from stages.reporting.choices import CHOICE, SELECTION
from stages.reporting.leakage import moves_into, rarest_group, wrongly_labelled_share
from stages.shared.datasheet import Datasheet
from stages.shared.paths import ABLATIONS, BALANCED, QUALITY, RUNS
from stages.shared.quality import Quality

SENTENCE = "error: "  # the start of a stage's own sentence about a failure
DATA = ("augmented", "sampled")  # the training data of a variant's classifiers


# Sections of params.yaml that no figure of a variant depends on.
WITHOUT_EFFECT = ("runtime", "cluster", "load_classifier", "finish", "evaluate", "export")


def copy_project(folder: Path) -> None:
    """Copy the project's files as they are, except those that git ignores; its DVC cache is shared."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in map(Path, filter(None, listed.stdout.decode().split("\0"))):
        if name.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    found = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True
    )
    cache = Path(found.stdout.splitlines()[-1]).resolve()
    (folder / ".dvc" / "config.local").write_text(f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n")


def repro(folder: Path, targets: Sequence[str]) -> None:
    """Run `dvc repro` in a copy of the project.

    Args:
        folder: the copy.
        targets: the stages to run.

    Raises:
        UserError: a stage failed; the sentence is the stage's own.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    lines = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    if running.returncode:
        raise UserError(failure_sentence(lines))


def failure_sentence(lines: Sequence[str]) -> str:
    """Return why a run failed, from the lines that it printed: the stage's own sentence, or the last line."""
    sentences = [line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE)]
    return (sentences or [line for line in lines if line] or ["dvc repro failed and said nothing."])[-1]


def mean_and_std_over_seeds(values: Sequence[float]) -> MeanAndStd:
    """Compute mean and standard deviation (n - 1) over the seeds; the deviation of one seed is null."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return MeanAndStd(mean=float(np.mean(values)), std=deviation)


def accuracies(folder: Path, protected: Sequence[str]) -> dict[str, float]:
    """Measure one run: accuracies at the threshold 0.5 on test, and the one that chooses on validation.

    Args:
        folder: out/runs/DATA/RECIPE/SEED.
        protected: the protected attributes.

    Returns:
        by metric: in [0, 1].
    """
    rows = read_table(folder / "predictions.parquet", ("split", "selection", "target", "score", *protected))
    rows = rows[rows["selection"] == SELECTION]

    def of(split: str) -> Values:
        members = rows[rows["split"] == split]
        samples = Predictions(
            members["target"].to_numpy(),
            members["score"].to_numpy(),
            members[list(protected)].to_numpy(),
            selection.HALF,
        )
        return overall_metrics(samples) | group_metrics(samples)

    test, validation = of("test"), of("validation")
    figures = {name: test[name] for name in (SELECTION, "accuracy")} | {CHOICE: validation[SELECTION]}
    return {name: float(value) for name, value in figures.items()}


def judged(quality: Quality, group: int, attributes: Sequence[str]) -> JudgedMoves | None:
    """Return the judges' figures of complements moved into a group and of the labels there.

    Args:
        quality: out/quality/quality.json.
        group: t * n_g + a.
        attributes: the target, then the protected ones.

    Returns:
        the figures; None without judges.
    """
    judge = quality.judge
    if judge is None:
        return None
    moves = moves_into(judge.complements.get("z_prime", {}), group, attributes)
    return JudgedMoves(
        pairs=moves.pairs if moves else 0,
        flipped=moves.flipped if moves else None,
        kept=moves.kept if moves else None,
        label_noise={data: wrongly_labelled_share(judge.labels[data], group) for data in DATA},
    )


def collect(parameters: AllParameters) -> VariantFigures:
    """Collect the figures of the run that ended in the current folder, for both data sets."""
    datasheet = Datasheet.read(BALANCED / "datasheet.json")
    names = group_names(parameters.target, parameters.protected)
    group = rarest_group(datasheet.before.group_counts)
    figures: dict[str, dict[str, dict[str, MeanAndStd]]] = {data: {} for data in DATA}
    for data in DATA:
        for recipe in parameters.train.recipes:
            cell = RUNS / data / recipe
            seeds = [accuracies(cell / str(seed), parameters.protected) for seed in parameters.train.seeds]
            figures[data][recipe] = {
                name: mean_and_std_over_seeds([of[name] for of in seeds]) for name in seeds[0]
            }
    quota = datasheet.synthetic.group_counts, datasheet.sampled.distinct
    images, distinct = ({name: of[f"group_{k}"] for k, name in enumerate(names)} for of in quota)
    return VariantFigures(
        data=figures,
        rarest=names[group],
        images=images,
        distinct=distinct,
        judged=judged(Quality.read(QUALITY / "quality.json"), group, parameters.attributes),
    )


def variant_content(name: str, recipes: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the content of a variant's params.yaml.

    A `UserError` says that the present params.yaml lacks a section that the variant changes.

    Args:
        name: a key of `VARIANTS`.
        recipes: names in train.definitions.
        seeds: of the classifiers.

    Returns:
        all sections.
    """
    cells = {
        "train.balanced_data": list(DATA), "train.recipes": list(recipes), "train.seeds": list(seeds),
        "finish.names": [], "load_classifier.names": [], "evaluate.postprocess": [],
    }  # fmt: skip
    return changed(yaml.safe_load(PARAMETERS_FILE.read_text()), {**VARIANTS[name].changes, **cells})


def key_of(content: Mapping[str, Any]) -> str:
    """Return a digest of all in a variant's params.yaml that decides its figures, with recipes and seeds."""
    kept = {name: section for name, section in content.items() if name not in WITHOUT_EFFECT}
    train = {name: value for name, value in content["train"].items() if name != "real_data"}
    train["definitions"] = {recipe: train["definitions"][recipe] for recipe in train["recipes"]}
    return digest_of([], kept | {"train": train})


def measure_variant(name: str, recipes: Sequence[str], seeds: Sequence[int]) -> AblationRecord:
    """Run one variant in a copy of the project.

    Args:
        name: a key of `VARIANTS`.
        recipes: names in train.definitions.
        seeds: of the classifiers.

    Returns:
        its record: with the figures or, if it failed, with the sentence of its failure.
    """
    variant = VARIANTS[name]
    key = None

    def recorded_as(failed: str | None) -> AblationRecord:
        return AblationRecord(
            name=name,
            about=variant.about,
            against=variant.against,
            changes=dict(variant.changes),
            recipes=list(recipes),
            seeds=list(seeds),
            key=key,
            failed=failed,
        )

    with tempfile.TemporaryDirectory(prefix="zprime-") as temporary:
        folder = Path(temporary).resolve()
        runs = [f"train_balanced@{d}-{recipe}-{seed}" for d in DATA for recipe in recipes for seed in seeds]
        try:
            content = variant_content(name, recipes, seeds)
            key = key_of(content)
            copy_project(folder)
            (folder / PARAMETERS_FILE).write_text(yaml.safe_dump(content, sort_keys=False))
            with contextlib.chdir(folder):
                parameters = read_parameters()
                repro(folder, ["assess", *runs])
                return recorded_as(None).measured(collect(parameters))
        except UserError as error:
            return recorded_as(str(error).replace(f"{folder}/", ""))


def is_measured(
    records: Sequence[AblationRecord], name: str, recipes: Sequence[str], seeds: Sequence[int]
) -> bool:
    """Return whether this variant is recorded with the same parameters, recipes and seeds."""
    former = next((record for record in records if record.name == name), None)
    if former is None or former.failed:
        return False
    return bool(former.key == key_of(variant_content(name, recipes, seeds)))


def with_record(records: Sequence[AblationRecord], record: AblationRecord) -> list[AblationRecord]:
    """Return the records with one added, or in place of its former, in the order of `VARIANTS`."""
    by_name = {former.name: former for former in records} | {record.name: record}
    return [by_name[name] for name in VARIANTS if name in by_name]


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"variants: {', '.join(VARIANTS)}; default: all without a record"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="seeds of the classifiers, with commas between")] = "0,1",
    recipes: Annotated[
        str, typer.Option(help="keys of train.definitions, with commas between")
    ] = "erm,source_balanced",
) -> None:
    """Measure the variants one after another; keep each in docs/results/ablations.json."""
    unknown = [name for name in names or () if name not in VARIANTS]
    if unknown:
        raise UserError(f"ablations: {unknown[0]!r} is none of {', '.join(VARIANTS)}.")
    chosen, known = recipes.split(","), read_parameters().train.definitions
    undefined = [recipe for recipe in chosen if recipe not in known]
    if undefined:
        raise UserError(
            f"ablations: recipe {undefined[0]!r} is not in train.definitions: {', '.join(known)}."
        )
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise UserError(f"ablations: --seeds {seeds} should be numbers with commas between, as in 0,1.")
    numbers = [int(seed) for seed in seeds.split(",")]
    for name in (name for name in VARIANTS if not names or name in names):
        if not names and is_measured(recorded(), name, chosen, numbers):
            print(f"ablations: {name} is measured already; naming it measures it again", flush=True)
            continue
        print(f"ablations: {name}", flush=True)
        record = measure_variant(name, chosen, numbers)
        # Read again: another run may have written.
        Ablations(with_record(recorded(), record)).write(ABLATIONS)
        print(f"ablations: {name}: {record.failed or 'done'}; {ABLATIONS} has its figures", flush=True)


if __name__ == "__main__":
    run_stage(main)
