"""train DATA RECIPE SEED: real or balanced images -> out/runs/DATA/RECIPE/SEED/: network, predictions."""

from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from classifiers.backbones import new_backbone, save_network
from classifiers.metrics import HALF, accuracy, count_table, worst_group_accuracy
from classifiers.objectives import OBJECTIVES
from classifiers.training import LabelledImages, predict, train_classifier
from data.balancing import SYNTHETIC_SOURCES
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.parameters import AllParameters, Training, read_parameters
from pipeline.runtime import new_accelerator
from pipeline.seeds import derived_seed
from pipeline.stage import run_stage
from pipeline.stores import Store, read_table, write_table
from pipeline.work import publish, work_folder
from stages.inputs import real_images
from stages.paths import BALANCED, REAL, RUNS, SYNTHETIC

SELECTIONS = {"worst_group_accuracy": worst_group_accuracy, "accuracy": accuracy}


def balanced_images() -> LabelledImages:
    """The training rows of the balanced manifest, real and synthetic."""
    manifest = read_table(BALANCED / "manifest.parquet", ("id", "store", "target", "protected", "split"))
    training = manifest[manifest["split"] == "train"].reset_index(drop=True)
    names = training["store"].unique().tolist()
    stores = [Store(Path(name)) for name in names]
    which = training["store"].map({name: k for k, name in enumerate(names)}).to_numpy()
    positions = np.empty(len(training), dtype=np.int64)
    for k, store in enumerate(stores):
        positions[which == k] = store.positions(training["id"][which == k])

    def read(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(chosen), *stores[0].item_shape), np.uint8)
        for k, store in enumerate(stores):
            here = which[chosen] == k
            images[here] = store.read(positions[chosen[here]])
        return images

    targets = training["target"].to_numpy(dtype=np.int64)
    return LabelledImages(
        ids=training["id"].to_numpy(dtype=object),
        read=read,
        targets=targets,
        groups=targets * 2 + training["protected"].to_numpy(dtype=np.int64),
    )


def training_images(data: str, parameters: AllParameters, store: Store) -> LabelledImages:
    """The images that a name of the matrix stands for."""
    if data == "augmented":
        return balanced_images()
    split = {"original": "train", "oracle": "oracle"}.get(data)
    if split is None:
        raise UserError(f"{data!r} is no training data: original, augmented or oracle.")
    images = real_images(parameters, split, store)
    if not len(images):
        raise UserError(f"train: {REAL} has no split {split!r}, which the data set {data!r} is made of.")
    return images


def selection_value(name: str, scores: NDArray[np.float64], validation: LabelledImages) -> float:
    """A metric of the predictions on validation."""
    predictions = (scores >= HALF).astype(np.int64)
    counts = count_table(validation.targets, validation.groups % 2, predictions)
    return float(SELECTIONS[name](counts))


def main(
    data: Annotated[str, typer.Argument(help="original, augmented or oracle")],
    recipe: Annotated[str, typer.Argument(help="a key of train.definitions")],
    seed: Annotated[int, typer.Argument(help="of the weights and the batches")],
) -> None:
    """Train one classifier; same budget, sampler switch and selection for all data and recipes."""
    parameters = read_parameters()
    section = parameters.train
    if recipe not in section.definitions:
        raise UserError(f"train: recipe {recipe!r} is none of {', '.join(section.definitions)}.")
    definition = section.definitions[recipe]
    store = Store(REAL)
    training = training_images(data, parameters, store)
    validation, test = (real_images(parameters, split, store) for split in ("validation", "test"))
    settings = Training(
        **dict(section.budget),
        weight_decay=definition.weight_decay,
        sampler=definition.sampler,
        seed=seed,
    )
    synthetic = [BALANCED, *(SYNTHETIC / source for source in SYNTHETIC_SOURCES)]
    inputs = [REAL, *synthetic] if data == "augmented" else [REAL]
    accelerator = new_accelerator(parameters.runtime)
    name = f"train {data} {recipe} {seed}"
    what = [settings.model_dump(), definition.model_dump()]
    work = work_folder(name, inputs, what, writes=accelerator.is_main_process)
    network = new_backbone(section.backbone, derived_seed(seed, "weights"))
    objective = OBJECTIVES[definition.objective](
        definition, training.group_counts(), lambda tensor: accelerator.reduce(tensor, "sum")
    )
    trained = train_classifier(
        name,
        network,
        objective,
        training,
        validation,
        settings,
        {name: partial(selection_value, name) for name in SELECTIONS},
        accelerator,
        work / "state.pt",
        parameters.runtime.checkpoint_seconds,
    )
    if not accelerator.is_main_process:
        return

    output = work / "run"
    tables = []
    for selection, weights in trained.best.items():
        network.load_state_dict(weights)
        for split, images in (("validation", validation), ("test", test)):
            tables.append(
                pd.DataFrame(
                    {
                        "id": images.ids,
                        "split": split,
                        "selection": selection,
                        "target": images.targets,
                        "protected": images.groups % 2,
                        "score": predict(network, images.read, len(images), accelerator),
                    }
                )
            )
    network.load_state_dict(trained.best["worst_group_accuracy"])
    save_network(output, network, section.backbone, {"data": data, "recipe": recipe, "seed": seed})
    write_table(output / "predictions.parquet", pd.concat(tables, ignore_index=True))
    pd.DataFrame(trained.history).to_csv(output / "history.csv", index=False)
    publish(output, RUNS / data / recipe / str(seed))


if __name__ == "__main__":
    run_stage(in_processes(main))
