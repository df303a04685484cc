"""train_attribute NAME: real images -> out/attributes/NAME/: network, threshold, metrics.

These classifiers label what the generator renders. Trained as METHODS 1 has it, they are as biased as the
images; a fair labeller has `sampler` group_balanced, and weights and threshold chosen by the worst group's
accuracy: the best F1 on validation, where the rare groups are rare, gives those up.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from classifiers.backbones import new_backbone, save_network
from classifiers.metrics import average_precision, f1_threshold, worst_group_threshold
from classifiers.objectives import ERM
from classifiers.training import LabelledImages, Selection, predict, train_classifier
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.parameters import read_parameters
from pipeline.runtime import new_accelerator
from pipeline.seeds import derived_seed
from pipeline.stage import run_stage
from pipeline.stores import Store, write_json
from pipeline.work import publish, work_folder
from stages.inputs import real_images
from stages.paths import ATTRIBUTES, REAL

Scores = NDArray[np.float64]


def group_accuracies(scores: Scores, images: LabelledImages, threshold: float, n_groups: int) -> Scores:
    """The accuracy in every group of (target, protected attributes): [n_groups]; NaN in an empty one."""
    correct = np.bincount(images.groups, (scores >= threshold) == images.targets, n_groups)
    counts = np.array(images.group_counts(n_groups))
    return np.where(counts > 0, correct / np.maximum(counts, 1), np.nan)


def worst_group_at_its_best(scores: Scores, images: LabelledImages) -> float:
    """The worst group's accuracy at the threshold where it is highest."""
    threshold = worst_group_threshold(scores, images.targets, images.groups)
    return float(np.nanmin(group_accuracies(scores, images, threshold, int(images.groups.max()) + 1)))


# For each `selection`: the figure that the weights are chosen by, and the threshold that goes with it.
SELECTIONS: dict[str, tuple[Selection, Callable[[Scores, LabelledImages], float]]] = {
    "average_precision": (
        lambda scores, images: float(average_precision(scores, images.targets)),
        lambda scores, images: f1_threshold(scores, images.targets),
    ),
    "worst_group_accuracy": (
        worst_group_at_its_best,
        lambda scores, images: worst_group_threshold(scores, images.targets, images.groups),
    ),
}


def validation_metrics(
    scores: Scores, images: LabelledImages, threshold: float, n_groups: int
) -> dict[str, float | None]:
    """AP, accuracy, and the accuracy (None where there is none) and size of every group."""
    metrics: dict[str, float | None] = {
        "average_precision": float(average_precision(scores, images.targets)),
        "accuracy": float(((scores >= threshold) == images.targets).mean()),
        "threshold": threshold,
    }
    accuracies = group_accuracies(scores, images, threshold, n_groups)
    for group, (accuracy, count) in enumerate(zip(accuracies, images.group_counts(n_groups), strict=True)):
        metrics[f"group_{group}_accuracy"] = float(accuracy) if count else None
        metrics[f"group_{group}_n"] = count
    return metrics


def main(attribute: Annotated[str, typer.Argument(help="one of params.yaml's attributes")]) -> None:
    """Train the classifier of one attribute; weights and threshold are the best by `selection`."""
    parameters = read_parameters()
    section = parameters.train_attribute
    if attribute not in parameters.attributes:
        raise UserError(f"{attribute!r} is none of the attributes {', '.join(parameters.attributes)}.")
    store = Store(REAL)
    training = real_images(parameters, "train", store, attribute)
    validation = real_images(parameters, "validation", store, attribute)
    figure, threshold_of = SELECTIONS[section.selection]
    accelerator = new_accelerator(parameters.runtime)
    name = f"train_attribute {attribute}"
    work = work_folder(name, [REAL], section.model_dump(), writes=accelerator.is_main_process)
    network = new_backbone(section.backbone, derived_seed(section.seed, attribute))

    trained = train_classifier(
        name,
        network,
        ERM(lambda tensor: accelerator.reduce(tensor, "sum")),
        training,
        validation,
        section,
        {section.selection: figure},
        accelerator,
        work / "state.pt",
        parameters.runtime.checkpoint_seconds,
    )
    if not accelerator.is_main_process:
        return
    network.load_state_dict(trained.best[section.selection])
    scores = predict(network, validation.read, len(validation), accelerator)
    threshold = threshold_of(scores, validation)
    output = work / "attribute"
    save_network(output, network, section.backbone, {"attribute": attribute, "threshold": threshold})
    metrics = validation_metrics(scores, validation, threshold, 2 * parameters.n_protected)
    write_json(output / "metrics.json", metrics)
    pd.DataFrame(trained.history).to_csv(output / "history.csv", index=False)
    publish(output, ATTRIBUTES / attribute)


if __name__ == "__main__":
    run_stage(in_processes(main))
