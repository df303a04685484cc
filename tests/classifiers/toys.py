"""Toy images, short trainings, kills and bitwise comparisons that the tests of trainings share."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone, BackboneName
from classifiers.training import loop as classifier_training
from classifiers.training.batches import Batch
from classifiers.training.loop import Trained, in_one_phase
from classifiers.training.methods.adversarial_debiasing import AdversarialDebiasing
from classifiers.training.methods.base import (
    Context,
    Gradients,
    Losses,
    Method,
    SumOverProcesses,
    one_process,
)
from classifiers.training.methods.domain_adversarial import DomainAdversarial
from classifiers.training.methods.erm import ERM
from classifiers.training.methods.group_dro import GroupDRO
from classifiers.training.methods.occam import Occam
from classifiers.training.parameters import Optimizer, Training
from pipeline.content.resumable import Session


def toy_images(n: int, seed: int) -> LabelledImages:
    """Return images of noise, redder on the left half if the target is 1, bluer in protected group 1."""
    random = np.random.default_rng(seed)
    targets, protected = random.integers(0, 2, (2, n))
    pixels = random.integers(60, 160, (n, 8, 8, 3))
    pixels[:, :, :4, 0] += 80 * targets[:, None, None]
    pixels[:, :, :, 2] += 40 * protected[:, None, None]
    images = pixels.astype(np.uint8)
    ids = np.array([f"image-{number}" for number in range(n)], dtype=object)
    return LabelledImages(ids, lambda positions: images[positions], targets, targets * 2 + protected)


TRAINING, VALIDATION = toy_images(256, 0), toy_images(200, 1)


def batch_of(images: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, **changes) -> Batch:
    """Return a batch of real images in order, whose groups are known, as the only process has it."""
    count = len(targets)
    facts = {
        "known": torch.ones(count, dtype=torch.bool),
        "synthetic": torch.zeros(count, dtype=torch.bool),
        "positions": torch.arange(count),
        "places": torch.arange(count),
        "size": count,
        "progress": 0.0,
        "seed": 0,
    }
    return Batch(images, targets, groups, **(facts | changes))


def context_of(group_counts: list[int], **changes) -> Context:
    """Return the facts of a phase with two protected groups, in one process."""
    facts = {"n_protected": 2, "images": sum(group_counts), "feature_size": 3, "seed": 0}
    return Context(group_counts, **(facts | changes))


Outcome = TypeVar("Outcome")


def part_of(batch: Batch, mine: torch.Tensor) -> Batch:
    """Return a process's part of a batch: the images that `mine`, [n] bool, says."""
    names = ["images", "targets", "groups", "known", "synthetic", "positions", "places"]
    names += [] if batch.memberships is None else ["memberships"]
    return replace(batch, **{name: getattr(batch, name)[mine] for name in names})


def in_two_processes(work: Callable[[int, SumOverProcesses], Outcome]) -> list[Outcome]:
    """Do something in two threads, whose sums are over both: a thread waits in a sum for the other one.

    Args:
        work: gets the number of its process, and the sum over the processes.

    Returns:
        The outcome of each.
    """
    given: list[torch.Tensor] = [torch.empty(0)] * 2
    meeting = threading.Barrier(2, timeout=30)

    def in_process(number: int) -> Outcome:
        def total(tensor: torch.Tensor) -> torch.Tensor:
            given[number] = tensor.clone()
            meeting.wait()
            both = given[0] + given[1]
            meeting.wait()  # before the next sum's tensors are given
            return both

        return work(number, total)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(in_process, range(2)))


def settings_of(**changes) -> Training:
    values = {
        "optimizer": Optimizer(name="sgd", learning_rate=0.05, schedule="cosine", warm_up=0.0),
        "weight_decay": 1e-4,
        "steps": 12,
        "batch_size": 16,
        "evaluations": 4,
        "sampler": "uniform",
        "flip": True,
        "shift": 0.0,
        "average": 0.0,
        "seed": 0,
    }
    return Training(**(values | changes))


def accuracy_of(scores: np.ndarray, images: LabelledImages) -> float:
    return float(((scores > 0.5) == images.targets).mean())


def certainty_of(scores: np.ndarray, images: LabelledImages) -> float:
    return float(np.abs(scores - 0.5).mean())


SELECTIONS = {"accuracy": accuracy_of, "certainty": certainty_of}


def train_in_phases(
    network, phases, settings, selections, accelerator, checkpoint, checkpoint_seconds=3600.0
) -> Trained:
    """Train on the toy images; save a state after every evaluation, and at no other time unless asked."""
    session = Session("toy", accelerator, checkpoint, checkpoint_seconds)
    return classifier_training.train_classifier(session, network, phases, VALIDATION, settings, selections)


def train_classifier(
    network, method, training, settings, selections, accelerator, checkpoint, checkpoint_seconds=3600.0
) -> Trained:
    """Train on the toy images in one phase."""
    phases = in_one_phase(training, method, settings)
    return train_in_phases(network, phases, settings, selections, accelerator, checkpoint, checkpoint_seconds)


class Opposed(Method):
    """A method with two losses, of the positives and of the negatives, and a parameter that scales logits.

    The gradients of the two losses are made to agree.
    """

    def __init__(self, total: SumOverProcesses = one_process) -> None:
        super().__init__()
        self.total = total
        self.scale = nn.Parameter(torch.ones(()))

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        logits, positive = network(batch.images), batch.targets.float()
        each = F.binary_cross_entropy_with_logits(self.scale * logits.float(), positive, reduction="none")
        count = self.total(torch.tensor(float(len(logits))))
        return Losses(((each * positive).sum() / count, (each * (1 - positive)).sum() / count), logits)

    def combine(self, gradients: Sequence[Gradients]) -> Gradients:
        """Add both gradients, the first without its component against the second (Yu et al., 2020)."""
        first, second = gradients
        product = sum((one * other).sum() for one, other in zip(first, second, strict=True))
        if product >= 0:
            return [one + other for one, other in zip(first, second, strict=True)]
        share = product / sum(other.square().sum() for other in second)
        return [one - share * other + other for one, other in zip(first, second, strict=True)]

    def figures(self) -> dict[str, float]:
        return {"scale": self.scale.item()}


def toy_context(counts: list[int], total: SumOverProcesses) -> Context:
    """Return the facts of a phase with the toy network, of 8 channels and so 32 features."""
    return context_of(counts, feature_size=32, total=total)


METHODS: dict[str, Callable[[list[int], SumOverProcesses], Method]] = {
    "erm": lambda counts, total: ERM(total),
    "group_dro": lambda counts, total: GroupDRO(counts, step_size=0.5, total=total),
    "opposed": lambda counts, total: Opposed(total),
    "dann": lambda counts, total: DomainAdversarial(toy_context(counts, total), conditional=True),
    "adversarial": lambda counts, total: AdversarialDebiasing(
        toy_context(counts, total), heads="intersections", rising=True
    ),
    "occam": lambda counts, total: Occam(toy_context(counts, total), thresholds=(0.0, 0.1, 0.2)),
}


def new_method(name: str, images: LabelledImages = TRAINING, total: SumOverProcesses = one_process) -> Method:
    """Make one of `METHODS`, for the groups of some images."""
    return METHODS[name](images.group_counts(4), total)


def trained(accelerator, checkpoint, method=None, training=TRAINING, checkpoint_seconds=3600.0, **changes):
    method = method or ERM()
    backbone: BackboneName = "occam" if isinstance(method, Occam) else "small"
    network = new_backbone(Backbone(name=backbone, width=8), seed=0)
    result = train_classifier(
        network,
        method,
        training,
        settings_of(**changes),
        SELECTIONS,
        accelerator,
        checkpoint,
        checkpoint_seconds=checkpoint_seconds,
    )
    return network, method, result


class Killed(Exception):
    """Stands for anything that ends a training from outside."""


def killed_after(batches: int, images: LabelledImages) -> LabelledImages:
    """Return the same images, which raise `Killed` after so many batches have been read."""
    left = iter(range(batches))

    def read(positions: np.ndarray) -> np.ndarray:
        if next(left, None) is None:
            raise Killed
        return images.read(positions)

    return LabelledImages(images.ids, read, images.targets, images.groups)


def assert_same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_same_training(first, second) -> None:
    """Compare the last weights, the method's state, the history, the cost, the best weights, to the bit."""
    for one, other in zip(first[:2], second[:2], strict=True):
        assert_same_weights(one.state_dict(), other.state_dict())
    assert first[2].history == second[2].history
    assert first[2].cost == second[2].cost
    assert first[2].best.keys() == second[2].best.keys()
    for name in first[2].best:
        assert_same_weights(first[2].best[name], second[2].best[name])
