"""The loop of all trainings, tested with a training whose results are worked out by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.content.checkpoints import load_checkpoint
from pipeline.content.resumable import Session, StepDone, cosine, refuse_divergence, run_steps
from pipeline.errors import UserError


class Killed(Exception):
    """Stands for anything that ends a training from outside."""


class Doubling:
    """In step k, doubles the value and adds k; a step in `saves` asks for a save."""

    def __init__(self, saves: tuple[int, ...] = (), killed_in: int = 99, diverged_in: int = 99) -> None:
        self.value, self.taken = 0, []
        self.saves, self.killed_in, self.diverged_in = saves, killed_in, diverged_in

    def step(self, number: int) -> StepDone:
        if number == self.killed_in:
            raise Killed
        self.value = 2 * self.value + number
        self.taken.append(number)
        return StepDone(saves=number in self.saves, note=f"value {self.value}")

    def check(self, number: int) -> None:
        refuse_divergence("doubling", number, [math.nan if number >= self.diverged_in else 0.0], "stop")

    def state(self) -> dict[str, Any]:
        return {"value": torch.tensor(self.value)}

    def load_state(self, state: dict[str, Any], done: int) -> None:
        self.value, self.loaded = int(state["value"]), done


def session(folder: Path, checkpoint_seconds: float = 3600.0, is_main: bool = True) -> Session:
    alone = SimpleNamespace(wait_for_everyone=lambda: None, is_main_process=is_main)
    return Session("doubling", alone, folder / "state.pt", checkpoint_seconds)


def test_a_training_takes_its_steps_in_order_and_saves_the_last(tmp_path):
    training = Doubling()
    run_steps(session(tmp_path), training, 5)
    assert training.taken == [0, 1, 2, 3, 4]
    assert training.value == 26  # 0, 1, 4, 11, 26
    assert load_checkpoint(tmp_path / "state.pt") == {"value": torch.tensor(26), "done": 5}


@pytest.mark.parametrize(
    ("saves", "checkpoint_seconds", "kept"), [((), 3600.0, 0), ((1,), 3600.0, 2), ((1,), 1e-9, 3)]
)
def test_a_killed_training_goes_on_from_its_last_state(saves, checkpoint_seconds, kept, tmp_path):
    """It is killed in step 3: no state is kept, or that after step 1, which asked for it, or step 2."""
    with pytest.raises(Killed):
        run_steps(session(tmp_path, checkpoint_seconds), Doubling(saves, killed_in=3), 5)
    resumed = Doubling()
    run_steps(session(tmp_path), resumed, 5)
    assert resumed.taken == list(range(kept, 5))
    assert resumed.value == 26
    assert getattr(resumed, "loaded", 0) == kept


def test_a_finished_training_takes_no_step(tmp_path):
    run_steps(session(tmp_path), Doubling(), 5)
    again = Doubling()
    run_steps(session(tmp_path), again, 5)
    assert (again.taken, again.value, again.loaded) == ([], 26, 5)


def test_between_saves_the_clock_decides(tmp_path, monkeypatch):
    """The clock advances by one second per call; with a save every 2.5 s, the third of five steps saves."""
    clock = iter(range(1000))
    monkeypatch.setattr("pipeline.content.resumable.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(Killed):
        run_steps(session(tmp_path, 2.5), Doubling(killed_in=5), 9)
    assert load_checkpoint(tmp_path / "state.pt")["done"] == 3


def test_only_the_main_process_saves(tmp_path):
    run_steps(session(tmp_path, is_main=False), Doubling(saves=(0, 1)), 3)
    assert not (tmp_path / "state.pt").exists()


def test_a_state_that_has_diverged_is_not_saved(tmp_path):
    with pytest.raises(UserError) as raised:
        run_steps(session(tmp_path), Doubling(saves=(1, 3), diverged_in=2), 5)
    assert str(raised.value) == "doubling: the loss is not finite at step 4: stop."
    assert load_checkpoint(tmp_path / "state.pt")["done"] == 2


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_refused_with_its_place_in_the_schedule(loss):
    refuse_divergence("gan", 3, [0.0, 1e300], "lower it")
    with pytest.raises(UserError) as raised:
        refuse_divergence("gan", 3, [0.0, loss], "lower it", "8 px")
    assert str(raised.value) == "gan: the loss is not finite at step 4 (8 px): lower it."


def test_the_cosine_by_hand():
    assert [cosine(step, 12) for step in (0, 4, 6, 8)] == pytest.approx([1, 0.75, 0.5, 0.25])  # cos 60° = 1/2
