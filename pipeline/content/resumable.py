"""Runs any training step by step, with progress and a state on disk, so that it goes on after a kill.

A class that implements `Resumable` says what is trained and how: classifiers, the GAN and the encoder of the
inversion are three such classes.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import Tensor

from pipeline.content.checkpoints import load_checkpoint, save_checkpoint
from pipeline.errors import UserError
from pipeline.progress import progress


@dataclass(frozen=True)
class Session:
    """Says where a training runs and where its state is kept.

    Attributes:
        name: the training's name in progress and errors, such as "train original erm 0".
        accelerator: the device, the precision and the processes.
        checkpoint: the file of the state, which the main process writes.
        checkpoint_seconds: the longest time between two saved states, in seconds.
    """

    name: str
    accelerator: Accelerator
    checkpoint: Path
    checkpoint_seconds: float

    def total(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes."""
        total: Tensor = self.accelerator.reduce(tensor, "sum")
        return total


@dataclass(frozen=True)
class StepDone:
    """Reports a finished step to the loop.

    Attributes:
        saves: whether the state is to be saved at once.
        note: a text for the progress, such as "32 px".
    """

    saves: bool = False
    note: str = ""


class Resumable(Protocol):
    """A training that `run_steps` can run: a step depends only on the training's state and its own number."""

    def step(self, number: int) -> StepDone:
        """Take the step with this number, counted from 0."""
        ...

    def check(self, number: int) -> None:
        """Raise `UserError` if the training has diverged by this step: its state must not be saved."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as tensors and plain values."""
        ...

    def load_state(self, state: dict[str, Any], done: int) -> None:
        """Restore the state that `state` returned after `done` steps, at least one."""
        ...


def run_steps(session: Session, training: Resumable, steps: int) -> None:
    """Run a training from step 0 to steps - 1, or the steps that an interrupted run has left.

    The state is saved after the last step, after each step that asks for it, and every `checkpoint_seconds`.
    A `UserError` ends the run if the training has diverged (`Resumable.check`) or if the saved state is
    damaged (`load_checkpoint`).

    Args:
        session: where the training runs and where its state is kept.
        training: what is trained.
        steps: how many steps the whole training has.
    """
    session.accelerator.wait_for_everyone()  # the main process has locked the folder: its state stays
    state, done = load_checkpoint(session.checkpoint), 0
    if state is not None:
        done = state["done"]
        training.load_state(state, done)
    last_saved = time.monotonic()
    with progress(session.name, steps, "steps", done) as advance:
        for number in range(done, steps):
            result = training.step(number)
            asked = result.saves or number + 1 == steps
            is_due = asked or time.monotonic() - last_saved > session.checkpoint_seconds
            if is_due and session.accelerator.is_main_process:
                training.check(number)
                save_checkpoint(session.checkpoint, {**training.state(), "done": number + 1})
                last_saved = time.monotonic()
            advance(1, result.note)


def refuse_divergence(name: str, number: int, losses: Iterable[float], remedy: str, note: str = "") -> None:
    """Refuse to go on if a loss, or a figure that follows from one, is not finite.

    Args:
        name: the training's name.
        number: the step's number, from 0.
        losses: the figures to look at.
        remedy: what to do, such as "lower optimizer.learning_rate".
        note: where in its schedule the step is, such as "32 px".

    Raises:
        UserError: a figure is not finite.
    """
    if not all(math.isfinite(loss) for loss in losses):
        place = f" ({note})" if note else ""
        raise UserError(f"{name}: the loss is not finite at step {number + 1}{place}: {remedy}.")


def cosine(step: int, steps: int) -> float:
    """Return the factor of the learning rate at a step, 0 to steps - 1: from 1 down to nearly 0."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))
