"""train DATA RECIPE SEED: train a classifier on training images; writes out/runs/DATA/RECIPE/SEED/.

The folder gets the network, its predictions, its history and its cost. predictions.parquet has the scores of
validation and test images, by the weights of each selection. A recipe that refits the last layer on some
validation images leaves these out of predictions.parquet, and so out of every choice.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from accelerate import Accelerator
from numpy.typing import NDArray

from classifiers.counts import count_table
from classifiers.networks.backbones import Classifier, new_backbone, save_network
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.selection import HALF, accuracy, worst_group_accuracy
from classifiers.training.last_layer import refit_last_layer, validation_halves
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
from stages.parameters import AllParameters, read_parameters
from stages.shared.controls import TRAINING_DATA
from stages.shared.costs import Cost
from stages.shared.inputs import protected_of, real_images
from stages.shared.paths import REAL, RUNS
from stages.shared.training_data import training_images

SELECTIONS = {"worst_group_accuracy": worst_group_accuracy, "accuracy": accuracy}


def selection_value(
    name: str, n_protected: int, scores: NDArray[np.float64], validation: LabelledImages
) -> float:
    """Compute a metric on validation, over the groups of all protected attributes together.

    Args:
        name: a key of `SELECTIONS`.
        n_protected: the number of protected groups.
        scores: of the validation images, [n] in [0, 1].
        validation: the images.

    Returns:
        in [0, 1].
    """
    predictions = (scores >= HALF).astype(np.int64)
    protected = validation.groups % n_protected
    return float(SELECTIONS[name](count_table(validation.targets, protected, predictions, n_protected)))


def predictions(
    network: Classifier,
    splits: Mapping[str, LabelledImages],
    parameters: AllParameters,
    accelerator: Accelerator,
) -> pd.DataFrame:
    """Return the rows of predictions.parquet without the selection.

    Args:
        network: the trained classifier.
        splits: images by the split's name.
        parameters: as params.yaml holds them.
        accelerator: runs the network.

    Returns:
        id, split, target, one column for each protected attribute, and score.
    """
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "id": images.ids,
                    "split": split,
                    "target": images.targets,
                    **protected_of(images, parameters),
                    "score": predict(network, images.read, len(images), accelerator),
                }
            )
            for split, images in splits.items()
        ],
        ignore_index=True,
    )


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
    fitting: LabelledImages | None = None
    if definition.last_layer == "validation":
        fitting, validation = validation_halves(validation, seed)
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
        if fitting is not None:
            refit_last_layer(network, fitting, validation, selections[selection], accelerator, seed)
        if selection == "worst_group_accuracy":
            save_network(output, network, backbone, {"data": data, "recipe": recipe, "seed": seed})
        rows = predictions(network, splits, parameters, accelerator)
        rows.insert(2, "selection", selection)
        tables.append(rows)
    write_table(output / "predictions.parquet", pd.concat(tables, ignore_index=True))
    Cost.model_validate(trained.cost).write(output / "cost.json")
    history = pd.DataFrame(trained.history)
    history.to_csv(output / "history.csv", index=False)
    settle([training_judgement(name, history["separation"].iloc[-1])], output, parameters.on_useless)
    work.publish(RUNS / data / recipe / str(seed), output)


if __name__ == "__main__":
    run_stage(in_processes(main))
