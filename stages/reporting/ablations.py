"""``zprime ablations [NAME...]``: what each step of the augmentation contributes.

Each variant (`stages.reporting.ablation_variants`) changes the present params.yaml. It runs in a copy of the
project that shares its DVC cache, so that only what depends on the changes is made. It trains on the
augmented data and on the control `sampled`, the same quota of plain G(z), which the changes alter too: what
complements add is the difference. docs/results/ablations.json is written after each: a stopped run keeps what
it has, and the same command goes on with what is missing. `zprime results` puts them into words.
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
from classifiers.measures.evaluation import Predictions, Values, group_metrics, overall_metrics
from pipeline.content.files import write_json
from pipeline.content.groups import group_names
from pipeline.content.tables import read_table
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from pipeline.work import digest_of
from stages.parameters import AllParameters, read_parameters
from stages.report import read_json
from stages.reporting.ablation_variants import VARIANTS, changed
from stages.reporting.choices import CHOICE, SELECTION
from stages.reporting.leakage import label_noise, moves_into, rarest_group
from stages.shared.paths import ABLATIONS, BALANCED, QUALITY, RUNS

SENTENCE = "error: "  # what a stage's own sentence about a failure begins with
DATA = ("augmented", "sampled")  # what a variant's classifiers are trained on


# Sections of params.yaml that no figure of a variant depends on.
WITHOUT_EFFECT = ("runtime", "cluster", "evaluate", "export")


def copy_project(folder: Path) -> None:
    """Copy the project's files as they are, but for what git ignores; its DVC cache is shared."""
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
    """Run `dvc repro` in a copy of the project; `UserError` with the stage's own sentence where it fails."""
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
        raise UserError(sentence_of(lines))


def sentence_of(lines: Sequence[str]) -> str:
    """Why a run failed, of the lines that it printed: the stage's own sentence, or the last line."""
    sentences = [line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE)]
    return (sentences or [line for line in lines if line] or ["dvc repro failed and said nothing."])[-1]


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation (n - 1) over the seeds; null for the deviation of one."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": deviation}


def accuracies(folder: Path, protected: Sequence[str]) -> dict[str, float]:
    """Of one run: worst-group and average accuracy on test, at 0.5, and what validation says.

    Args:
        folder: out/runs/DATA/RECIPE/SEED.
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


def judged(quality: Mapping[str, Any], group: int, attributes: Sequence[str]) -> dict[str, Any] | None:
    """What the judges say of complements moved into a group and of the labels there; None without judges.

    Args:
        quality: out/quality/quality.json.
        group: t * n_g + a.
        attributes: the target, then the protected ones.
    """
    judge = quality["judge"]
    if judge is None:
        return None
    moves = moves_into(judge["complements"].get("z_prime", {}), group, attributes)
    return {
        "pairs": moves.pairs if moves else 0,
        "flipped": moves.flipped if moves else None,
        "kept": moves.kept if moves else None,
        "label_noise": {data: label_noise(judge["labels"][data], group) for data in DATA},
    }


def collect(parameters: AllParameters) -> dict[str, Any]:
    """The figures of the run that ended in the current folder: of either data set, side by side."""
    datasheet = read_json(BALANCED / "datasheet.json")
    names = group_names(parameters.target, parameters.protected)
    group = rarest_group(datasheet["before"]["group_counts"])
    figures: dict[str, dict[str, Any]] = {data: {} for data in DATA}
    for data in DATA:
        for recipe in parameters.train.recipes:
            cell = RUNS / data / recipe
            seeds = [accuracies(cell / str(seed), parameters.protected) for seed in parameters.train.seeds]
            figures[data][recipe] = {name: spread([of[name] for of in seeds]) for name in seeds[0]}
    quota = datasheet["synthetic"]["group_counts"], datasheet["sampled"]["distinct"]
    images, distinct = ({name: of[f"group_{k}"] for k, name in enumerate(names)} for of in quota)
    return {
        "data": figures,
        "rarest": names[group],
        "images": images,
        "distinct": distinct,  # of the same numbers of plain G(z), how many are not repeated
        "judged": judged(read_json(QUALITY / "quality.json"), group, parameters.attributes),
    }


def content_of(name: str, recipes: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """What a variant's params.yaml holds; `UserError` where the present one has no such section."""
    cells = {"train.balanced_data": list(DATA), "train.recipes": list(recipes), "train.seeds": list(seeds)}
    return changed(yaml.safe_load(PARAMETERS_FILE.read_text()), {**VARIANTS[name].changes, **cells})


def key_of(content: Mapping[str, Any]) -> str:
    """A digest of what a variant's figures depend on in its params.yaml: changes, recipes and seeds too."""
    kept = {name: section for name, section in content.items() if name not in WITHOUT_EFFECT}
    train = {name: value for name, value in content["train"].items() if name != "real_data"}
    train["definitions"] = {recipe: train["definitions"][recipe] for recipe in train["recipes"]}
    return digest_of([], kept | {"train": train})


def measure(name: str, recipes: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Run one variant in a copy of the project: its record, with the sentence of its failure if it failed."""
    variant = VARIANTS[name]
    record: dict[str, Any] = {
        "name": name, "about": variant.about, "against": variant.against, "changes": dict(variant.changes),
        "recipes": list(recipes), "seeds": list(seeds), "key": None, "failed": None,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="zprime-") as temporary:
        folder = Path(temporary).resolve()
        runs = [f"train_balanced@{d}-{recipe}-{seed}" for d in DATA for recipe in recipes for seed in seeds]
        try:
            content = content_of(name, recipes, seeds)
            record["key"] = key_of(content)
            copy_project(folder)
            (folder / PARAMETERS_FILE).write_text(yaml.safe_dump(content, sort_keys=False))
            with contextlib.chdir(folder):
                parameters = read_parameters()
                repro(folder, ["assess", *runs])
                return record | collect(parameters)
        except UserError as error:
            return record | {"failed": str(error).replace(f"{folder}/", "")}


def is_measured(
    records: Sequence[Mapping[str, Any]], name: str, recipes: Sequence[str], seeds: Sequence[int]
) -> bool:
    """Whether there are figures of this variant already, of the same parameters, recipes and seeds."""
    former = next((record for record in records if record["name"] == name), None)
    if former is None or former["failed"]:
        return False
    return bool(former["key"] == key_of(content_of(name, recipes, seeds)))


def with_record(records: list[dict[str, Any]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records, one of them new or in place of its former, in the order of `VARIANTS`."""
    by_name = {former["name"]: former for former in records} | {record["name"]: record}
    return [by_name[name] for name in VARIANTS if name in by_name]


def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"of {', '.join(VARIANTS)}; by default all that are not measured yet"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="of the classifiers, with commas between")] = "0,1",
    recipes: Annotated[
        str, typer.Option(help="of train.definitions, with commas between")
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
        record = measure(name, chosen, numbers)
        write_json(ABLATIONS, with_record(recorded(), record))  # read again: another run may have written
        print(f"ablations: {name}: {record['failed'] or 'done'}; {ABLATIONS} has its figures", flush=True)


def recorded() -> list[dict[str, Any]]:
    """The records that there are."""
    return read_json(ABLATIONS) if ABLATIONS.exists() else []


if __name__ == "__main__":
    run_stage(main)
