"""One training loop for every classifier: attributes and recipes, CPU, GPU, or several processes.

A training has one phase or several, each with images, an objective and a sampler of its own. Batches
depend on (seed, step number) only, and a checkpoint holds all that the next step depends on.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.training.objectives import Batch
from classifiers.training.parameters import Optimizer, Training
from classifiers.training.samplers import SAMPLERS, IntArray, Sampler
from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.content.seeds import generator_for
from pipeline.content.tensors import images_to_tensor, reduce_gradients
from pipeline.errors import UserError
from pipeline.progress import progress

MOMENTUM = 0.9
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Selection = Callable[[NDArray[np.float64], "LabelledImages"], float]


@dataclass(frozen=True)
class Phase:
    """A part of a training.

    Attributes:
        training: the images.
        objective: the loss of a batch.
        sampler: the positions of the batch of a step, which is counted from the phase's first.
        steps: how many there are.
    """

    training: LabelledImages
    objective: nn.Module
    sampler: Sampler
    steps: int


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """The learning rate of a step, 0 to steps - 1, of a phase: its schedule, below a linear rise at first."""
    rising = min(1.0, (step + 1) / max(1.0, optimizer.warm_up * steps))
    if optimizer.schedule == "constant":
        return optimizer.learning_rate * rising
    return optimizer.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass
class Trained:
    """What a training gives.

    Attributes:
        best: for each selection, the weights that were best by it on validation.
        history: a record per evaluation: step; loss, the mean since the last one; separation, how far apart
            the network holds the two classes of what it trained on since then (mean score of the positives
            less that of the negatives, in [-1, 1]: 0 on the plateau where a training begins); every
            selection's value; and the objective's state.
    """

    best: dict[str, dict[str, Tensor]]
    history: list[dict[str, float]]


def train_classifier(
    description: str,
    network: nn.Module,
    objective: nn.Module,
    training: LabelledImages,
    validation: LabelledImages,
    settings: Training,
    selections: Mapping[str, Selection],
    accelerator: Accelerator,
    checkpoint: Path,
    checkpoint_seconds: float,
) -> Trained:
    """Train a network in one phase, with the sampler of the settings: see `train_in_phases`."""
    sampler = SAMPLERS[settings.sampler](training.groups, settings.batch_size, settings.seed)
    phases = [Phase(training, objective, sampler, settings.steps)]
    return train_in_phases(
        description,
        network,
        phases,
        validation,
        settings,
        selections,
        accelerator,
        checkpoint,
        checkpoint_seconds,
    )


def train_in_phases(
    description: str,
    network: nn.Module,
    phases: Sequence[Phase],
    validation: LabelledImages,
    settings: Training,
    selections: Mapping[str, Selection],
    accelerator: Accelerator,
    checkpoint: Path,
    checkpoint_seconds: float,
) -> Trained:
    """Train a network; its state survives a kill in the file `checkpoint`.

    A phase takes over the network's weights and nothing else: the optimizer, the schedule of the learning
    rate and the average of the weights start anew. Evaluations are spread evenly over the steps of all
    phases; what is evaluated and kept is the average of the weights so far, where the settings say so.

    Every process of several computes all scores of validation: their weights are the same.

    Args:
        settings: the optimizer, the evaluations and the seed; steps and samplers are the phases'.
        selections: name -> a figure of (scores, validation) to be high; the weights with the highest one
            are kept for each, the earliest of equals.
        checkpoint: a file for the state, written by the main process after every evaluation, and every
            `checkpoint_seconds`.

    Raises `UserError` where the loss is no longer finite, and where several processes on CPUs were to train
    a network that normalises by batch.
    """
    if accelerator.num_processes > 1 and any(isinstance(part, BATCH_NORMS) for part in network.modules()):
        # torchvision's networks normalise by batch: by all of it, not by this process's part.
        if accelerator.device.type != "cuda":
            raise UserError(
                f"{description}: the backbone normalises by batch, and on CPUs each of several processes "
                "would do so by its own part alone: use one process, or the backbone small."
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    evaluated = copy.deepcopy(network) if settings.average > 0 else network
    steps = sum(phase.steps for phase in phases)
    evaluate_after = {round(steps * (k + 1) / settings.evaluations) for k in range(settings.evaluations)}
    result = Trained(best={}, history=[])
    best_values = dict.fromkeys(selections, -math.inf)
    sums = torch.zeros(5, dtype=torch.float64, device=accelerator.device)  # since the last evaluation
    done = 0

    accelerator.wait_for_everyone()  # the main process has locked the folder: the state stays
    state = load_checkpoint(checkpoint)
    if state is not None:
        network.load_state_dict(state["network"])
        evaluated.load_state_dict(state["evaluated"])
        sums.copy_(state["sums"])
        result, best_values, done = Trained(**state["result"]), state["best_values"], state["done"]

    network.train()
    last_saved = time.monotonic()
    start = 0  # of the phase
    with progress(description, steps, "steps", done) as advance:
        for phase in phases:
            objective = phase.objective.to(accelerator.device)
            optimizer = _new_optimizer(network, settings)
            if state is not None and start < done <= start + phase.steps:
                objective.load_state_dict(state["objective"])
                optimizer.load_state_dict(state["optimizer"])
            for step in range(max(start, done), start + phase.steps):
                batch = _batch(phase.training, phase.sampler(step - start), settings, step, accelerator)
                rate = learning_rate(settings.optimizer, step - start, phase.steps)
                # Reduced at every step, so that the main process's state is that of all.
                sums += _descend(network, objective, optimizer, rate, batch, accelerator)
                if evaluated is not network:
                    average_in(evaluated, network, memory_of(settings.average, step - start, phase.steps))
                advance(1)
                is_evaluated = step + 1 in evaluate_after
                if is_evaluated:
                    last_evaluation = result.history[-1]["step"] if result.history else 0
                    mean_loss = float(sums[0]) / (step + 1 - last_evaluation)
                    separation = _separation(sums)
                    sums.zero_()
                    scores = predict(evaluated, validation.read, len(validation), accelerator)
                    _refuse_divergence(description, mean_loss, scores, step)
                    values = {name: float(select(scores, validation)) for name, select in selections.items()}
                    for name, value in values.items():
                        if value > best_values[name]:
                            best_values[name] = value
                            result.best[name] = copy_of_weights(evaluated)
                    q = {f"q_{g}": float(v) for g, v in enumerate(getattr(objective, "q", []))}
                    seen = {"step": step + 1, "loss": mean_loss, "separation": separation}
                    result.history.append({**seen, **values, **q})
                is_due = is_evaluated or time.monotonic() - last_saved > checkpoint_seconds
                if is_due and accelerator.is_main_process:
                    save_checkpoint(
                        checkpoint,
                        {
                            "done": step + 1,
                            "network": network.state_dict(),
                            "evaluated": evaluated.state_dict(),
                            "objective": objective.state_dict(),
                            "optimizer": optimizer.state_dict(),
                            "sums": sums,
                            "result": vars(result),
                            "best_values": best_values,
                        },
                    )
                    last_saved = time.monotonic()
            start += phase.steps
    return result


def memory_of(average: float, step: int, steps: int) -> float:
    """The share of the average of the weights that a step, 0 to steps - 1 of a phase, leaves of the last one.

    It halves what a step counts for after `average` of the phase's steps. Early in a phase it is less, so
    that the first weights, which are random, are soon forgotten: all of it at step 0.
    """
    return min(0.5 ** (1 / (average * steps)), step / (step + 10))


@torch.no_grad()
def average_in(average: nn.Module, network: nn.Module, memory: float) -> None:
    """Move the weights of `average` towards the network's, in place: `memory` of them stays.

    Buffers, which count what was seen, are copied.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - memory)
    for copied, buffer in zip(average.buffers(), network.buffers(), strict=True):
        copied.copy_(buffer)


def _new_optimizer(network: nn.Module, settings: Training) -> torch.optim.Optimizer:
    rate = settings.optimizer.learning_rate
    if settings.optimizer.name == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=settings.weight_decay
        )
    adam = torch.optim.AdamW if settings.optimizer.name == "adamw" else torch.optim.Adam
    return adam(network.parameters(), lr=rate, weight_decay=settings.weight_decay)


def _descend(
    network: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    rate: float,
    batch: Batch,
    accelerator: Accelerator,
) -> Tensor:
    """One step on a batch; of all processes, before it: the loss, and the sum of the scores and the number of
    the positives, then of the negatives, [5]."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with accelerator.autocast():
        logits = network(batch.images)
    loss = objective(logits.float(), batch)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    reduce_gradients(network, accelerator, "sum")
    optimizer.step()
    scores, positive = torch.sigmoid(logits.detach().double()), batch.targets.double()
    sums = [loss.detach().double()]
    for members in (positive, 1 - positive):
        sums += [(scores * members).sum(), members.sum()]
    total: Tensor = accelerator.reduce(torch.stack(sums), "sum")
    return total


def _batch(
    data: LabelledImages, positions: IntArray, settings: Training, step: int, accelerator: Accelerator
) -> Batch:
    """This process's part of the batch at `positions`, mirrored and moved at random, on the device."""
    mirrored = generator_for(settings.seed, "flip", step).random(len(positions)) < 0.5
    moves = generator_for(settings.seed, "shift", step).uniform(-1, 1, (len(positions), 2))
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    positions, mirrored, moves = positions[mine], mirrored[mine], moves[mine]
    pixels = data.read(positions)
    if settings.flip:
        pixels[mirrored] = pixels[mirrored, :, ::-1]
    if settings.shift:
        pixels = shifted(pixels, np.rint(moves * settings.shift * pixels.shape[1]).astype(np.int64))
    return Batch(
        images=images_to_tensor(pixels, accelerator.device),
        targets=torch.from_numpy(data.targets[positions]).to(accelerator.device),
        groups=torch.from_numpy(data.groups[positions]).to(accelerator.device),
    )


def _separation(sums: Tensor) -> float:
    """What `Trained` calls so, of what `_descend` has summed up."""
    _, positive, positives, negative, negatives = sums.tolist()
    return positive / positives - negative / negatives if positives and negatives else 0.0


def shifted(pixels: NDArray[np.uint8], moves: IntArray) -> NDArray[np.uint8]:
    """Images [n, H, W, C], each moved down and to the right by `moves` [n, 2] pixels: edges are repeated."""
    height, width = pixels.shape[1:3]
    rows = np.clip(np.arange(height) - moves[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - moves[:, 1:], 0, width - 1)
    return pixels[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]


def copy_of_weights(network: nn.Module) -> dict[str, Tensor]:
    """The network's state_dict as it is now, on the CPU."""
    return {name: copy.deepcopy(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}


def _refuse_divergence(description: str, loss: float, scores: NDArray[np.float64], step: int) -> None:
    if not (math.isfinite(loss) and np.isfinite(scores).all()):
        raise UserError(
            f"{description}: the loss is not finite at step {step + 1}: lower optimizer.learning_rate."
        )
