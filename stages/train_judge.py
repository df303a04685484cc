"""train_judge NAME: train the judge of an attribute; writes out/judges/NAME/.

A judge says what a synthetic image shows, independently of the classifiers that label it; it serves
evaluation alone. If the source can compute the attribute from an image's pixels, that computation is the
judge. Otherwise it is a network, trained on a balanced set of real images that serves nothing else, with the
weights that are best on a held-out part of this set.

metrics.json follows `JudgeMetrics` in stages/shared/judge_metrics.py.
"""

from typing import Annotated

import numpy as np
import typer

from classifiers.agreement import agreement
from classifiers.networks.backbones import new_backbone, save_network
from classifiers.networks.cards import JudgeCard
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.selection import HALF
from classifiers.training.loop import in_one_phase, train_classifier
from classifiers.training.methods.erm import ERM
from classifiers.training.plateau import training_judgement
from data.names import JUDGE_SPLIT
from data.sources import source_of
from data.sources.base import Measure, measured_in_batches
from pipeline.content.checkpoints import CHECKPOINT
from pipeline.content.resumable import Session
from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.stores import Store
from pipeline.content.trust import settle
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.inputs import real_images
from stages.shared.judge_metrics import Agreement, JudgeMetrics
from stages.shared.paths import JUDGES, REAL

SELECTION = "accuracy"
HELD_OUT = 0.1  # share of the judge's images that choose the best weights


def measured_metrics(measure: Measure, test: LabelledImages, n_groups: int) -> JudgeMetrics:
    """Return the metrics of an attribute that is computed from pixels, on the real test images."""
    said = measured_in_batches(measure, test.read, len(test))
    agrees = Agreement.model_validate(agreement(test.targets, said, test.groups, n_groups))
    return JudgeMetrics(measured=True, images=len(test), real_test=agrees)


def accuracy_text(metrics: JudgeMetrics) -> str:
    """Say how accurate a judge is."""
    if metrics.real_test is None or metrics.real_test.accuracy is None:
        return "there are no real test images to measure it on"
    return f"accuracy on real test images {metrics.real_test.accuracy:.3f}"


def main(attribute: Annotated[str, typer.Argument(help="one of params.yaml's attributes")]) -> None:
    """Train the judge of one attribute, unless its source computes the attribute from an image's pixels."""
    parameters = read_parameters()
    section = parameters.assess.judge
    if attribute not in parameters.attributes:
        raise UserError(f"{attribute!r} is none of the attributes {', '.join(parameters.attributes)}.")
    store = Store(REAL)
    n_groups = 2 * parameters.n_protected
    accelerator = new_accelerator(parameters.runtime)
    name = f"train_judge {attribute}"
    work = work_folder(name, writes=accelerator.is_main_process)
    output = work.folder / "judge"
    measure = source_of(parameters.prepare.source).measured(attribute)
    if measure is not None:
        if accelerator.is_main_process:
            metrics = measured_metrics(
                measure, real_images(parameters, "test", store, attribute, filled=False), n_groups
            )
            print(f"{name}: computed from the pixels; {accuracy_text(metrics)}")
            metrics.write(output / "metrics.json")
            work.publish(JUDGES / attribute, output)
        return

    images = real_images(parameters, JUDGE_SPLIT, store, attribute, filled=False)
    if not len(images):
        if accelerator.is_main_process:
            print(f"{name}: {REAL} has no split {JUDGE_SPLIT!r} to train a judge on, so there will be none")
            JudgeMetrics(images=0).write(output / "metrics.json")
            work.publish(JUDGES / attribute, output)
        return

    order = generator_for(section.seed, "judge").permutation(len(images))
    held_out = max(1, round(HELD_OUT * len(images)))
    network = new_backbone(section.backbone, derived_seed(section.seed, "judge", attribute))
    session = Session(name, accelerator, work.folder / CHECKPOINT, parameters.runtime.checkpoint_seconds)
    trained = train_classifier(
        session,
        network,
        in_one_phase(images.subset(order[held_out:]), ERM(session.total), section),
        images.subset(order[:held_out]),
        section,
        {SELECTION: lambda scores, part: float(((scores >= HALF) == part.targets).mean())},
    )
    if not accelerator.is_main_process:
        return
    network.load_state_dict(trained.best[SELECTION])
    test = real_images(parameters, "test", store, attribute, filled=False)
    predictions = (predict(network, test.read, len(test), accelerator) >= HALF).astype(np.int64)
    agrees = Agreement.model_validate(agreement(test.targets, predictions, test.groups, n_groups))
    metrics = JudgeMetrics(images=len(images), real_test=agrees)
    card = JudgeCard(backbone=section.backbone, attribute=attribute, threshold=HALF)
    save_network(output, network, card)
    metrics.write(output / "metrics.json")
    print(f"{name}: {accuracy_text(metrics)}")
    settle([training_judgement(name, trained.history[-1]["separation"])], output, parameters.on_useless)
    work.publish(JUDGES / attribute, output)


if __name__ == "__main__":
    run_stage(in_processes(main))
