"""train DATA RECIPE SEED: train a classifier on training images; writes out/runs/DATA/RECIPE/SEED/.

The folder gets the network, its predictions, its history and its cost. predictions.parquet has the scores of
validation and test images, by the weights of each selection.
"""

from functools import partial
from typing import Annotated

import pandas as pd
import typer

from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.cards import RunCard
from classifiers.training.loop import train_classifier
from classifiers.training.parameters import Training
from classifiers.training.plateau import training_judgement
from classifiers.training.recipes import Facts, phases_of
from pipeline.content.checkpoints import CHECKPOINT
from pipeline.content.resumable import Session
from pipeline.content.seeds import derived_seed
from pipeline.content.stores import Store
from pipeline.content.tables import write_table
from pipeline.content.trust import settle
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.controls import TRAINING_DATA
from stages.shared.costs import Cost
from stages.shared.inputs import real_images
from stages.shared.paths import REAL, RUNS
from stages.shared.predictions import SAVED, SELECTIONS, predictions, selection_value
from stages.shared.training_data import training_images


def main(
    data: Annotated[str, typer.Argument(help=", ".join(TRAINING_DATA))],
    recipe: Annotated[str, typer.Argument(help="a key of train.definitions")],
    seed: Annotated[int, typer.Argument(help="seed of the weights and the batches")],
) -> None:
    """Train one classifier; budget and selection are the same for all data and recipes."""
    parameters = read_parameters()
    section = parameters.train
    if recipe not in section.definitions:
        raise UserError(f"train: recipe {recipe!r} is none of {', '.join(section.definitions)}.")
    definition = section.definitions[recipe]
    store = Store(REAL)
    training = training_images(data, seed, parameters, store)
    validation, test = (real_images(parameters, split, store) for split in ("validation", "test"))
    settings = Training(
        **dict(section.budget),
        weight_decay=definition.weight_decay,
        sampler=definition.sampler,
        seed=seed,
    )
    accelerator = new_accelerator(parameters.runtime)
    name = f"train {data} {recipe} {seed}"
    work = work_folder(name, writes=accelerator.is_main_process)
    backbone = section.backbone_of(recipe)
    network = new_backbone(backbone, derived_seed(seed, "weights"))
    selections = {name: partial(selection_value, name, parameters.n_protected) for name in SELECTIONS}
    session = Session(name, accelerator, work.folder / CHECKPOINT, parameters.runtime.checkpoint_seconds)
    facts = Facts(parameters.n_protected, network.last.in_features, session.total)
    phases = phases_of(definition, settings, training, facts)
    trained = train_classifier(session, network, phases, validation, settings, selections)
    if not accelerator.is_main_process:
        return

    output = work.folder / "run"
    tables = []
    splits = {"validation": validation, "test": test}
    for selection, weights in trained.best.items():
        network.load_state_dict(weights)
        if selection == SAVED:
            card = RunCard(backbone=backbone, data=data, recipe=recipe, seed=seed)
            save_network(output, network, card)
        tables.append(predictions(network, splits, selection, parameters, accelerator))
    write_table(output / "predictions.parquet", pd.concat(tables, ignore_index=True))
    Cost.model_validate(trained.cost).write(output / "cost.json")
    history = pd.DataFrame(trained.history)
    history.to_csv(output / "history.csv", index=False)
    settle([training_judgement(name, history["separation"].iloc[-1])], output, parameters.on_useless)
    work.publish(RUNS / data / recipe / str(seed), output)


if __name__ == "__main__":
    run_stage(in_processes(main))
