"""One training loop for every classifier: attributes and recipes, CPU, GPU, or several processes.

Batches depend on (seed, step number) only, and a checkpoint holds all that the next step depends on.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from classifiers.objectives import Batch
from pipeline.batches import evened, in_batches
from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.errors import UserError
from pipeline.parameters import Optimizer, Training
from pipeline.progress import progress
from pipeline.runtime import images_to_tensor, reduce_gradients
from pipeline.seeds import generator_for

MOMENTUM = 0.9
EVALUATION_BATCH = 512  # images
N_GROUPS = 4  # of a binary target and a binary protected attribute

IntArray = NDArray[np.int64]
Selection = Callable[[NDArray[np.float64], "LabelledImages"], float]


@dataclass(frozen=True)
class LabelledImages:
    """Images that are read as they are needed, and their labels.

    Attributes:
        ids: [N] strings.
        read: positions [n] to uint8 [n, H, W, 3].
        targets: what is to be predicted, [N] in {0, 1}.
        groups: 2 t + g of the data set's target t and protected attribute g, [N].
    """

    ids: NDArray[np.object_]
    read: Callable[[IntArray], NDArray[np.uint8]]
    targets: IntArray
    groups: IntArray

    def group_counts(self) -> list[int]:
        counts: list[int] = np.bincount(self.groups, minlength=N_GROUPS).tolist()
        return counts

    def __len__(self) -> int:
        return len(self.targets)


class UniformSampler:
    """Every image once per epoch, in an order from (seed, epoch)."""

    def __init__(self, groups: IntArray, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = len(groups), batch_size, seed
        self._order = lru_cache(maxsize=2)(self._new_order)

    def __call__(self, step: int) -> IntArray:
        """The positions of the batch of a step: [batch_size]."""
        start = step * self.batch_size
        wanted = np.arange(start, start + self.batch_size)
        return np.array([self._order(k // self.count)[k % self.count] for k in wanted.tolist()])

    def _new_order(self, epoch: int) -> IntArray:
        return generator_for(self.seed, "epoch", epoch).permutation(self.count)


class GroupBalancedSampler:
    """Groups with the same probability, and images of a group too: inverse to group frequency."""

    def __init__(self, groups: IntArray, batch_size: int, seed: int) -> None:
        self.members = [members for g in np.unique(groups) if len(members := np.flatnonzero(groups == g))]
        self.batch_size, self.seed = batch_size, seed

    def __call__(self, step: int) -> IntArray:
        """The positions of the batch of a step: [batch_size]."""
        random = generator_for(self.seed, "step", step)
        groups = random.integers(len(self.members), size=self.batch_size)
        within = random.random(self.batch_size)
        return np.array(
            [self.members[g][int(u * len(self.members[g]))] for g, u in zip(groups, within, strict=True)]
        )


SAMPLERS: dict[str, Callable[[IntArray, int, int], Callable[[int], IntArray]]] = {
    "uniform": UniformSampler,
    "group_balanced": GroupBalancedSampler,
}


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """The learning rate of a step of `steps`."""
    if optimizer.schedule == "constant":
        return optimizer.learning_rate
    return optimizer.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def predict(
    network: nn.Module,
    read: Callable[[IntArray], NDArray[np.uint8]],
    count: int,
    accelerator: Accelerator,
    batch_size: int = EVALUATION_BATCH,
    on_batch: Callable[[int], object] = lambda images: None,
) -> NDArray[np.float64]:
    """The network's scores σ(logit) of images 0 to count - 1: [count] in [0, 1].

    A batch that memory does not suffice for is halved.
    """
    scores = np.empty(count, dtype=np.float32)

    def score_batch(start: int, stop: int) -> None:
        images = images_to_tensor(read(np.arange(start, stop)), accelerator.device)
        with accelerator.autocast():
            logits = network(evened(images))[: stop - start]
        scores[start:stop] = torch.sigmoid(logits.float()).cpu().numpy()

    was_training = network.training
    network.eval()
    with torch.inference_mode():
        in_batches(score_batch, count, batch_size, on_batch)
    network.train(was_training)
    return scores.astype(np.float64)


@dataclass
class Trained:
    """What a training gives.

    Attributes:
        best: for each selection, the weights that were best by it on validation.
        history: a record per evaluation: step, loss, every selection's value, and the objective's state.
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
    """Train a network; its state survives a kill in the file `checkpoint`.

    Every process of several computes all scores of validation: their weights are the same.

    Args:
        selections: name -> a figure of (scores, validation) to be high; the weights with the highest one
            are kept for each, the earliest of equals.
        checkpoint: a file for the state, written by the main process after every evaluation, and every
            `checkpoint_seconds`.

    Raises `UserError` where the loss is no longer finite.
    """
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        # torchvision's networks normalise by batch: by all of it, not by this process's part.
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.to(accelerator.device)
    optimizer = _new_optimizer(network, settings)
    sampler = SAMPLERS[settings.sampler](training.groups, settings.batch_size, settings.seed)
    evaluate_after = {
        round(settings.steps * (k + 1) / settings.evaluations) for k in range(settings.evaluations)
    }
    result = Trained(best={}, history=[])
    best_values = dict.fromkeys(selections, -math.inf)
    loss_sum = torch.zeros((), dtype=torch.float64, device=accelerator.device)  # since the last evaluation
    done = 0

    accelerator.wait_for_everyone()  # the main process has locked the folder: the state stays
    state = load_checkpoint(checkpoint)
    if state is not None:
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        loss_sum.copy_(state["loss_sum"])
        result, best_values, done = Trained(**state["result"]), state["best_values"], state["done"]

    network.train()
    last_saved = time.monotonic()
    with progress(description, settings.steps, "steps", done) as advance:
        for step in range(done, settings.steps):
            batch = _batch(training, sampler(step), settings, step, accelerator)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings.optimizer, step, settings.steps)
            with accelerator.autocast():
                logits = network(batch.images)
            loss = objective(logits.float(), batch)
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            reduce_gradients(network, accelerator, "sum")
            optimizer.step()
            # Reduced at every step, so that the main process's state is that of all.
            loss_sum += accelerator.reduce(loss.detach(), "sum")
            advance(1)
            is_evaluated = step + 1 in evaluate_after
            if is_evaluated:
                last_evaluation = result.history[-1]["step"] if result.history else 0
                mean_loss = float(loss_sum) / (step + 1 - last_evaluation)
                loss_sum.zero_()
                scores = predict(network, validation.read, len(validation), accelerator)
                _refuse_divergence(description, mean_loss, scores, step)
                values = {name: float(select(scores, validation)) for name, select in selections.items()}
                for name, value in values.items():
                    if value > best_values[name]:
                        best_values[name] = value
                        result.best[name] = _copy_of_weights(network)
                q = {f"q_{g}": float(v) for g, v in enumerate(getattr(objective, "q", []))}
                result.history.append({"step": step + 1, "loss": mean_loss, **values, **q})
            is_due = is_evaluated or time.monotonic() - last_saved > checkpoint_seconds
            if is_due and accelerator.is_main_process:
                save_checkpoint(
                    checkpoint,
                    {
                        "done": step + 1,
                        "network": network.state_dict(),
                        "objective": objective.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "loss_sum": loss_sum,
                        "result": vars(result),
                        "best_values": best_values,
                    },
                )
                last_saved = time.monotonic()
    return result


def _new_optimizer(network: nn.Module, settings: Training) -> torch.optim.Optimizer:
    rate = settings.optimizer.learning_rate
    if settings.optimizer.name == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=settings.weight_decay
        )
    return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=settings.weight_decay)


def _batch(
    data: LabelledImages, positions: IntArray, settings: Training, step: int, accelerator: Accelerator
) -> Batch:
    """This process's part of the batch at `positions`, mirrored at random, on the device."""
    mirrored = generator_for(settings.seed, "flip", step).random(len(positions)) < 0.5
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    positions, mirrored = positions[mine], mirrored[mine]
    pixels = data.read(positions)
    if settings.flip:
        pixels[mirrored] = pixels[mirrored, :, ::-1]
    return Batch(
        images=images_to_tensor(pixels, accelerator.device),
        targets=torch.from_numpy(data.targets[positions]).to(accelerator.device),
        groups=torch.from_numpy(data.groups[positions]).to(accelerator.device),
    )


def _copy_of_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: copy.deepcopy(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}


def _refuse_divergence(description: str, loss: float, scores: NDArray[np.float64], step: int) -> None:
    if not (math.isfinite(loss) and np.isfinite(scores).all()):
        raise UserError(
            f"{description}: the loss is not finite at step {step + 1}: lower optimizer.learning_rate."
        )
