"""train_attribute NAME: real images -> out/attributes/NAME/: network, threshold, metrics."""

from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from classifiers.backbones import new_backbone, save_network
from classifiers.metrics import average_precision, f1_threshold
from classifiers.objectives import ERM
from classifiers.training import predict, train_classifier
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

SELECTION = "average_precision"


def validation_metrics(
    scores: NDArray[np.float64], labels: NDArray[np.int64], groups: NDArray[np.int64], threshold: float
) -> dict[str, float]:
    """AP, accuracy, and the accuracy and size of every group of (target, protected)."""
    correct = (scores >= threshold) == labels
    metrics = {
        "average_precision": float(average_precision(scores, labels)),
        "accuracy": float(correct.mean()),
        "threshold": threshold,
    }
    for group in range(4):
        members = groups == group
        metrics[f"group_{group}_accuracy"] = float(correct[members].mean())
        metrics[f"group_{group}_n"] = int(members.sum())
    return metrics


def main(attribute: Annotated[str, typer.Argument(help="one of params.yaml's attributes")]) -> None:
    """Train the classifier of one attribute; the best by AP on validation is kept."""
    parameters = read_parameters()
    section = parameters.train_attribute
    if attribute not in parameters.attributes:
        raise UserError(f"{attribute!r} is none of the attributes {', '.join(parameters.attributes)}.")
    store = Store(REAL)
    training = real_images(parameters, "train", store, attribute)
    validation = real_images(parameters, "validation", store, attribute)
    labels = validation.targets
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
        {SELECTION: lambda scores, _: float(average_precision(scores, labels))},
        accelerator,
        work / "state.pt",
        parameters.runtime.checkpoint_seconds,
    )
    if not accelerator.is_main_process:
        return
    network.load_state_dict(trained.best[SELECTION])
    scores = predict(network, validation.read, len(validation), accelerator)
    threshold = f1_threshold(scores, labels)
    output = work / "attribute"
    save_network(output, network, section.backbone, {"attribute": attribute, "threshold": threshold})
    write_json(output / "metrics.json", validation_metrics(scores, labels, validation.groups, threshold))
    pd.DataFrame(trained.history).to_csv(output / "history.csv", index=False)
    publish(output, ATTRIBUTES / attribute)


if __name__ == "__main__":
    run_stage(in_processes(main))
