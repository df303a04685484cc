"""Classifier training: the learning rate, phases, a toy problem solved, exact resumption."""

import math
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from classifiers.networks.backbones import SmallResNet, new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from classifiers.networks.weights import copy_of_weights
from classifiers.training import loop as classifier_training
from classifiers.training.batches import Batch, batch_at, shifted
from classifiers.training.descent import average_in, learning_rate, memory_of
from classifiers.training.loop import Part, Phase, Trained
from classifiers.training.methods.base import LossOfLogits
from classifiers.training.methods.erm import ERM
from classifiers.training.methods.group_dro import GroupDRO
from classifiers.training.parameters import Optimizer, Training
from classifiers.training.samplers import UniformSampler
from pipeline.content.checkpoints import load_checkpoint
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.toys import (
    METHODS,
    SELECTIONS,
    TRAINING,
    VALIDATION,
    Killed,
    accuracy_of,
    assert_same_training,
    assert_same_weights,
    killed_after,
    new_method,
    settings_of,
    train_classifier,
    train_in_phases,
    trained,
)
from tests.support import ForkedPython, run_in_two


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


# The learning rate


def test_the_learning_rate_by_hand():
    cosine = Optimizer(learning_rate=0.2, schedule="cosine", warm_up=0.0)
    rates = [learning_rate(cosine, step, 12) for step in (0, 4, 6, 8, 12)]
    assert rates == pytest.approx([0.2, 0.15, 0.1, 0.05, 0], abs=1e-12)  # cos 60° = 1/2
    constant = Optimizer(learning_rate=0.2, schedule="constant", warm_up=0.0)
    assert {learning_rate(constant, step, 12) for step in range(12)} == {0.2}


def test_the_learning_rate_rises_at_first():
    """Over a third of 12 steps it is 1/4, 2/4, 3/4 and all of the schedule's rate."""
    constant = Optimizer(learning_rate=0.2, schedule="constant", warm_up=1 / 3)
    rates = [learning_rate(constant, step, 12) for step in range(6)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    cosine = Optimizer(learning_rate=0.2, schedule="cosine", warm_up=1 / 3)
    assert learning_rate(cosine, 6, 12) == pytest.approx(0.1)


class OneWeight(torch.nn.Module):
    """A network whose logit is its only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return self.weight.expand(len(images))


class Sum(LossOfLogits):
    """A method with the gradient 1, which records the weight and the images' groups."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.groups = [], []

    def loss(self, logits, batch):
        self.seen.append(logits[0].item())
        self.groups.append(batch.groups.tolist())
        return logits.mean()


def test_the_schedules_rate_is_the_one_that_is_used(accelerator, tmp_path):
    """With plain gradients of a single weight, every step's change is its rate times the gradient."""
    method = Sum()
    settings = settings_of(steps=4, evaluations=1, weight_decay=0.0)
    train_classifier(OneWeight(), method, TRAINING, settings, {}, accelerator, tmp_path / "state.pt")
    # Momentum 0.9: velocities 1, 1.9, 2.71; rates 0.05 (1, 0.853553, 0.5).
    rates = [0.05 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(3)]
    expected = np.cumsum(
        [0, *(-rate * velocity for rate, velocity in zip(rates, (1, 1.9, 2.71), strict=True))]
    )
    assert method.seen == pytest.approx(expected.tolist(), abs=1e-6)


# Phases


def phases_of(first: LabelledImages, second: LabelledImages, methods, steps=(5, 7)) -> list[Phase]:
    parts = [
        Part(images, method, UniformSampler(images.groups, 16, 0))
        for images, method in zip((first, second), methods, strict=True)
    ]
    return [Phase(count, lambda look, part=part: part) for count, part in zip(steps, parts, strict=True)]


def test_a_phase_takes_over_the_weights_and_starts_the_rest_anew(accelerator, tmp_path):
    """Two steps, then two more with the first rate and no velocity; each phase has its own images."""
    ones, zeros = (TRAINING.subset(np.flatnonzero(TRAINING.targets == target)) for target in (1, 0))
    first, second = Sum(), Sum()
    phases = phases_of(ones, zeros, (first, second), steps=(2, 2))
    settings = settings_of(evaluations=2, weight_decay=0.0)
    result = train_in_phases(OneWeight(), phases, settings, {}, accelerator, tmp_path / "state.pt")
    # Rates 0.05 and 0.025 of a cosine over two steps; velocities 1 and 1.9: 0.05, then 0.0475.
    assert first.seen == pytest.approx([0, -0.05], abs=1e-6)
    assert second.seen == pytest.approx([-0.0975, -0.1475], abs=1e-6)
    assert [np.unique(phase.groups).tolist() for phase in (first, second)] == [[2, 3], [0, 1]]
    assert [record["step"] for record in result.history] == [2, 4]
    # The batches of the second phase begin where those of a training of its own would.
    again = Sum()
    train_classifier(OneWeight(), again, zeros, settings_of(steps=2), {}, accelerator, tmp_path / "a.pt")
    assert again.groups == second.groups


# Batches


def test_a_batch_holds_the_images_and_their_labels_mirrored_or_not(accelerator):
    positions = np.arange(64)
    batch = batch_at(TRAINING, positions, settings_of(), 0, 0.0, accelerator)
    originals = images_to_tensor(TRAINING.read(positions), accelerator.device)
    as_is = (batch.images == originals).all(dim=(1, 2, 3))
    mirrored = (batch.images == originals.flip(3)).all(dim=(1, 2, 3))
    assert (as_is ^ mirrored).all()
    assert 15 < mirrored.sum() < 49
    assert batch.targets.tolist() == TRAINING.targets[:64].tolist()
    assert batch.groups.tolist() == TRAINING.groups[:64].tolist()
    unmirrored = batch_at(TRAINING, positions, settings_of(flip=False), 0, 0.0, accelerator)
    assert torch.equal(unmirrored.images, originals)


def part_at(positions: np.ndarray, process: int, settings: Training, step: int = 5) -> Batch:
    """Return the part of a batch of one of two processes."""
    processes = SimpleNamespace(process_index=process, num_processes=2, device=torch.device("cpu"))
    return batch_at(OF_BOTH_SOURCES, positions, settings, step, 0.25, processes)


OF_BOTH_SOURCES = replace(TRAINING, synthetic=np.arange(256) % 3 == 0, known=np.arange(256) % 5 > 0)
OF_IMAGES = ("images", "targets", "groups", "known", "synthetic", "positions", "places")
MOVED = settings_of(shift=0.25)


def test_the_parts_of_two_processes_are_the_batch_of_one(accelerator):
    positions = np.random.default_rng(0).permutation(256)[:33]
    whole = batch_at(OF_BOTH_SOURCES, positions, MOVED, 5, 0.25, accelerator)
    parts = [part_at(positions, process, MOVED) for process in range(2)]
    order = [*range(0, 33, 2), *range(1, 33, 2)]
    for name in OF_IMAGES:
        together, of_one = torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)
        assert torch.equal(together, of_one[order])
    assert whole.places.tolist() == list(range(33))
    assert whole.positions.tolist() == positions.tolist()
    for part in parts:
        assert (part.size, part.progress, part.seed) == (33, 0.25, whole.seed)


def test_a_batch_says_which_labels_are_known_and_which_images_synthetic(accelerator):
    positions = np.array([0, 1, 3, 5, 8, 8])
    batch = batch_at(OF_BOTH_SOURCES, positions, settings_of(), 0, 0.0, accelerator)
    assert batch.synthetic.tolist() == [True, False, True, False, False, False]
    assert batch.known.tolist() == [False, True, True, False, True, True]
    plain = batch_at(TRAINING, positions, settings_of(), 0, 0.0, accelerator)
    assert plain.known.all() and not plain.synthetic.any()


def test_the_random_numbers_of_a_step_are_its_own(accelerator):
    def seed(step: int, **changes: int) -> int:
        return batch_at(TRAINING, np.arange(2), settings_of(**changes), step, 0.0, accelerator).seed

    assert len({seed(0), seed(1), seed(0, seed=1)}) == 3
    assert seed(7) == seed(7)


# Batches of rows, such as pairs


def test_the_rows_of_a_batch_come_by_columns(accelerator):
    """The first images of the rows come first, then the second ones; places count them in this order."""
    positions = np.array([[10, 20], [30, 40], [50, 60]])
    batch = batch_at(TRAINING, positions, settings_of(flip=False), 0, 0.0, accelerator)
    assert batch.positions.tolist() == [10, 30, 50, 20, 40, 60]
    assert batch.places.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.size == 6
    originals = images_to_tensor(TRAINING.read(batch.positions.numpy()), accelerator.device)
    assert torch.equal(batch.images, originals)
    assert batch.targets.tolist() == TRAINING.targets[batch.positions].tolist()


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_row_stays_together_in_one_process(rows, accelerator):
    """The first k images of a process are of its rows' first column, the next k of the second one."""
    positions = np.random.default_rng(0).permutation(256)[: 3 * rows].reshape(rows, 3)
    whole = batch_at(OF_BOTH_SOURCES, positions, MOVED, 5, 0.25, accelerator)
    parts = [part_at(positions, process, MOVED) for process in range(2)]
    for process, part in enumerate(parts):
        mine = positions[process::2]
        assert part.positions.reshape(3, -1).T.tolist() == mine.tolist()
        assert part.size == 3 * rows
        for name in OF_IMAGES:  # mirrored and moved as in one process
            assert torch.equal(getattr(part, name), getattr(whole, name)[part.places])
    places = torch.cat([part.places for part in parts])
    assert sorted(places.tolist()) == list(range(3 * rows))


def test_rows_of_one_image_are_a_batch_of_one_dimension(accelerator):
    positions = np.random.default_rng(0).permutation(256)[:32]
    flat = batch_at(OF_BOTH_SOURCES, positions, MOVED, 5, 0.25, accelerator)
    rows = batch_at(OF_BOTH_SOURCES, positions[:, None], MOVED, 5, 0.25, accelerator)
    for name in OF_IMAGES:
        assert torch.equal(getattr(flat, name), getattr(rows, name))


def test_group_counts_include_empty_groups():
    images = LabelledImages(TRAINING.ids[:3], TRAINING.read, np.array([0, 1, 1]), np.array([0, 2, 2]))
    assert images.group_counts(4) == [1, 0, 2, 0]


# Prediction


def test_predictions_do_not_depend_on_the_batch_size(accelerator):
    network = SmallResNet(8)
    together = predict(network, VALIDATION.read, 200, accelerator)
    assert together.shape == (200,)
    assert together.dtype == np.float64
    assert together.std() > 1e-3
    for batch_size in (1, 7, 199):
        done = []
        scores = predict(network, VALIDATION.read, 200, accelerator, batch_size, done.append)
        np.testing.assert_allclose(scores, together, atol=1e-6)
        assert sum(done) == 200


def test_predictions_are_the_sigmoid_of_the_logits_in_order(accelerator):
    network = SmallResNet(8)
    with torch.no_grad():
        logits = network(images_to_tensor(VALIDATION.read(np.arange(10)), accelerator.device))
    scores = predict(network, VALIDATION.read, 10, accelerator, batch_size=3)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits.numpy())), atol=1e-6)
    assert network.training


# Training


@pytest.mark.parametrize("method", ["erm", "group_dro"])
@pytest.mark.parametrize("optimizer", [Optimizer(), Optimizer(name="adam", learning_rate=5e-3)])
def test_a_separable_toy_problem_is_learnt(method, optimizer, accelerator, tmp_path):
    network, _, result = trained(
        accelerator,
        tmp_path / "state.pt",
        new_method(method),
        optimizer=optimizer,
        steps=60,
        batch_size=32,
        sampler="group_balanced",
        flip=False,
    )
    untrained = predict(new_backbone(Backbone(width=8), seed=0), VALIDATION.read, 200, accelerator)
    assert accuracy_of(untrained, VALIDATION) < 0.7
    assert result.history[-1]["accuracy"] > 0.95
    network.load_state_dict(result.best["accuracy"])
    assert accuracy_of(predict(network, VALIDATION.read, 200, accelerator), VALIDATION) > 0.95


def test_the_best_weights_of_each_selection_are_kept_the_earliest_of_equals(accelerator, tmp_path):
    """The selections get each evaluation's scores; the test decides their values."""
    values = {
        "falling": iter([3.0, 2.0, 1.0, 0.0]),
        "rising": iter([0.0, 1.0, 2.0, 3.0]),
        "even": iter([1.0] * 4),
    }
    seen: list[np.ndarray] = []

    def selection(name: str):
        def select(scores: np.ndarray, images: LabelledImages) -> float:
            assert images is VALIDATION
            if name == "even":
                seen.append(scores)
            return next(values[name])

        return select

    network = new_backbone(Backbone(width=8), seed=0)
    result = train_classifier(
        network,
        ERM(),
        TRAINING,
        settings_of(),
        {name: selection(name) for name in values},
        accelerator,
        tmp_path / "state.pt",
    )
    assert [record["step"] for record in result.history] == [3, 6, 9, 12]
    assert [record["falling"] for record in result.history] == [3, 2, 1, 0]
    for name, evaluation in (("falling", 0), ("even", 0), ("rising", 3)):
        network.load_state_dict(result.best[name])
        scores = predict(network, VALIDATION.read, 200, accelerator)
        np.testing.assert_allclose(scores, seen[evaluation], atol=1e-6)
    assert not np.allclose(seen[0], seen[3], atol=1e-4)


def test_the_history_has_the_mean_loss_and_q(accelerator, tmp_path):
    losses: list[float] = []

    class Noted(GroupDRO):
        def loss(self, logits, batch):
            loss = super().loss(logits, batch)
            losses.append(loss.item())
            return loss

    method = Noted(TRAINING.group_counts(4), step_size=0.5)
    _, _, result = trained(accelerator, tmp_path / "state.pt", method)
    means = np.array(losses).reshape(4, 3).mean(axis=1)
    assert [record["loss"] for record in result.history] == pytest.approx(means.tolist(), rel=1e-5)
    assert [result.history[-1][f"q_{g}"] for g in range(4)] == pytest.approx(method.q.tolist())


def test_the_history_has_how_far_the_classes_are_apart(accelerator, tmp_path):
    """It is computed from the scores of each batch before its step, by class, since the last evaluation."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Noted(ERM):
        def loss(self, logits, batch):
            seen.append((torch.sigmoid(logits).detach().numpy(), batch.targets.numpy()))
            return super().loss(logits, batch)

    _, _, result = trained(accelerator, tmp_path / "state.pt", Noted())
    for record, steps in zip(result.history, np.arange(12).reshape(4, 3), strict=True):
        scores, targets = (np.concatenate([seen[step][k] for step in steps]) for k in (0, 1))
        apart = scores[targets == 1].mean() - scores[targets == 0].mean()
        assert record["separation"] == pytest.approx(apart, abs=1e-5)


def test_a_batch_is_moved_as_a_hand_would_move_it():
    """It moves one row down and two columns to the left; the top row and the right column are repeated."""
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    moved = shifted(image, np.array([[1, -2]]))[0, :, :, 0]
    assert moved.tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]
    np.testing.assert_array_equal(shifted(image, np.array([[0, 0]])), image)


def test_images_are_moved_by_their_share_of_the_side_at_most(accelerator, tmp_path):
    """At 16 px and a share of 1/8 they move by up to 2 px; another seed gives other moves."""
    images = np.zeros((64, 16, 16, 3), np.uint8)
    images[:, 8, 8] = 255
    data = LabelledImages(
        ids=np.arange(64).astype(str).astype(object),
        read=lambda positions: images[positions],
        targets=np.zeros(64, np.int64),
        groups=np.zeros(64, np.int64),
    )

    def places(seed: int, step: int) -> np.ndarray:
        batch = batch_at(
            data, np.arange(64), settings_of(shift=0.125, flip=False, seed=seed), step, 0.0, accelerator
        )
        return (batch.images[:, 0] > 0).nonzero()[:, 1:].numpy()

    moves = places(0, 0) - 8
    assert set(moves.ravel().tolist()) == {-2, -1, 0, 1, 2}
    np.testing.assert_array_equal(places(0, 0), places(0, 0))
    assert (places(0, 0) != places(0, 1)).any() and (places(0, 0) != places(1, 0)).any()


def test_weight_decay_shrinks_the_weights(accelerator, tmp_path):
    norms = []
    for decay in (0.0, 1.0):
        network, _, _ = trained(accelerator, tmp_path / f"{decay}.pt", weight_decay=decay)
        norms.append(sum(parameter.square().sum().item() for parameter in network.parameters()))
    assert norms[1] < 0.9 * norms[0]


# The average of the weights


def test_the_memory_of_the_average_by_hand():
    # Half-life 0.05 of 1,000 steps: 50; before, step / (step + 10): the first weights are soon forgotten.
    assert memory_of(0.05, 999, 1000) ** 50 == pytest.approx(0.5)
    assert memory_of(0.1, 0, 100) == 0.0
    assert memory_of(0.5, 10, 100) == pytest.approx(0.5)


def test_an_average_moves_towards_the_weights_and_takes_the_buffers():
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        average.weight.copy_(torch.tensor([1.0, 2.0]))
        network.weight.copy_(torch.tensor([3.0, -2.0]))
        network.running_mean.copy_(torch.tensor([5.0, 6.0]))
    average_in(average, network, memory=0.75)
    assert average.weight.tolist() == pytest.approx([1.5, 1.0])
    assert average.running_mean.tolist() == [5.0, 6.0]
    assert network.weight.tolist() == [3.0, -2.0]


def test_what_is_kept_is_the_average_of_the_weights_of_every_step(accelerator, tmp_path, monkeypatch):
    seen = []
    true_average = classifier_training.average_in

    def watched(average, network, memory):
        seen.append(copy_of_weights(network))
        true_average(average, network, memory)

    monkeypatch.setattr(classifier_training, "average_in", watched)
    _, _, result = trained(accelerator, tmp_path / "s.pt", new_method("erm"), average=0.25, evaluations=1)
    expected = seen[0]
    for step, weights in enumerate(seen[1:], start=1):
        memory = min(0.5 ** (1 / 3), step / (step + 10))  # a quarter of 12 steps
        expected = {name: memory * expected[name] + (1 - memory) * weights[name] for name in weights}
    for name, weights in result.best["accuracy"].items():
        torch.testing.assert_close(weights, expected[name], rtol=1e-5, atol=1e-7)


# Resumption


@pytest.mark.parametrize("method", METHODS)
def test_a_state_between_evaluations_resumes_to_the_same_bits(method, accelerator, tmp_path):
    """It is saved after every step; the history has the mean loss over steps before and after each kill."""
    whole = trained(accelerator, tmp_path / "whole.pt", new_method(method))
    for batches in (1, 1, 3, 4):
        with pytest.raises(Killed):
            trained(
                accelerator,
                tmp_path / "state.pt",
                new_method(method),
                killed_after(batches, TRAINING),
                checkpoint_seconds=1e-9,
            )
    assert load_checkpoint(tmp_path / "state.pt")["done"] == 9
    resumed = trained(accelerator, tmp_path / "state.pt", new_method(method), killed_after(3, TRAINING))
    assert_same_training(resumed, whole)


@pytest.mark.parametrize("checkpoint_seconds", [3600.0, 1e-9])
@pytest.mark.parametrize("optimizer", [Optimizer(), Optimizer(name="adam", learning_rate=5e-3)])
def test_two_phases_resume_to_the_same_bits(optimizer, checkpoint_seconds, accelerator, tmp_path):
    """They are killed in the first phase, right before and right after its end, and in the second."""
    ones, rest = (
        TRAINING.subset(np.flatnonzero(chosen)) for chosen in (TRAINING.groups == 3, TRAINING.groups < 3)
    )

    def in_two_phases(checkpoint: Path, batches: tuple[int, int]):
        network = new_backbone(Backbone(width=8), seed=0)
        images = [killed_after(count, part) for count, part in zip(batches, (ones, rest), strict=True)]
        methods = [GroupDRO(part.group_counts(4), step_size=0.5) for part in (ones, rest)]
        result = train_in_phases(
            network,
            phases_of(*images, methods),
            settings_of(optimizer=optimizer),
            SELECTIONS,
            accelerator,
            checkpoint,
            checkpoint_seconds,
        )
        return network, methods[1], result

    whole = in_two_phases(tmp_path / "whole.pt", (5, 7))
    # Steps of the first phase, and of the second, before each kill; evaluations are after 3, 6, 9, 12.
    kept = []
    for batches in ((2, 0), (5, 0), (5, 0), (5, 3), (5, 2)):
        with pytest.raises(Killed):
            in_two_phases(tmp_path / "state.pt", batches)
        state = load_checkpoint(tmp_path / "state.pt")
        kept.append(state["done"] if state else 0)
    assert kept == ([0, 3, 3, 6, 6] if checkpoint_seconds > 1 else [2, 5, 5, 8, 10])
    resumed = in_two_phases(tmp_path / "state.pt", (5, 7))
    assert_same_training(resumed, whole)


TRAINING_PROCESS = """
import importlib.util, sys
import torch
torch.set_num_threads({threads})
spec = importlib.util.spec_from_file_location("training_process", {module!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
tests.{function}(*{arguments!r})
"""


def training_script(function, *arguments: str) -> str:
    """Return a script that calls a function of this module in another process."""
    threads = torch.get_num_threads()
    return TRAINING_PROCESS.format(
        threads=threads, module=__file__, function=function.__name__, arguments=arguments
    )


KILLS = 3
LONG = {"steps": 40, "sampler": "group_balanced"}


def train_slowly(folder: str, method: str) -> None:
    """Train with steps that take time, so that a kill comes in the middle."""

    def read(positions: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return TRAINING.read(positions)

    slow = LabelledImages(TRAINING.ids, read, TRAINING.targets, TRAINING.groups)
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    checkpoint = Path(folder, "state.pt")
    trained(accelerator, checkpoint, new_method(method), slow, checkpoint_seconds=1e-9, **LONG)


@pytest.mark.slow
@pytest.mark.parametrize("method", [pytest.param("erm", marks=pytest.mark.exhaustive), "group_dro"])
def test_a_training_that_was_really_killed_resumes_to_the_same_bits(method, accelerator, tmp_path):
    """It is killed by SIGKILL three times, each a few steps after the state that it started from."""
    whole = trained(accelerator, tmp_path / "whole.pt", new_method(method), **LONG)
    folder, done = tmp_path / "killed", 0

    def done_now() -> int:
        state = load_checkpoint(folder / "state.pt")
        return state["done"] if state else 0

    for _ in range(KILLS):
        process = ForkedPython("-c", training_script(train_slowly, str(folder), method))
        while process.poll() is None and done_now() < done + 4:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        done = done_now()
    resumed = trained(accelerator, folder / "state.pt", new_method(method), **LONG)
    assert_same_training(resumed, whole)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", ["uniform", "group_balanced"])
@pytest.mark.parametrize(
    ("optimizer", "average"), [(Optimizer(), 0.2), (Optimizer(name="adam", learning_rate=5e-3), 0.0)]
)
def test_an_interrupted_training_resumes_to_the_same_bits(
    method, sampler, optimizer, average, accelerator, tmp_path
):
    """It is killed before the first evaluation, right after one, and between two."""
    changes = {"sampler": sampler, "optimizer": optimizer, "average": average}
    whole = trained(accelerator, tmp_path / "whole.pt", new_method(method), **changes)
    for batches in (2, 3, 5):
        with pytest.raises(Killed):
            trained(
                accelerator,
                tmp_path / "state.pt",
                new_method(method),
                killed_after(batches, TRAINING),
                **changes,
            )
    # 0 steps were kept of the first try, 3 of the second, 6 of the third.
    assert load_checkpoint(tmp_path / "state.pt")["done"] == 6
    resumed = trained(
        accelerator, tmp_path / "state.pt", new_method(method), killed_after(6, TRAINING), **changes
    )
    assert_same_training(resumed, whole)


def test_the_best_so_far_survives_a_kill(accelerator, tmp_path):
    """The best weights are those before the kill; later evaluations are worse."""

    def with_values(values: list[float], training: LabelledImages) -> Trained:
        left = iter(values)
        return train_classifier(
            new_backbone(Backbone(width=8), seed=0),
            ERM(),
            training,
            settings_of(),
            {"given": lambda scores, images: next(left)},
            accelerator,
            tmp_path / "state.pt",
        )

    with pytest.raises(Killed):
        with_values([5.0, 1.0], killed_after(7, TRAINING))
    kept = load_checkpoint(tmp_path / "state.pt")["result"]["best"]["given"]
    result = with_values([2.0, 3.0], TRAINING)
    assert [record["given"] for record in result.history] == [5, 1, 2, 3]
    assert_same_weights(result.best["given"], kept)


def test_a_selection_may_give_a_numpy_number(accelerator, tmp_path):
    """Checkpoints are read as tensors and plain values only, but metrics return NumPy's numbers."""

    def numpy_accuracy(scores: np.ndarray, images: LabelledImages) -> np.float64:
        return np.mean((scores > 0.5) == images.targets)

    for _ in range(2):
        result = train_classifier(
            new_backbone(Backbone(width=8), seed=0),
            ERM(),
            TRAINING,
            settings_of(),
            {"accuracy": numpy_accuracy},
            accelerator,
            tmp_path / "state.pt",
        )
        assert len(result.history) == 4


# Several processes


def few_of_the_last_group() -> LabelledImages:
    """Keep only three images of the last group: most batches have them on one process, or on none."""
    last = np.flatnonzero(TRAINING.groups == 3)[3:]
    kept = np.setdiff1d(np.arange(len(TRAINING)), last)
    return LabelledImages(
        TRAINING.ids[kept],
        lambda positions: TRAINING.read(kept[positions]),
        TRAINING.targets[kept],
        TRAINING.groups[kept],
    )


CASES = [
    (method, sampler, batch_size)
    for method in METHODS
    for sampler, batch_size in (("uniform", 16), ("uniform", 33), ("group_balanced", 3), ("uniform", 1))
]


ADVERSARIES = ("dann", "adversarial")  # whose losses are weighed by how rare a group is


def train_all_cases(output: str) -> None:
    """Train each case, in however many processes this is one of; the first process writes the outcome."""
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    outcome = []
    for number, (name, sampler, batch_size) in enumerate(CASES):
        images = few_of_the_last_group()

        def total(tensor: torch.Tensor) -> torch.Tensor:
            return accelerator.reduce(tensor, "sum")

        method = new_method(name, images, total)
        network, _, result = trained(
            accelerator,
            Path(output).with_name(f"{number}-{accelerator.num_processes}.pt"),
            method,
            images,
            sampler=sampler,
            batch_size=batch_size,
            optimizer=Optimizer(name="sgd", learning_rate=0.02, schedule="cosine"),
            steps=20,
        )
        outcome.append(
            {
                "weights": network.state_dict(),
                "method": method.state_dict(),
                "history": result.history,
                "cost": result.cost,
                "processes": accelerator.num_processes,
            }
        )
    if accelerator.is_main_process:
        torch.save(outcome, output)


@pytest.mark.slow
def test_two_processes_train_the_same_weights_as_one(tmp_path):
    """Batches are odd, or have fewer images than processes, or a group on one process alone.

    The learning rate keeps rounding errors small; at 0.05 some seeds multiply them.
    """
    train_all_cases(str(tmp_path / "one.pt"))
    run_in_two("-c", training_script(train_all_cases, str(tmp_path / "two.pt")))
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    for case, of_one, of_two in zip(CASES, one, two, strict=True):
        assert (of_one["processes"], of_two["processes"]) == (1, 2)
        assert of_one["cost"] == of_two["cost"]
        assert of_one["cost"]["forward"] == 20 * case[2]
        for part in ("weights", "method"):
            for name in of_one[part]:
                # An adversary's memory is a sum over all steps, its loss weighed by rare groups. It learns
                # five times as fast: with three images in a batch that multiplies its own rounding errors.
                own = case[0] in ADVERSARIES and part == "method"
                rtol, atol = (1e-4, 1e-4) if own else (0.0, 1e-5)
                torch.testing.assert_close(
                    of_two[part][name], of_one[part][name], rtol=rtol, atol=atol, msg=f"{case}: {name}"
                )
        for first, second in zip(of_one["history"], of_two["history"], strict=True):
            rel = 1e-5 if case[0] in ADVERSARIES else 0.0
            assert second == pytest.approx(first, rel=rel, abs=1e-5)


@pytest.mark.parametrize("network", [new_backbone(Backbone(name="resnet18"), 0), torch.nn.BatchNorm1d(2)])
def test_a_network_that_normalises_by_batch_is_refused_in_several_processes_on_cpus(network, tmp_path):
    several = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    sentence = (
        "toy: the backbone normalises by batch, and on CPUs each of several processes would do so by its own "
        "part alone: use one process, or the backbone small."
    )
    with pytest.raises(UserError) as raised:
        train_classifier(network, ERM(), TRAINING, settings_of(), {}, several, tmp_path / "state.pt")
    assert str(raised.value) == sentence


# Divergence


@pytest.mark.parametrize("checks_for_nan", [False, True])
def test_a_diverging_training_is_ended_with_what_to_do(checks_for_nan, accelerator, tmp_path):
    """It ends so even if the selection itself refuses NaN, as scikit-learn's metrics do."""

    def select(scores: np.ndarray, images: LabelledImages) -> float:
        if checks_for_nan and not np.isfinite(scores).all():
            raise ValueError("Input contains NaN.")
        return 0.0

    with pytest.raises(
        UserError, match=r"toy: the loss is not finite at step 12: lower optimizer\.learning_rate"
    ):
        train_classifier(
            new_backbone(Backbone(width=8), seed=0),
            ERM(),
            TRAINING,
            settings_of(optimizer=Optimizer(name="sgd", learning_rate=1e30), evaluations=1),
            {"given": select},
            accelerator,
            tmp_path / "state.pt",
        )
    assert not (tmp_path / "state.pt").exists()
