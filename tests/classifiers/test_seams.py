"""Abilities of methods and phases beyond a loss of logits: several losses, own parameters, a look back."""

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
from classifiers.training.loop import Look, Part, Phase
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
    """

    def __init__(self, batches: tuple[int, int] = (5, 7)) -> None:
        self.batches = batches
        self.looks, self.chosen = 0, np.array([])

    def phases(self) -> list[Phase]:
        return [Phase(5, self.first), Phase(7, self.second)]

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


@pytest.mark.parametrize("average", [0.0, 0.2])
@pytest.mark.parametrize("checkpoint_seconds", [3600.0, 1e-9])
def test_a_phase_that_looked_back_resumes_to_the_same_bits(
    checkpoint_seconds, average, accelerator, tmp_path
):
    """It is killed in the first phase, right before and after its end, and in the second.

    In the second, the scores that it was built from are read from the state: the network has changed since.
    """
    undisturbed, checkpoint = Looking(), tmp_path / "state.pt"
    whole = train_looking(accelerator, tmp_path / "whole.pt", undisturbed, 3600.0, average)
    kept, looks, done = [], [], 0
    for batches in ((2, 0), (5, 0), (5, 0), (5, 3), (5, 2)):
        looking = Looking(batches)
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

    last = Looking()
    resumed = train_looking(accelerator, checkpoint, last, 3600.0, average)
    assert last.looks == 0
    assert last.chosen.tolist() == undisturbed.chosen.tolist()
    assert_same_training(resumed, whole)
