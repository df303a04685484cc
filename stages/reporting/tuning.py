"""``zprime tune [RECIPE...]``: try three values of a parameter of each recipe; choose one on validation.

Each value (`stages.reporting.sweeps`) is trained on the original and on the augmented data of the present
params.yaml, with one seed, in a copy of the project that shares its DVC cache. The value with the highest
worst-group accuracy on validation, averaged over the two data sets, is chosen. docs/results/sweeps.json is
written after each recipe: a stopped run keeps what it has, and the same command goes on with what is missing.
The choices are not written into params.yaml: whoever takes them over sees them.
"""

import contextlib
import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pipeline.content.files import write_json
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE, Parameters
from pipeline.stage import run_stage
from pipeline.work import digest_of
from stages.parameters import read_parameters
from stages.report import read_json
from stages.reporting.ablation_variants import changed
from stages.reporting.ablations import WITHOUT_EFFECT, accuracies, copy_project, repro
from stages.reporting.choices import CHOICE
from stages.reporting.sweeps import Sweep, sweep_of
from stages.shared.paths import RUNS, SWEEPS

DATA = ("original", "augmented")
SEED = 0


class SweepRecord(Parameters):
    """What a recipe's sweep found.

    Attributes:
        parameter: its dotted name in the recipe's definition.
        values: that were tried.
        validation: data set -> worst-group accuracy on validation of each value, in [0, 1].
        chosen: the value with the highest mean over the data sets; of equal ones the first.
        key: a digest of all that decides the figures.
    """

    parameter: str
    values: list[float]
    validation: dict[str, list[float]]
    chosen: float
    key: str


def variants_of(recipe: str, definition: Mapping[str, Any], sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Return the definitions of a recipe's variants by name: RECIPE_1, RECIPE_2 ... ."""
    return {
        f"{recipe}_{number}": changed(copy.deepcopy(dict(definition)), {sweep.parameter: value})
        for number, value in enumerate(sweep.values, start=1)
    }


def swept_content(recipe: str, sweep: Sweep) -> dict[str, Any]:
    """Return the content of a params.yaml that trains a recipe's variants."""
    content = yaml.safe_load(PARAMETERS_FILE.read_text())
    variants = variants_of(recipe, content["train"]["definitions"][recipe], sweep)
    cells = {
        "train.real_data": [DATA[0]],
        "train.balanced_data": [DATA[1]],
        "train.recipes": list(variants),
        "train.seeds": [SEED],
        "train.definitions": variants,
        "finish.names": [],
        "load_classifier.names": [],
        "evaluate.postprocess": [],
    }
    return changed(content, cells)


def key_of(content: Mapping[str, Any]) -> str:
    """Return a digest of all in a swept params.yaml that decides the figures."""
    return digest_of([], {name: value for name, value in content.items() if name not in WITHOUT_EFFECT})


def tuned(recipe: str, sweep: Sweep) -> SweepRecord:
    """Train a recipe's variants in a copy of the project, and choose among them."""
    content = swept_content(recipe, sweep)
    variants = content["train"]["recipes"]
    stages = [
        f"train_{kind}@{data}-{variant}-{SEED}"
        for kind, data in zip(("real", "balanced"), DATA, strict=True)
        for variant in variants
    ]
    with tempfile.TemporaryDirectory(prefix="zprime-") as temporary:
        folder = Path(temporary).resolve()
        copy_project(folder)
        # A value may be too strong to learn anything: it is not chosen then, and the others are still tried.
        written = content | {"on_useless": "go_on"}
        (folder / PARAMETERS_FILE).write_text(yaml.safe_dump(written, sort_keys=False))
        with contextlib.chdir(folder):
            protected = read_parameters().protected
            repro(folder, stages)
            found = {
                data: [
                    accuracies(RUNS / data / variant / str(SEED), protected)[CHOICE] for variant in variants
                ]
                for data in DATA
            }
    means = [sum(values) for values in zip(*found.values(), strict=True)]
    return SweepRecord(
        parameter=sweep.parameter,
        values=list(sweep.values),
        validation=found,
        chosen=sweep.values[means.index(max(means))],
        key=key_of(content),
    )


def read_sweeps() -> dict[str, SweepRecord]:
    """Read the sweeps that are recorded, by recipe."""
    if not SWEEPS.exists():
        return {}
    return {recipe: SweepRecord.model_validate(record) for recipe, record in read_json(SWEEPS).items()}


def main(
    recipes: Annotated[
        list[str] | None, typer.Argument(help="keys of train.definitions; default: all of train.recipes")
    ] = None,
) -> None:
    """Sweep one parameter of each recipe; keep what is found in docs/results/sweeps.json."""
    section = read_parameters().train
    for recipe in recipes or section.recipes:
        if recipe not in section.definitions:
            raise UserError(
                f"tune: recipe {recipe!r} is not in train.definitions: {', '.join(section.definitions)}."
            )
        sweep, former = sweep_of(recipe), read_sweeps().get(recipe)
        if former is not None and former.key == key_of(swept_content(recipe, sweep)) and not recipes:
            print(f"tune: {recipe} is measured already; naming it measures it again", flush=True)
            continue
        found = tuned(recipe, sweep)
        records = read_sweeps() | {recipe: found}
        write_json(SWEEPS, {name: record.model_dump() for name, record in records.items()})
        print(f"tune: {recipe}: {found.parameter} {found.chosen:g}", flush=True)


if __name__ == "__main__":
    run_stage(main)
