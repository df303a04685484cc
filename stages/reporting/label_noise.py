"""``zprime label-noise [RECIPE...]``: measure what missing and wrong protected labels cost each recipe.

Shares of the training images' protected labels are hidden or turned over (`prepare.protected_labels`), and
the recipes trained on the original data, with each strategy of `train.missing_labels`. Each variant
(`stages.reporting.noise_record`) runs in a copy of the project that shares its DVC cache, so that only the
stages run that depend on the changes. docs/results/label_noise.json is written after each variant: a stopped
run keeps what it has, and the same command goes on with what is missing.
"""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from pipeline.work import digest_of
from stages.parameters import AllParameters, Train, read_parameters
from stages.reporting.ablation_variants import changed
from stages.reporting.ablations import accuracies, copy_project, repro
from stages.reporting.choices import BASELINE, SELECTION
from stages.reporting.label_noise_page import draw_figure
from stages.reporting.noise_record import COMPLETE, VARIANTS, Measured, read_noise
from stages.shared.paths import LABEL_NOISE, LABEL_NOISE_FIGURE, RUNS

DATA = "original"
# Sections of params.yaml that the figures depend on, and keys of `train` that they do not.
SECTIONS = ("attributes", "prepare", "train_attribute")
NOT_OF_RUNS = ("real_data", "balanced_data", "recipes", "seeds", "definitions")


def needs_labels(recipe: str, section: Train) -> bool:
    """Return whether a recipe needs protected labels in training."""
    return "training" in section.definitions[recipe].needs


def variant_content(name: str, recipes: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the content of a variant's params.yaml.

    Args:
        name: a key of `VARIANTS`.
        recipes: names in train.definitions.
        seeds: of the trainings.

    Returns:
        all sections. A labeller that is of no use does not stop the run: what it costs is measured.
    """
    content, variant = yaml.safe_load(PARAMETERS_FILE.read_text()), VARIANTS[name]
    weakened = content["prepare"].get("protected_labels", {})
    changes = {
        "prepare.protected_labels": {**weakened, "hidden": variant.hidden, "flipped": variant.flipped},
        "train.missing_labels": variant.strategy,
        "train.real_data": [DATA],
        "train.recipes": list(recipes),
        "train.seeds": list(seeds),
        "finish.names": [],
        "evaluate.postprocess": [],
        "on_useless": "go_on",
    }
    return changed(content, changes)


def key_of(content: Mapping[str, Any], recipe: str) -> str:
    """Return a digest of all in a variant's params.yaml that decides a recipe's figures."""
    train = {name: value for name, value in content["train"].items() if name not in NOT_OF_RUNS}
    kept = {name: content[name] for name in SECTIONS}
    kept |= {"train": train, "definition": content["train"]["definitions"][recipe]}
    return digest_of([], kept | {"seeds": content["train"]["seeds"]})


def lacking(name: str, recipes: Sequence[str], seeds: Sequence[int], section: Train) -> list[str]:
    """Return the recipes that are not yet measured in a variant with the present parameters and seeds."""
    content, former = variant_content(name, recipes, seeds), read_noise().recipes(name)
    return [
        recipe
        for recipe in recipes
        if (name == COMPLETE or needs_labels(recipe, section))
        and (recipe not in former or former[recipe].key != key_of(content, recipe))
    ]


def measured(name: str, recipes: Sequence[str], seeds: Sequence[int], section: Train) -> dict[str, Measured]:
    """Run a variant in a copy of the project.

    Args:
        name: a key of `VARIANTS`.
        recipes: names in train.definitions.
        seeds: of the trainings.
        section: of params.yaml.

    Returns:
        the figures by recipe.

    Raises:
        UserError: a stage failed; the sentence is the stage's own.
    """
    content = variant_content(name, recipes, seeds)
    targets = [f"train_real@{DATA}-{recipe}-{seed}" for recipe in recipes for seed in seeds]
    with tempfile.TemporaryDirectory(prefix="zprime-") as temporary:
        folder = Path(temporary).resolve()
        copy_project(folder)
        (folder / PARAMETERS_FILE).write_text(yaml.safe_dump(content, sort_keys=False))
        with contextlib.chdir(folder):
            try:
                repro(folder, targets)
            except UserError as error:
                raise UserError(str(error).replace(f"{folder}/", "")) from error
            protected = read_parameters().protected
            found = {
                recipe: [accuracies(RUNS / DATA / recipe / str(seed), protected) for seed in seeds]
                for recipe in recipes
            }
    return {
        recipe: Measured(
            key=key_of(content, recipe),
            needs_labels=needs_labels(recipe, section),
            worst_group_accuracy=[of[SELECTION] for of in figures],
            accuracy=[of["accuracy"] for of in figures],
        )
        for recipe, figures in found.items()
    }


def chosen_recipes(named: Sequence[str], parameters: AllParameters) -> list[str]:
    """Return the recipes that are named; else `erm` and those of train.recipes that need protected labels.

    Raises:
        UserError: a recipe that is named is not defined.
    """
    section = parameters.train
    undefined = [recipe for recipe in named if recipe not in section.definitions]
    if undefined:
        raise UserError(
            f"label-noise: recipe {undefined[0]!r} is not in train.definitions: "
            f"{', '.join(section.definitions)}."
        )
    wanted = [recipe for recipe in section.recipes if recipe == BASELINE or needs_labels(recipe, section)]
    return list(named) or wanted


def main(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            help="keys of train.definitions; default: erm, and what of train.recipes needs protected labels"
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="seeds of the trainings, with commas between")] = "0",
) -> None:
    """Measure each variant that is not measured yet; keep it in docs/results/label_noise.json."""
    parameters = read_parameters()
    chosen = chosen_recipes(recipes or [], parameters)
    if not all(seed.isdecimal() for seed in seeds.split(",")):
        raise UserError(f"label-noise: --seeds {seeds} should be numbers with commas between, as in 0,1.")
    numbers = [int(seed) for seed in seeds.split(",")]
    for name in VARIANTS:
        left, found, failed = lacking(name, chosen, numbers, parameters.train), {}, None
        if left:
            print(f"label-noise: {name}: {', '.join(left)}", flush=True)
            try:
                found = measured(name, left, numbers, parameters.train)
            except UserError as error:
                failed = str(error)
            # Read again: another run may have written.
            read_noise().with_figures(name, found, failed).write(LABEL_NOISE)
        print(f"label-noise: {name}: {failed or 'done'}", flush=True)
    draw_figure(read_noise(), LABEL_NOISE_FIGURE)
    print(f"label-noise: {LABEL_NOISE} and {LABEL_NOISE_FIGURE}; `zprime results` shows them", flush=True)


if __name__ == "__main__":
    run_stage(main)
