"""GAN training: the schedule by hand, averages by hand, and a killed training that resumes exactly."""

import copy
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from generators.networks.progressive import upsample
from generators.training import loop as gan_training
from generators.training.loop import GANTraining, sampling_weights
from generators.training.parameters import DiffAugment, TrainGAN
from generators.training.schedule import Step, schedule, shrink
from pipeline.content.checkpoints import load_checkpoint
from pipeline.content.resumable import Session
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.support import ForkedPython

CPU = torch.device("cpu")
FP32 = Runtime(device="cpu", precision="fp32")
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tiny(**changes) -> TrainGAN:
    """Return parameters of 8 px in 8 steps, in which everything that has a state occurs."""
    values = {
        "resolution": 8,
        "latent_dim": 4,
        "mapping_layers": 1,
        "channels": {4: 4, 8: 4},
        "batch_size": {4: 8, 8: 8},
        "steps": {4: 3, 8: 5},
        "fade_in": 0.5,
        "penalty_interval": 2,
        "learning_rate": 1.5e-3,
        "group_balance": 0.0,
        "flip": False,
    }
    return TrainGAN.model_validate(values | changes)


def one_group(images: np.ndarray) -> np.ndarray:
    return np.zeros(len(images), np.int64)


def new_training(parameters: TrainGAN, images: np.ndarray = IMAGES) -> GANTraining:
    return GANTraining(
        parameters, lambda positions: images[positions], one_group(images), new_accelerator(FP32)
    )


def train(training: GANTraining, checkpoint: Path, on_resolution, records=200, checkpoint_seconds=1e-9):
    """Run a training, with a checkpoint after every step."""
    session = Session("train_gan", training.accelerator, checkpoint, checkpoint_seconds)
    return gan_training.train_gan(session, training, on_resolution, records)


def tensors_of(state: object, place: str = "") -> dict[str, torch.Tensor]:
    """Collect all tensors in nested dicts and lists, by their place."""
    if isinstance(state, torch.Tensor):
        return {place: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {
        name: tensor for key, value in items for name, tensor in tensors_of(value, f"{place}/{key}").items()
    }


def assert_same_state(first: GANTraining, second: GANTraining) -> None:
    """Compare weights, averages and optimisers bit by bit, and the history of the losses."""
    one, other = tensors_of(first.state()), tensors_of(second.state())
    assert one.keys() == other.keys()
    assert sum("optimizer" in name and "exp_avg_sq" in name for name in one) > 10
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert first.losses == second.losses


# The schedule


def test_the_schedule_by_hand():
    """Half-lives: half of the images seen at the resolution, at most 8; decay 0.5^(batch / half-life)."""
    steps = schedule(
        tiny(steps={4: 2, 8: 4}, batch_size={4: 8, 8: 4}, fade_in=0.5, ema_share=0.5, ema_images=8)
    )
    assert [step.number for step in steps] == [0, 1, 2, 3, 4, 5]
    assert [step.resolution for step in steps] == [4, 4, 8, 8, 8, 8]
    assert [step.batch_size for step in steps] == [8, 8, 4, 4, 4, 4]
    assert [step.alpha for step in steps] == [1, 1, 0.5, 1, 1, 1]
    half_lives = [4, 8, 2, 4, 6, 8]
    decays = [0.5 ** (8 / 4), 0.5 ** (8 / 8), *(0.5 ** (4 / h) for h in half_lives[2:])]
    assert [step.ema_decay for step in steps] == pytest.approx(decays)
    assert decays == pytest.approx([0.25, 0.5, 0.25, 0.5, 0.62996, 0.70711], abs=1e-5)


def test_the_half_life_is_capped():
    steps = schedule(tiny(steps={4: 50, 8: 50}, ema_share=0.5, ema_images=16))
    assert steps[-1].ema_decay == pytest.approx(0.5 ** (8 / 16))


def test_the_fade_in_rises_evenly_to_one():
    alphas = [step.alpha for step in schedule(tiny(steps={4: 2, 8: 10}, fade_in=0.4)) if step.resolution == 8]
    assert alphas == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])
    without = schedule(tiny(fade_in=0))
    assert {step.alpha for step in without} == {1.0}


def test_fixed_resolution_is_that_resolution_alone_without_fading():
    steps = schedule(tiny(growing=False, steps={8: 6}, batch_size={8: 8}))
    assert [(step.number, step.resolution, step.alpha) for step in steps] == [(k, 8, 1.0) for k in range(6)]


# Real images


def test_real_images_are_shrunk_by_the_mean():
    images = torch.arange(2 * 3 * 64, dtype=torch.float32).reshape(2, 3, 8, 8)
    means = images.reshape(2, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(shrink(images, 4, 1.0), means)
    torch.testing.assert_close(shrink(images, 8, 1.0), images)


def test_real_images_fade_in_as_the_generator_does():
    images = torch.randn(2, 3, 8, 8)
    expected = 0.7 * upsample(shrink(images, 4, 1.0)) + 0.3 * images
    torch.testing.assert_close(shrink(images, 8, 0.3), expected)


def test_half_of_the_real_images_are_mirrored_and_each_comes_from_the_data():
    steps = [Step(number=k, resolution=8, alpha=1.0, batch_size=8, ema_decay=0.5) for k in range(30)]
    originals = images_to_tensor(IMAGES, CPU)
    both = torch.cat([originals, originals.flip(3)]).flatten(1)

    def places(flip: bool) -> list[int]:
        training = new_training(tiny(flip=flip))
        images = torch.cat([training._real_images(step) for step in steps]).flatten(1)
        found = (images[:, None] == both[None]).all(dim=2)
        assert found.any(dim=1).all()
        return found.int().argmax(dim=1).tolist()

    share = np.mean([place >= len(IMAGES) for place in places(True)])
    assert 0.4 < share < 0.6
    unmirrored = places(False)
    assert max(unmirrored) < len(IMAGES)
    assert len(set(unmirrored)) == len(IMAGES)


# One step


def test_the_average_by_hand_for_two_steps():
    training = new_training(tiny())
    steps = schedule(tiny(ema_share=0.3))[:2]
    assert 0 < steps[0].ema_decay < steps[1].ema_decay < 1
    expected = copy.deepcopy(training.generator.state_dict())
    for step in steps:
        before = copy.deepcopy(training.generator.state_dict())
        training.step(step)
        after = training.generator.state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in after)
        expected = {
            name: step.ema_decay * value + (1 - step.ema_decay) * after[name]
            for name, value in expected.items()
        }
    for name, value in training.averaged.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "wgan_gp", "gradient_penalty": 10.0, "penalty_interval": 1},
        {"loss": "non_saturating"},
        {"loss": "relativistic", "r2": True},
        {"loss": "non_saturating", "augment": DiffAugment(translation=0.25, cutout=0.5, color=True)},
        {"loss": "relativistic", "growing": False, "steps": {8: 4}, "batch_size": {8: 8}},
    ],
    ids=["wgan_gp", "non_saturating", "relativistic_r2", "diffaugment", "fixed_resolution"],
)
def test_each_loss_runs_and_changes_all_weights_that_take_part(changes, tmp_path):
    training = new_training(tiny(**changes))
    before = copy.deepcopy(training.state())
    averaged = train(training, tmp_path / "state.pt", lambda resolution: None)
    idle = {"logit.bias"}  # a relativistic loss sees differences of logits only
    if changes.get("growing") is False:
        idle |= {"to_rgb.0.weight", "to_rgb.0.bias", "from_rgb.0.weight", "from_rgb.0.bias"}
    for name in ("generator", "discriminator", "averaged"):
        for key, value in getattr(training, name).state_dict().items():
            assert torch.isfinite(value).all()
            assert not torch.equal(value, before[name][key]) or key in idle, f"{name}.{key}"
    assert averaged is training.averaged
    assert all(np.isfinite(list(record.values())).all() for record in training.losses.records)


def test_the_lazy_penalty_is_taken_every_nth_step_and_weighted_by_n():
    eager, lazy = (new_training(tiny(penalty_interval=n)) for n in (1, 4))
    real, fake = torch.randn(8, 3, 8, 8), torch.randn(8, 3, 8, 8)

    def penalty(training: GANTraining, number: int) -> float:
        step = Step(number=number, resolution=8, alpha=1.0, batch_size=8, ema_decay=0.5)
        return training._penalty(real, fake, step, torch.Generator()).item()

    assert penalty(eager, 0) > 0
    assert [penalty(lazy, k) for k in (1, 2, 3, 5)] == [0, 0, 0, 0]
    assert penalty(lazy, 0) == pytest.approx(4 * penalty(eager, 0))
    assert penalty(lazy, 4) == pytest.approx(4 * penalty(eager, 4))


def test_r2_adds_the_penalty_at_generated_images():
    real, fake = torch.randn(8, 3, 8, 8), torch.randn(8, 3, 8, 8)
    step = Step(number=0, resolution=8, alpha=1.0, batch_size=8, ema_decay=0.5)
    only_r1, both = (new_training(tiny(r2=r2)) for r2 in (False, True))
    at_real, at_fake = (only_r1._penalty(x, x, step, torch.Generator()).item() for x in (real, fake))
    assert both._penalty(real, fake, step, torch.Generator()).item() == pytest.approx(at_real + at_fake)


def test_steps_depend_on_the_seed():
    first, again, other = (new_training(tiny(seed=seed)) for seed in (0, 0, 1))
    for training in (first, again, other):
        training.step(schedule(training.parameters)[0])
    assert_same_state(first, again)
    assert not torch.equal(first.generator.first.weight, other.generator.first.weight)


@pytest.mark.slow
def test_the_averaged_generator_comes_to_make_what_it_is_shown():
    """On images of one colour: its images come nearer to that colour."""
    bright = np.full((16, 8, 8, 3), 230, np.uint8)
    parameters = tiny(resolution=4, mapping_layers=0, steps={4: 100}, learning_rate=1e-2)
    training = new_training(parameters, bright)
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    target = 230 / 127.5 - 1

    def distance() -> float:
        with torch.no_grad():
            return (training.averaged(z) - target).abs().mean().item()

    before = distance()
    for step in schedule(parameters):
        training.step(step)
    assert distance() < 0.5 * before


# The whole training


def test_every_resolution_is_announced_when_it_is_finished(tmp_path):
    parameters = tiny()
    training = new_training(parameters)
    seen = []
    train(
        training,
        tmp_path / "state.pt",
        lambda resolution: seen.append((resolution, len(training.losses.records))),
    )
    assert seen == [(4, 3), (8, 8)]
    assert [record["step"] for record in training.losses.records] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [record["resolution"] for record in training.losses.records] == [4] * 3 + [8] * 5


def test_records_are_means_over_the_steps_between_them(tmp_path):
    fine, coarse = (new_training(tiny()) for _ in range(2))
    train(fine, tmp_path / "fine.pt", lambda resolution: None)
    train(coarse, tmp_path / "coarse.pt", lambda resolution: None, records=2)
    assert [record["step"] for record in coarse.losses.records] == [4, 8]
    for name in ("generator", "discriminator"):
        values = [record[name] for record in fine.losses.records]
        means = [np.mean(values[:4]), np.mean(values[4:])]
        assert [record[name] for record in coarse.losses.records] == pytest.approx(means)


class Killed(Exception):
    """Stands for anything that ends a training from outside."""


def interrupt_after(training: GANTraining, steps: int) -> None:
    """Make the training fail in the step after `steps` more steps."""
    original, left = training.step, iter(range(steps))

    def step(step: Step) -> None:
        if next(left, None) is None:
            raise Killed
        original(step)

    training.step = step


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> GANTraining:
    training = new_training(tiny())
    train(training, tmp_path_factory.mktemp("undisturbed") / "state.pt", lambda resolution: None, records=3)
    return training


@pytest.mark.parametrize("stops", [(1,), (3,), (7,), (2, 3, 1)])
def test_an_interrupted_training_resumes_to_the_same_bits(stops, undisturbed, tmp_path):
    """It does so, too, in the middle of a record of the losses (every 2 steps) and of the fade-in."""
    checkpoint = tmp_path / "state.pt"
    for steps in stops:
        training = new_training(tiny())
        interrupt_after(training, steps)
        with pytest.raises(Killed):
            train(training, checkpoint, lambda resolution: None, records=3)
    resumed, seen = new_training(tiny()), []
    train(resumed, checkpoint, seen.append, records=3)
    assert_same_state(resumed, undisturbed)
    assert seen == ([4, 8] if sum(stops) < 3 else [8])


def test_a_finished_training_is_not_run_again(undisturbed, tmp_path):
    checkpoint = tmp_path / "state.pt"
    train(new_training(tiny()), checkpoint, lambda resolution: None, records=3)
    again = new_training(tiny())
    interrupt_after(again, 0)
    train(again, checkpoint, lambda resolution: None, records=3)
    assert_same_state(again, undisturbed)


def test_between_checkpoints_only_the_steps_since_the_last_one_are_lost(undisturbed, tmp_path, monkeypatch):
    """The clock advances by 1 s per call, with a checkpoint every 2.5 s: after the third of five steps."""
    clock = iter(range(1000))
    monkeypatch.setattr("pipeline.content.resumable.time", SimpleNamespace(monotonic=lambda: next(clock)))
    training = new_training(tiny())
    interrupt_after(training, 5)
    with pytest.raises(Killed):
        train(training, tmp_path / "state.pt", lambda resolution: None, checkpoint_seconds=2.5, records=3)
    assert load_checkpoint(tmp_path / "state.pt")["done"] == 3
    resumed = new_training(tiny())
    train(resumed, tmp_path / "state.pt", lambda resolution: None, records=3)
    assert_same_state(resumed, undisturbed)


# Real kills. Steps take time here, so that the kill comes in the middle of a training.

KILLS = 3
TRAINING_PROCESS = """
import importlib.util, sys
import torch
torch.set_num_threads({threads})
spec = importlib.util.spec_from_file_location("training_process", {module!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
tests.train_slowly({folder!r})
"""


def long() -> TrainGAN:
    """Return parameters of 40 steps, with the 8 px faded in over 10 of them."""
    return tiny(steps={4: 20, 8: 20}, fade_in=0.5)


def train_slowly(folder: str) -> None:
    def read(positions: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return IMAGES[positions]

    training = GANTraining(long(), read, one_group(IMAGES), new_accelerator(FP32))
    train(training, Path(folder, "state.pt"), lambda resolution: None, records=7)


@pytest.mark.slow
def test_a_training_that_was_really_killed_resumes_to_the_same_bits(tmp_path):
    whole = new_training(long())
    train(whole, tmp_path / "whole.pt", lambda resolution: None, records=7)

    folder = tmp_path / "killed"
    script = TRAINING_PROCESS.format(threads=torch.get_num_threads(), module=__file__, folder=str(folder))
    done = 0
    for _ in range(KILLS):
        process = ForkedPython("-c", script)
        while process.poll() is None and done_in(folder) < done + 4:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        done = done_in(folder)
    resumed = new_training(long())
    train(resumed, folder / "state.pt", lambda resolution: None, records=7)
    assert_same_state(resumed, whole)
    assert len(list(folder.glob("*.tmp"))) <= KILLS  # what a kill interrupted; `work_folder` removes it


def done_in(folder: Path) -> int:
    state = load_checkpoint(folder / "state.pt")
    return state["done"] if state else 0


# What goes wrong


def test_a_diverging_training_is_ended_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"loss is not finite at step \d+ \([48] px\).*learning_rate"):
        train(new_training(tiny(learning_rate=1e30)), tmp_path / "state.pt", lambda resolution: None)


@pytest.mark.parametrize(("checkpoint_seconds", "ends_at"), [(3600.0, 6), (1e-9, 5)])
def test_a_loss_that_is_not_a_number_ends_the_training(checkpoint_seconds, ends_at, tmp_path):
    """It ends at its record, here every two steps, or before a state with that loss would be saved."""
    training = new_training(tiny())
    original = training.step

    def step(step: Step) -> None:
        original(step)
        if step.number == 4:
            with torch.no_grad():
                training.losses.add(discriminator=torch.tensor(float("nan")))

    training.step = step
    with pytest.raises(UserError, match=rf"step {ends_at} \(8 px\)"):
        train(training, tmp_path / "state.pt", lambda resolution: None, 4, checkpoint_seconds)
    kept = load_checkpoint(tmp_path / "state.pt")
    assert (kept and kept["done"]) == (None if checkpoint_seconds > 1 else 4)


@pytest.mark.parametrize(("batch_size", "processes"), [({4: 8, 8: 9}, 2), ({4: 8, 8: 2}, 4)])
def test_a_batch_that_processes_cannot_share_is_refused(batch_size, processes):
    several = SimpleNamespace(num_processes=processes, process_index=0, device=CPU)
    with pytest.raises(
        UserError,
        match=rf"batch_size is {batch_size[8]} at 8 px, which {processes} processes cannot share evenly",
    ):
        GANTraining(
            tiny(batch_size=batch_size), lambda positions: IMAGES[positions], one_group(IMAGES), several
        )


def test_weights_of_groups_by_hand():
    """Groups of 4 and 1: shares 4 : 1 as they come, 2 : 1 with the square root, 1 : 1 balanced."""
    groups = np.array([0, 0, 2, 0, 0])
    for power, of_four, of_one in ((0.0, 1.0, 1.0), (0.5, 0.5, 1.0), (1.0, 0.25, 1.0)):
        expected = [of_four, of_four, of_one, of_four, of_four]
        np.testing.assert_allclose(sampling_weights(groups, power), expected)


@pytest.mark.parametrize("power, share", [(0.0, 0.1), (1.0, 0.5)])
def test_a_rare_group_is_seen_as_often_as_asked(power, share):
    groups = (np.arange(40) < 4).astype(np.int64)  # 4 of 40
    seen: list[np.ndarray] = []

    def read(positions: np.ndarray) -> np.ndarray:
        seen.append(positions)
        return IMAGES[positions]

    parameters = tiny(group_balance=power, batch_size={4: 500, 8: 8})
    training = GANTraining(parameters, read, groups, new_accelerator(FP32))
    for step in schedule(parameters)[:3]:
        training._real_images(step)
    drawn = np.concatenate(seen)
    assert len(drawn) == 1500
    assert np.mean(groups[drawn]) == pytest.approx(share, abs=0.04)  # three standard deviations
    assert len(np.unique(drawn)) == 40
