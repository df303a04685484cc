"""train_attribute NAME: train a labeller on real images; writes it with thresholds and metrics.

out/attributes/NAME/ gets all of these. These classifiers label what the generator renders. Trained as
METHODS 1 prescribes, they are as biased as the images: the weights and the threshold with the best F1 on
validation, where the rare groups are rare, give up these groups' accuracy. A fair labeller therefore sets
`sampler` to group_balanced and chooses weights and threshold by the worst group's accuracy. A labeller
consists of several networks, and two more that check it (classifiers/labellers.py).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from classifiers.labeller_trust import labeller_judgement
from classifiers.labellers import HALVES, Labeller, balanced_weights, calibration, half_of_each
from classifiers.networks.backbones import Classifier, new_backbone, save_network
from classifiers.networks.cards import LabellerCard
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import per_image
from classifiers.selection import average_precision, f1_threshold, worst_group_threshold
from classifiers.training.loop import Selection, in_one_phase, train_classifier
from classifiers.training.methods.erm import ERM
from classifiers.training.samplers import SAMPLERS
from data.names import SPLITS
from pipeline.content.arrays import IntArray
from pipeline.content.checkpoints import CHECKPOINT
from pipeline.content.groups import group_names
from pipeline.content.resumable import Session
from pipeline.content.seeds import derived_seed
from pipeline.content.stores import Store
from pipeline.content.trust import settle
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import AllParameters, read_parameters
from stages.shared.inputs import of_known_groups, real_images
from stages.shared.labeller_metrics import LabellerMetrics
from stages.shared.paths import ATTRIBUTES, REAL

Scores = NDArray[np.float64]


def group_accuracies_at(scores: Scores, images: LabelledImages, threshold: float, n_groups: int) -> Scores:
    """Compute the accuracy in every group of (target, protected attributes) at a threshold.

    Args:
        scores: [n] in [0, 1].
        images: n images with targets and groups.
        threshold: scores from it on predict 1.
        n_groups: the number of groups.

    Returns:
        [n_groups]; NaN for an empty group.
    """
    correct = np.bincount(images.groups, (scores >= threshold) == images.targets, n_groups)
    counts = np.array(images.group_counts(n_groups))
    return np.where(counts > 0, correct / np.maximum(counts, 1), np.nan)


def worst_group_at_its_best(scores: Scores, images: LabelledImages) -> float:
    """Return the highest worst-group accuracy that any threshold reaches."""
    threshold = worst_group_threshold(scores, images.targets, images.groups)
    return float(np.nanmin(group_accuracies_at(scores, images, threshold, int(images.groups.max()) + 1)))


# For each `selection`: the figure that chooses the weights, and the function that chooses the threshold.
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


def labeller_metrics(
    scores: Scores, images: LabelledImages, thresholds: Sequence[float], n_groups: int
) -> LabellerMetrics:
    """Measure a labeller and its checkers.

    Args:
        scores: of the labeller, then of its checkers, [n, roles] in [0, 1].
        images: n images with targets and groups.
        thresholds: one for each column of `scores`.
        n_groups: the number of groups.

    Returns:
        the content of metrics.json; an empty group's accuracies are None.
    """
    own, threshold = scores[:, 0], thresholds[0]
    accuracies, *of_checkers = (
        [
            None if np.isnan(value) else float(value)
            for value in group_accuracies_at(of, images, cut, n_groups)
        ]
        for of, cut in zip(scores.T, thresholds, strict=True)
    )
    return LabellerMetrics(
        average_precision=float(average_precision(own, images.targets)),
        accuracy=float(((own >= threshold) == images.targets).mean()),
        threshold=threshold,
        group_accuracies=accuracies,
        group_n=images.group_counts(n_groups),
        checker_accuracies=of_checkers,
    )


def known_images(parameters: AllParameters, split: str, store: Store, attribute: str) -> LabelledImages:
    """Read the real images of a split whose groups are known: labellers are trained on these alone.

    Args:
        parameters: as params.yaml holds them.
        split: the split's name.
        store: of the real images.
        attribute: whose labels are the targets.

    Returns:
        the images.

    Raises:
        UserError: a group of the target and the protected attributes has no image of known group.
    """
    images = real_images(parameters, split, store, attribute, filled=False)
    images = of_known_groups(images)
    counts = images.group_counts(2 * parameters.n_protected)
    if not all(counts):
        name = group_names(parameters.target, parameters.protected)[counts.index(0)]
        raise UserError(
            f"train_attribute {attribute}: no image of the {split} split is known to be of the group "
            f"{name}: give more protected labels, at least some of every group."
        )
    return images


def training_part(images: LabelledImages, half: int | None, seed: int) -> LabelledImages:
    """Return the images to train a network of a labeller on.

    Args:
        images: real training images.
        half: 0 or 1, the half of every group to take; None takes all images.
        seed: of the division into halves.

    Returns:
        these images, or a subset of them.
    """
    if half is None:
        return images
    return images.subset(np.flatnonzero(half_of_each(images.groups, seed) == half))


def train_networks(
    name: str,
    attribute: str,
    halves: Sequence[int | None],
    parameters: AllParameters,
    work: Path,
    accelerator: Accelerator,
) -> tuple[list[Classifier], pd.DataFrame]:
    """Train the networks of a labeller.

    Args:
        name: of the networks in the state files and in progress.
        attribute: the attribute that they predict.
        halves: for each network, the half of the images that it sees; None for all.
        parameters: as params.yaml holds them.
        work: the folder that keeps the state of each training.
        accelerator: runs the trainings.

    Returns:
        the networks, each with its best weights, and the histories of all.

    Raises:
        UserError: one half has images of one label alone.
    """
    section, store = parameters.train_attribute, Store(REAL)
    training, validation = (known_images(parameters, split, store, attribute) for split in SPLITS[:2])
    figure, _ = SELECTIONS[section.selection]
    networks, histories = [], []
    for k, half in enumerate(halves):
        seed = derived_seed(section.seed, attribute, k)
        images = training_part(training, half, section.seed)
        if half is not None and len(np.unique(images.targets)) < 2:
            raise UserError(
                f"{name}: one half of the training images has only one label, so no network can be trained "
                "on it: get more images of the rarer label, or set train_attribute.checkers to false."
            )
        network = new_backbone(section.backbone, seed)
        session = Session(
            f"{name}, network {k + 1} of {len(halves)}",
            accelerator,
            work / f"network-{k}" / CHECKPOINT,
            parameters.runtime.checkpoint_seconds,
        )
        settings = section.model_copy(update={"seed": seed})
        phases = in_one_phase(images, ERM(session.total), settings)
        selections: dict[str, Selection] = {section.selection: figure}
        trained = train_classifier(session, network, phases, validation, settings, selections)
        network.load_state_dict(trained.best[section.selection])
        networks.append(network)
        histories.append(pd.DataFrame(trained.history).assign(network=k, half=half))
    return networks, pd.concat(histories, ignore_index=True)


def calibrate(
    labeller: Labeller, validation: LabelledImages, strata: IntArray, accelerator: Accelerator
) -> tuple[Scores, float]:
    """Calibrate a labeller on validation images.

    Args:
        labeller: is calibrated in place.
        validation: real validation images.
        strata: of the validation images, [n]; they have equal weights, as in the batches of the training.
        accelerator: runs the networks.

    Returns:
        the scores of the validation images, [n, roles], and the share of positives that they assume.
    """
    n = len(validation)
    weights = balanced_weights(strata)
    logits = per_image(labeller, labeller.mean_logits, validation.read, n, accelerator)
    found = [calibration(of, validation.targets, weights) for of in logits.T]
    labeller.slope.copy_(torch.tensor([slope for slope, _ in found]))
    labeller.intercept.copy_(torch.tensor([intercept for _, intercept in found]))

    def scores_of(images: Tensor) -> Tensor:
        return torch.sigmoid(labeller.with_checkers(images))

    scores = per_image(labeller, scores_of, validation.read, n, accelerator)
    return scores, float(weights @ validation.targets)


def main(attribute: Annotated[str, typer.Argument(help="one of params.yaml's attributes")]) -> None:
    """Train the labeller of one attribute; weights and thresholds are the best by `selection`."""
    parameters = read_parameters()
    section, n_groups = parameters.train_attribute, 2 * parameters.n_protected
    if attribute not in parameters.attributes:
        raise UserError(f"{attribute!r} is none of the attributes {', '.join(parameters.attributes)}.")
    accelerator = new_accelerator(parameters.runtime)
    name = f"train_attribute {attribute}"
    work = work_folder(name, writes=accelerator.is_main_process)
    halves: list[int | None] = [None] * section.networks + ([*range(HALVES)] if section.checkers else [])
    networks, history = train_networks(name, attribute, halves, parameters, work.folder, accelerator)
    if not accelerator.is_main_process:
        return

    training, validation = (known_images(parameters, split, Store(REAL), attribute) for split in SPLITS[:2])
    labeller = Labeller(networks, halves)
    strata = SAMPLERS[section.sampler].strata(validation)
    scores, prior = calibrate(labeller, validation, strata, accelerator)
    _, threshold_of = SELECTIONS[section.selection]
    thresholds = [threshold_of(of, validation) for of in scores.T]
    output = work.folder / "attribute"
    card = LabellerCard(
        backbone=section.backbone,
        attribute=attribute,
        threshold=thresholds[0],
        thresholds=thresholds,
        halves=halves,
        prior=prior,
        real_share=float(training.targets.mean()),
    )
    save_network(output, labeller, card)
    metrics = labeller_metrics(scores, validation, thresholds, n_groups)
    metrics.write(output / "metrics.json")
    history.to_csv(output / "history.csv", index=False)
    judgement = labeller_judgement(
        attribute,
        group_accuracies_at(scores[:, 0], validation, thresholds[0], n_groups),
        metrics.group_n,
        group_names(parameters.target, parameters.protected),
        float(history[history["half"].isna()].groupby("network")["separation"].last().min()),
    )
    settle([judgement], output, parameters.on_useless)
    work.publish(ATTRIBUTES / attribute, output)


if __name__ == "__main__":
    run_stage(in_processes(main))
