"""Trains a classifier in phases: attributes and recipes, CPU, GPU, or several processes.

Each phase has images, a method and a sampler of its own. Batches depend on (seed, step number) only, and a
checkpoint holds everything that the next step depends on.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.weights import copy_of_weights
from classifiers.training.batches import batch_at
from classifiers.training.cost import counted
from classifiers.training.descent import average_in, descend, learning_rate, memory_of, new_optimizer
from classifiers.training.methods.base import Method
from classifiers.training.parameters import Training
from classifiers.training.samplers import Sampler, new_sampler
from pipeline.content.arrays import FloatArray
from pipeline.content.resumable import Session, StepDone, refuse_divergence, run_steps
from pipeline.errors import UserError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
REMEDY = "lower optimizer.learning_rate"

Selection = Callable[[FloatArray, LabelledImages], float]
Look = Callable[[LabelledImages], FloatArray]  # images -> the scores [N] of the network so far


@dataclass(frozen=True)
class Part:
    """The images, the method and the sampler that a phase trains with.

    Attributes:
        training: the images.
        method: computes the losses of a batch.
        sampler: returns the positions of a step's batch; steps are counted from the phase's first.
    """

    training: LabelledImages
    method: Method
    sampler: Sampler


@dataclass(frozen=True)
class Phase:
    """A stretch of a training, built when it begins, so that it can use the network's scores so far.

    Attributes:
        steps: how many steps there are.
        build: makes the part. Its argument is a function that computes the scores of the network so far,
            which is the average of its weights if the settings say so. After a kill `build` is called again,
            with the same scores: it must depend on them alone.
        fresh: whether the network starts anew, from the weights that it had before the training: the phases
            before have only served to build this one, and none of their weights is kept as the best.
    """

    steps: int
    build: Callable[[Look], Part]
    fresh: bool = False


def in_one_phase(training: LabelledImages, method: Method, settings: Training) -> list[Phase]:
    """Return the phases of a training that has a single one: all steps and the sampler of the settings."""
    sampler = new_sampler(settings.sampler, training, settings.batch_size, settings.seed)
    return [Phase(settings.steps, lambda look: Part(training, method, sampler))]


@dataclass
class Trained:
    """The result of a training.

    Attributes:
        best: for each selection, the weights with the highest value on validation.
        history: a record per evaluation: step; loss, the mean since the last one; separation, how far apart
            the network holds the two classes of the images that it trained on since then (mean score of the
            positives less that of the negatives, in [-1, 1]: 0 on the plateau where a training begins); every
            selection's value; and the method's figures.
        cost: the images that went through the network to train it, of all processes: forward, backward. Those
            that a phase looked at are among them, those of evaluations are not.
    """

    best: dict[str, dict[str, Tensor]]
    history: list[dict[str, float]]
    cost: dict[str, int] = field(default_factory=dict)


def train_classifier(
    session: Session,
    network: nn.Module,
    phases: Sequence[Phase],
    validation: LabelledImages,
    settings: Training,
    selections: Mapping[str, Selection],
) -> Trained:
    """Train a network; its state survives a kill in the session's checkpoint.

    A phase takes over the network's weights, if it is not fresh, and nothing else: the optimizer, the
    schedule of the learning rate and the average of the weights start anew. Evaluations are spread
    evenly over the steps of all phases; the average of the weights so far is evaluated and kept, if the
    settings say so. The state is saved after every evaluation too. With several processes, each computes all
    scores of validation: their weights are the same.

    A `UserError` ends the training if the loss is no longer finite, or if several processes on CPUs were to
    train a network that normalises by batch.

    Args:
        session: where it runs and where its state is kept.
        network: images [n, 3, H, W] in [-1, 1] to logits [n]; it has the last weights afterwards.
        phases: one after the other.
        validation: the images that selections measure.
        settings: the optimizer, the evaluations and the seed; steps and samplers are the phases'.
        selections: name -> a figure of (scores, validation) to be high; the weights with the highest one
            are kept for each, the earliest of equals.

    Returns:
        The best weights, the history and the cost.
    """
    _normalise_over_processes(session, network)
    training = _Training(session, network, phases, validation, settings, selections)
    run_steps(session, training, sum(phase.steps for phase in phases))
    training.result.cost = dict(zip(("forward", "backward"), training.cost.tolist(), strict=True))
    return training.result


def _normalise_over_processes(session: Session, network: nn.Module) -> None:
    """Make batch norm use the whole batch: torchvision's would use this process's part of it only."""
    normalises = any(isinstance(part, BATCH_NORMS) for part in network.modules())
    if session.accelerator.num_processes == 1 or not normalises:
        return
    if session.accelerator.device.type != "cuda":
        raise UserError(
            f"{session.name}: the backbone normalises by batch, and on CPUs each of several processes "
            "would do so by its own part alone: use one process, or the backbone small."
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)


class _Training:
    """Holds the state of a training and takes its steps; the arguments are those of `train_classifier`."""

    part: Part  # of the last step's phase
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        session: Session,
        network: nn.Module,
        phases: Sequence[Phase],
        validation: LabelledImages,
        settings: Training,
        selections: Mapping[str, Selection],
    ) -> None:
        device = session.accelerator.device
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.session, self.settings = session, settings
        self.network = network
        self.first_weights = copy_of_weights(network) if any(phase.fresh for phase in phases) else {}
        self.evaluated = copy.deepcopy(network) if settings.average > 0 else network
        self.network.train()
        self.phases, self.starts = phases, np.cumsum([0, *(phase.steps for phase in phases)]).tolist()
        self.seen: list[Tensor] = []  # the scores that the phase was built from
        self.validation, self.selections = validation, selections
        parts = settings.evaluations
        self.evaluate_after = {round(self.starts[-1] * (k + 1) / parts) for k in range(parts)}
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)  # since the last evaluation
        self.cost = torch.zeros(2, dtype=torch.int64, device=device)  # images forward and backward
        self.result = Trained(best={}, history=[])
        self.best_values = dict.fromkeys(selections, -math.inf)

    def step(self, number: int) -> StepDone:
        """Take a step; begin its phase if it is the phase's first, and evaluate if that is due."""
        index = self._phase_of(number)
        within, steps = number - self.starts[index], self.phases[index].steps
        if within == 0:
            self._begin(index, [])
            if self.phases[index].fresh:
                self._start_anew()
        part, accelerator = self.part, self.session.accelerator
        batch = batch_at(
            part.training, part.sampler(within), self.settings, number, within / steps, accelerator
        )
        rate = learning_rate(self.settings.optimizer, within, steps)
        # Reduced at every step, so that the main process's state holds for all processes.
        with counted(self.network) as count:
            self.sums += descend(self.network, part.method, self.optimizer, rate, batch, accelerator)
        self.cost += count.over_processes(self.session)
        if self.evaluated is not self.network:
            average_in(self.evaluated, self.network, memory_of(self.settings.average, within, steps))
        is_evaluated = number + 1 in self.evaluate_after
        if is_evaluated:
            self._evaluate(number)
        return StepDone(saves=is_evaluated)

    def _phase_of(self, number: int) -> int:
        """Return the phase that has a step; phases without steps are skipped."""
        return next(k for k in range(len(self.phases)) if self.starts[k] <= number < self.starts[k + 1])

    def _begin(self, index: int, seen: Sequence[Tensor]) -> None:
        """Build a phase; its `look` first returns the recorded scores, then computes those of the network."""
        recorded, self.seen = iter(seen), []

        def look(images: LabelledImages) -> FloatArray:
            scores = next(recorded, None)
            if scores is None:
                found = predict(self.evaluated, images.read, len(images), self.session.accelerator)
                scores = torch.from_numpy(found)
                self.cost[0] += len(images)  # once: every process computes the same
            self.seen.append(scores)
            return scores.numpy().copy()

        self.part = self.phases[index].build(look)
        method = self.part.method.to(self.session.accelerator.device)
        self.optimizer = new_optimizer(self.network, method, self.settings)

    def _start_anew(self) -> None:
        """Give the network its first weights back, and forget which weights were the best."""
        self.network.load_state_dict(self.first_weights)
        self.evaluated.load_state_dict(self.first_weights)
        self.result.best.clear()
        self.best_values = dict.fromkeys(self.selections, -math.inf)

    def _evaluate(self, number: int) -> None:
        """Score validation, keep the weights that are best by a selection, and add to the history."""
        history, validation = self.result.history, self.validation
        mean_loss = float(self.sums[0]) / (number + 1 - (history[-1]["step"] if history else 0))
        separation = _separation(self.sums)
        self.sums.zero_()
        scores = predict(self.evaluated, validation.read, len(validation), self.session.accelerator)
        refuse_divergence(self.session.name, number, [mean_loss, *scores.tolist()], REMEDY)
        values = {name: float(select(scores, validation)) for name, select in self.selections.items()}
        for name, value in values.items():
            if value > self.best_values[name]:
                self.best_values[name] = value
                self.result.best[name] = copy_of_weights(self.evaluated)
        seen = {"step": number + 1, "loss": mean_loss, "separation": separation}
        history.append({**seen, **values, **self.part.method.figures()})

    def check(self, number: int) -> None:
        """Raise `UserError` if a loss since the last evaluation was not finite."""
        refuse_divergence(self.session.name, number, self.sums.tolist(), REMEDY)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "evaluated": self.evaluated.state_dict(),
            "method": self.part.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "sums": self.sums,
            "cost": self.cost,
            "result": vars(self.result),
            "best_values": self.best_values,
        }

    def load_state(self, state: dict[str, Any], done: int) -> None:
        """Restore the state after `done` steps, in the phase that has the last of them."""
        self.network.load_state_dict(state["network"])
        self.evaluated.load_state_dict(state["evaluated"])
        self._begin(self._phase_of(done - 1), state["seen"])
        self.part.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sums.copy_(state["sums"])
        self.cost.copy_(state["cost"])
        self.result, self.best_values = Trained(**state["result"]), state["best_values"]


def _separation(sums: Tensor) -> float:
    """Compute the separation (see `Trained`) from the sums of `descend`."""
    _, positive, positives, negative, negatives = sums.tolist()
    return positive / positives - negative / negatives if positives and negatives else 0.0
