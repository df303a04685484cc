"""train_judge NAME: the judge's images -> out/judges/NAME/: a network that judges an attribute.

A judge is trained on a large balanced real set that nothing else sees, and serves evaluation alone: it says
what a synthetic image shows, where the classifiers that label it may err.
"""

from typing import Annotated

import numpy as np
import typer

from classifiers.backbones import new_backbone, save_network
from classifiers.judging import agreement
from classifiers.metrics import HALF
from classifiers.objectives import ERM
from classifiers.training import predict, train_classifier
from data.sources.base import JUDGE_SPLIT
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.parameters import read_parameters
from pipeline.runtime import new_accelerator
from pipeline.seeds import derived_seed, generator_for
from pipeline.stage import run_stage
from pipeline.stores import Store, write_json
from pipeline.work import publish, work_folder
from stages.inputs import real_images
from stages.paths import JUDGES, REAL

SELECTION = "accuracy"
HELD_OUT = 0.1  # share of the judge's images that the best weights are chosen on


def main(attribute: Annotated[str, typer.Argument(help="one of params.yaml's attributes")]) -> None:
    """Train the judge of one attribute; the best on a held-out part of its own images is kept."""
    parameters = read_parameters()
    section = parameters.assess.judge
    if attribute not in parameters.attributes:
        raise UserError(f"{attribute!r} is none of the attributes {', '.join(parameters.attributes)}.")
    store = Store(REAL)
    images = real_images(parameters, JUDGE_SPLIT, store, attribute)
    accelerator = new_accelerator(parameters.runtime)
    name = f"train_judge {attribute}"
    work = work_folder(name, [REAL], section.model_dump(), writes=accelerator.is_main_process)
    output = work / "judge"
    if not len(images):
        if accelerator.is_main_process:
            print(f"{name}: {REAL} has no split {JUDGE_SPLIT!r} to train a judge on, so there will be none")
            write_json(output / "metrics.json", {"images": 0})
            publish(output, JUDGES / attribute)
        return

    order = generator_for(section.seed, "judge").permutation(len(images))
    held_out = max(1, round(HELD_OUT * len(images)))
    network = new_backbone(section.backbone, derived_seed(section.seed, "judge", attribute))
    trained = train_classifier(
        name,
        network,
        ERM(lambda tensor: accelerator.reduce(tensor, "sum")),
        images.subset(order[held_out:]),
        images.subset(order[:held_out]),
        section,
        {SELECTION: lambda scores, part: float(((scores >= HALF) == part.targets).mean())},
        accelerator,
        work / "state.pt",
        parameters.runtime.checkpoint_seconds,
    )
    if not accelerator.is_main_process:
        return
    network.load_state_dict(trained.best[SELECTION])
    test = real_images(parameters, "test", store, attribute)
    predictions = (predict(network, test.read, len(test), accelerator) >= HALF).astype(np.int64)
    measured = agreement(test.targets, predictions, test.groups, 2 * parameters.n_protected)
    save_network(output, network, section.backbone, {"attribute": attribute, "threshold": HALF})
    write_json(output / "metrics.json", {"images": len(images), "real_test": measured})
    print(f"{name}: accuracy on real test images {measured['accuracy']:.3f}")
    publish(output, JUDGES / attribute)


if __name__ == "__main__":
    run_stage(in_processes(main))
