"""Abilities of methods and phases beyond a loss of logits.

They have several losses and parameters of their own; phases look back, or start anew.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from classifiers.training.batches import Batch
from classifiers.training.descent import descend, new_optimizer
from classifiers.training.loop import Look, Part, Phase, Trained, copy_of_weights
from classifiers.training.methods.base import Gradients, Losses, LossOfLogits, Method
from classifiers.training.methods.erm import ERM
from classifiers.training.parameters import Optimizer
from classifiers.training.samplers import UniformSampler
from pipeline.content.checkpoints import load_checkpoint
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.toys import (
    SELECTIONS,
    TRAINING,
    Killed,
    Opposed,
    assert_same_training,
    assert_same_weights,
    batch_of,
    killed_after,
    settings_of,
    train_in_phases,
    trained,
)


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


# Several losses, and parameters of the method's own


class TwoWeights(nn.Module):
    """A network whose logit is u x + v y, of the first two values of an image's first channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 5.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :2] @ self.weights


class Projected(Method):
    """A method with two losses: the mean logit, and a parameter of its own times v.

    The step is the first loss's gradient without its component along the second one's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.tensor(-3.0))

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        logits = network(batch.images)
        return Losses((logits.mean(), self.own * network.weights[1]), logits)

    def combine(self, gradients):
        (first,), (second,) = gradients
        return [first - (first @ second) / (second @ second) * second]


def one_image() -> Batch:
    """Return an image whose first two values are 2 and 1."""
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 0] = torch.tensor([2.0, 1.0])
    return batch_of(image, torch.tensor([1]), torch.tensor([3]))


def test_a_step_of_two_losses_by_hand(accelerator):
    """Gradients (2, 1) and (0, -3): without the second's direction (2, 0). The own parameter's is v = 5."""
    network, method = TwoWeights(), Projected()
    settings = settings_of(optimizer=Optimizer(name="sgd", learning_rate=9.0), weight_decay=0.0)
    optimizer = new_optimizer(network, method, settings)
    sums = descend(network, method, optimizer, 0.1, one_image(), accelerator)
    assert network.weights.tolist() == pytest.approx([1 - 0.1 * 2, 5])
    assert method.own.item() == pytest.approx(-3 - 0.1 * 5)
    # The losses 2 + 5 = 7 and -15; the score of one positive, and no negative.
    assert sums.tolist() == pytest.approx([7 - 15, 1 / (1 + np.exp(-7)), 1, 0, 0])


def test_what_no_loss_depends_on_has_a_gradient_of_zero(accelerator):
    class Unused(Projected):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Parameter(torch.tensor(4.0))

        def combine(self, gradients: list[Gradients]) -> Gradients:
            assert [gradient.tolist() for (gradient,) in gradients] == [[2, 1], [0, -3]]
            return super().combine(gradients)

    network, method = TwoWeights(), Unused()
    optimizer = new_optimizer(network, method, settings_of(weight_decay=0.0))
    descend(network, method, optimizer, 0.1, one_image(), accelerator)
    assert method.idle.item() == 4


def test_a_method_of_several_losses_has_to_combine_them(accelerator):
    class Forgetful(Projected):
        combine = Method.combine

    network, method = TwoWeights(), Forgetful()
    optimizer = new_optimizer(network, ERM(), settings_of())
    with pytest.raises(NotImplementedError, match="Forgetful has several losses"):
        descend(network, method, optimizer, 0.1, one_image(), accelerator)


def test_the_parameter_of_a_method_with_one_loss_is_trained(accelerator):
    """The loss (own - 1) logit has the gradient logit = 7 there, and (own - 1) (2, 1) in the network."""

    class Scaled(LossOfLogits):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Parameter(torch.tensor(3.0))

        def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            return ((self.own - 1) * logits).mean()

    network, method = TwoWeights(), Scaled()
    settings = settings_of(weight_decay=0.0)
    optimizer = new_optimizer(network, method, settings)
    descend(network, method, optimizer, 0.1, one_image(), accelerator)
    assert method.own.item() == pytest.approx(3 - 0.1 * 7)
    assert network.weights.tolist() == pytest.approx([1 - 0.1 * 4, 5 - 0.1 * 2])


class Own(LossOfLogits):
    """A method whose parameter's gradient is the mean logit, and the network's the parameter times it."""

    def __init__(self, own_rate: float) -> None:
        super().__init__()
        self.own_rate = own_rate
        self.own = nn.Parameter(torch.tensor(3.0))

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (self.own * logits).mean()


@pytest.mark.parametrize("own_rate", [0.0, 0.5, 10.0])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_methods_parameters_have_a_learning_rate_of_their_own(own_rate, optimizer, accelerator):
    """By hand with SGD: the logit 7 is the gradient; Adam's first step is as long as the rate."""
    network, method = TwoWeights(), Own(own_rate)
    settings = settings_of(optimizer=Optimizer(name=optimizer, learning_rate=9.0), weight_decay=0.0)
    made = new_optimizer(network, method, settings)
    descend(network, method, made, 0.01, one_image(), accelerator)
    moved = 7 if optimizer == "sgd" else 1
    assert method.own.item() == pytest.approx(3 - 0.01 * own_rate * moved, rel=1e-6)
    of_network = [1 - 0.01 * 3 * 2, 5 - 0.01 * 3] if optimizer == "sgd" else [1 - 0.01, 5 - 0.01]
    assert network.weights.tolist() == pytest.approx(of_network, rel=1e-6)
    descend(network, method, made, 0.0, one_image(), accelerator)  # the rate of the next step
    assert method.own.item() == pytest.approx(3 - 0.01 * own_rate * moved, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_methods_parameters_have_no_weight_decay(optimizer, accelerator):
    """Without a gradient, weight decay moves the network's weights alone."""

    class Flat(Own):
        def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            return 0 * super().loss(logits, batch)

    network, method = TwoWeights(), Flat(2.0)
    settings = settings_of(optimizer=Optimizer(name=optimizer), weight_decay=0.5)
    made = new_optimizer(network, method, settings)
    descend(network, method, made, 0.1, one_image(), accelerator)
    assert method.own.item() == 3
    assert network.weights[1].item() < 5
    if optimizer != "adam":  # Adam scales the decay, which is all of its gradient, to the learning rate
        assert network.weights.tolist() == pytest.approx([1 - 0.1 * 0.5, 5 - 0.1 * 0.5 * 5])


def test_a_trained_method_moves_and_the_history_says_so(accelerator, tmp_path):
    network, method, result = trained(accelerator, tmp_path / "state.pt", Opposed())
    scales = [record["scale"] for record in result.history]
    assert scales[-1] == method.scale.item()
    assert len({1.0, *scales}) == 5  # it begins at 1, and every evaluation finds another
    state = load_checkpoint(tmp_path / "state.pt")
    assert state["method"]["scale"].item() == scales[-1]
    assert len(state["optimizer"]["state"]) == len([*network.parameters()]) + 1


# Phases that look back


class Looking:
    """Builds two phases: all images for 5 steps, then for 7 steps those that the network gets wrong.

    Args:
        batches: how many batches of each phase may be read before the training is killed.
        fresh: whether the network starts anew in the second phase.
    """

    def __init__(self, batches: tuple[int, int] = (5, 7), fresh: bool = False) -> None:
        self.batches, self.fresh = batches, fresh
        self.looks, self.chosen = 0, np.array([])

    def phases(self) -> list[Phase]:
        return [Phase(5, self.first), Phase(7, self.second, self.fresh)]

    def first(self, look: Look) -> Part:
        return self.part(TRAINING, 0)

    def second(self, look: Look) -> Part:
        def read(positions: np.ndarray) -> np.ndarray:
            self.looks += 1
            return TRAINING.read(positions)

        seen = LabelledImages(TRAINING.ids, read, TRAINING.targets, TRAINING.groups)
        scores = look(seen)
        wrong = np.flatnonzero((scores > 0.5) != TRAINING.targets)
        self.chosen = TRAINING.ids[wrong]
        return self.part(TRAINING.subset(wrong), 1)

    def part(self, images: LabelledImages, phase: int) -> Part:
        method = Opposed() if phase else ERM()
        images = killed_after(self.batches[phase], images)
        self.method = method
        return Part(images, method, UniformSampler(images.groups, 16, 0))


def train_looking(accelerator, checkpoint: Path, looking: Looking, checkpoint_seconds: float, average: float):
    network = new_backbone(Backbone(width=8), seed=0)
    result = train_in_phases(
        network,
        looking.phases(),
        settings_of(average=average),
        SELECTIONS,
        accelerator,
        checkpoint,
        checkpoint_seconds,
    )
    return network, looking.method, result


@pytest.mark.parametrize("average", [0.0, 0.2])
def test_a_phase_is_built_from_what_the_network_says_at_its_start(average, accelerator, tmp_path):
    """Its images are those that the weights after five steps, or their average, get wrong."""
    killed, checkpoint = Looking((5, 0)), tmp_path / "state.pt"
    with pytest.raises(Killed):
        train_looking(accelerator, checkpoint, killed, 1e-9, average)
    state = load_checkpoint(checkpoint)
    assert state["done"] == 5
    network = new_backbone(Backbone(width=8), seed=0)
    network.load_state_dict(state["evaluated"])
    scores = predict(network, TRAINING.read, len(TRAINING), accelerator)
    wrong = TRAINING.ids[(scores > 0.5) != TRAINING.targets]
    assert 10 < len(wrong) < 200
    assert killed.chosen.tolist() == wrong.tolist()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("average", [0.0, 0.2])
@pytest.mark.parametrize("checkpoint_seconds", [3600.0, 1e-9])
def test_a_phase_that_looked_back_resumes_to_the_same_bits(
    checkpoint_seconds, average, fresh, accelerator, tmp_path
):
    """It is killed in the first phase, right before and after its end, and in the second.

    In the second, the scores that it was built from are read from the state: the network has changed since.
    """
    undisturbed, checkpoint = Looking(fresh=fresh), tmp_path / "state.pt"
    whole = train_looking(accelerator, tmp_path / "whole.pt", undisturbed, 3600.0, average)
    kept, looks, done = [], [], 0
    for batches in ((2, 0), (5, 0), (5, 0), (5, 3), (5, 2)):
        looking = Looking(batches, fresh)
        with pytest.raises(Killed):
            train_looking(accelerator, checkpoint, looking, checkpoint_seconds, average)
        state = load_checkpoint(checkpoint)
        done = state["done"] if state else 0
        kept.append(done)
        looks.append(looking.looks)
    assert kept == ([0, 3, 3, 6, 6] if checkpoint_seconds > 1 else [2, 5, 5, 8, 10])
    assert looks == [0, 1, 1, 1, 0]  # the last one began in the second phase

    network = new_backbone(Backbone(width=8), seed=0)
    network.load_state_dict(state["evaluated"])
    now = predict(network, TRAINING.read, len(TRAINING), accelerator)
    assert TRAINING.ids[(now > 0.5) != TRAINING.targets].tolist() != undisturbed.chosen.tolist()

    # The second phase looks at all images once, and its method has two losses.
    assert whole[2].cost == {"forward": 12 * 16 + len(TRAINING), "backward": 5 * 16 + 7 * 2 * 16}
    last = Looking(fresh=fresh)
    resumed = train_looking(accelerator, checkpoint, last, 3600.0, average)
    assert last.looks == 0
    assert last.chosen.tolist() == undisturbed.chosen.tolist()
    assert_same_training(resumed, whole)


# Phases that start anew


@pytest.mark.parametrize("average", [0.0, 0.2])
def test_a_fresh_phase_trains_as_a_training_of_its_own(average, accelerator, tmp_path):
    """It starts from the first weights, and the images that the phase before told apart are its own.

    Steps are counted over all phases: so are the mirrored images, which the settings do without.
    """
    looking, settings = Looking(fresh=True), settings_of(average=average, flip=False)
    network = new_backbone(Backbone(width=8), seed=0)
    checkpoint = tmp_path / "both.pt"
    both = train_in_phases(network, looking.phases(), settings, SELECTIONS, accelerator, checkpoint)
    alone = new_backbone(Backbone(width=8), seed=0)
    wrong = TRAINING.subset(np.flatnonzero(np.isin(TRAINING.ids, looking.chosen)))
    part = Part(wrong, Opposed(), UniformSampler(wrong.groups, 16, 0))
    phases = [Phase(7, lambda look: part)]
    train_in_phases(alone, phases, settings, {}, accelerator, tmp_path / "alone.pt")
    assert_same_weights(network.state_dict(), alone.state_dict())
    assert [record["step"] for record in both.history] == [3, 6, 9, 12]


@pytest.mark.parametrize("fresh", [False, True])
def test_the_best_weights_of_the_phase_that_identifies_are_forgotten(fresh, accelerator, tmp_path):
    """The first evaluation, of step 3, is in the first phase and has the highest value."""
    values, seen = iter([9.0, 1.0, 3.0, 2.0]), []
    network = new_backbone(Backbone(width=8), seed=0)

    def select(scores: np.ndarray, images: LabelledImages) -> float:
        seen.append(copy_of_weights(network))
        return next(values)

    phases = Looking(fresh=fresh).phases()
    checkpoint = tmp_path / "state.pt"
    result = train_in_phases(network, phases, settings_of(), {"given": select}, accelerator, checkpoint)
    assert [record["given"] for record in result.history] == [9, 1, 3, 2]
    assert_same_weights(result.best["given"], seen[2 if fresh else 0])


def test_what_is_forgotten_is_forgotten_after_a_kill_too(accelerator, tmp_path):
    """It is killed after the last step of the phase that identifies, and after the first one of the other."""

    def train(looking: Looking, values: Iterator[float], name: str) -> Trained:
        network = new_backbone(Backbone(width=8), seed=0)
        selections = {"given": lambda scores, images: next(values)}
        checkpoint = tmp_path / f"{name}.pt"
        return train_in_phases(
            network, looking.phases(), settings_of(), selections, accelerator, checkpoint, 1e-9
        )

    whole = train(Looking(fresh=True), iter([9.0, 1.0, 3.0, 2.0]), "whole")
    values, kept = iter([9.0, 1.0, 3.0, 2.0]), []
    for batches in ((5, 0), (5, 1)):
        with pytest.raises(Killed):
            train(Looking(batches, fresh=True), values, "killed")
        kept.append(load_checkpoint(tmp_path / "killed.pt")["best_values"]["given"])
    assert kept == [9, 1]
    resumed = train(Looking(fresh=True), values, "killed")
    assert [record["given"] for record in resumed.history] == [9, 1, 3, 2]
    assert_same_weights(resumed.best["given"], whole.best["given"])
