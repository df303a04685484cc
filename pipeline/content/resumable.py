"""One loop for all trainings: step by step, with progress, and a state on disk from which a kill is survived.

What is trained, and how, is the training's own affair (`Resumable`); classifiers, the GAN and the encoder of
the inversion are three of them.
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
    """Where a training runs and where its state is kept.

    Attributes:
        name: the training's in progress and errors, such as "train original erm 0".
        accelerator: the device, the precision and the processes.
        checkpoint: the file of the state, which the main process writes.
        checkpoint_seconds: how often the state is saved, at least.
    """

    name: str
    accelerator: Accelerator
    checkpoint: Path
    checkpoint_seconds: float

    def total(self, tensor: Tensor) -> Tensor:
        """Give the sum of a tensor over the processes."""
        total: Tensor = self.accelerator.reduce(tensor, "sum")
        return total


@dataclass(frozen=True)
class StepDone:
    """What a step tells the loop.

    Attributes:
        saves: whether the state is to be saved at once.
        note: what progress shows, such as "32 px".
    """

    saves: bool = False
    note: str = ""


class Resumable(Protocol):
    """A training that `run_steps` can run: its steps depend on its state and on their number alone."""

    def step(self, number: int) -> StepDone:
        """Take the step of a number, counted from 0."""
        ...

    def check(self, number: int) -> None:
        """Raise `UserError` where the training has diverged by this step: its state is not to be saved."""
        ...

    def state(self) -> dict[str, Any]:
        """Give everything that the next step depends on: tensors and plain values."""
        ...

    def load_state(self, state: dict[str, Any], done: int) -> None:
        """Take up the state that `state` gave after `done` steps, at least one."""
        ...


def run_steps(session: Session, training: Resumable, steps: int) -> None:
    """Run a training from step 0 to steps - 1, or what an interrupted run has left of it.

    The state is saved after the last step, after each step that asks for it, and every `checkpoint_seconds`.

    Raises:
        UserError: the training has diverged, or the saved state is damaged.
    """
    session.accelerator.wait_for_everyone()  # the main process has locked the folder: the state stays
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
    """Raise `UserError` where a loss, or what follows from one, is not finite.

    Args:
        name: the training's.
        number: of the step, from 0.
        losses: the figures to look at.
        remedy: what to do, such as "lower optimizer.learning_rate".
        note: where in its schedule the step is, such as "32 px".
    """
    if not all(math.isfinite(loss) for loss in losses):
        place = f" ({note})" if note else ""
        raise UserError(f"{name}: the loss is not finite at step {number + 1}{place}: {remedy}.")


def cosine(step: int, steps: int) -> float:
    """Give the factor of the learning rate at a step, 0 to steps - 1: from 1 down to nearly 0."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))
