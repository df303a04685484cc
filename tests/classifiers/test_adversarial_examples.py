"""FGSM and PGD: by hand on a linear network, within their bounds, and ERM where nothing may move."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from classifiers.networks.backbones import SmallResNet, new_backbone
from classifiers.networks.parameters import Backbone
from classifiers.training.batches import Batch, batch_at
from classifiers.training.methods.adversarial_examples import AdversarialExamples, noise_of
from classifiers.training.settings.examples import AdversarialExamplesSettings
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.by_recipe import train_by
from tests.classifiers.toys import (
    TRAINING,
    assert_same_training,
    batch_of,
    context_of,
    settings_of,
)

HALF_RANGE = 255 / 2  # an ε of 1 of the network's [-1, 1], in 1/255 of a pixel's range


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


class Linear(nn.Module):
    """A network whose logit is w x, of all values of an image."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weights


def new_method(**changes) -> AdversarialExamples:
    return AdversarialExamplesSettings(**changes).build(context_of([1, 1, 1, 1]))


def positives(images: torch.Tensor) -> Batch:
    return batch_of(images, torch.ones(len(images), dtype=torch.long), torch.full((len(images),), 3))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_one_step_by_hand():
    """w = (1, -2), x = (.5, .5), y = 1, ε = .1: z = -.5 has the loss .974077, x' = (.4, .6) has 1.171101."""
    network, batch = Linear(torch.tensor([1.0, -2.0])), positives(torch.tensor([[[[0.5, 0.5]]]]))
    method = new_method(epsilon=0.1 * HALF_RANGE)
    assert method.attacked(network, batch).flatten().tolist() == pytest.approx([0.4, 0.6])
    losses = method.losses(network, batch)
    assert network.weights.grad is None  # the attack leaves no gradient behind
    (loss,) = losses.values
    assert loss.item() == pytest.approx(1.07258883, abs=1e-7)
    assert losses.logits.tolist() == [-0.5]
    # The step's gradient is that of both losses with x' held: ½ (σ(z) - 1) x + ½ (σ(z') - 1) x'.
    loss.backward()
    of_x, of_example = (sigmoid(-0.5) - 1) / 2, (sigmoid(-0.8) - 1) / 2
    expected = [of_x * 0.5 + of_example * 0.4, of_x * 0.5 + of_example * 0.6]
    assert network.weights.grad.tolist() == pytest.approx(expected)
    (third,) = new_method(epsilon=0.1 * HALF_RANGE, share=1 / 3).losses(network, batch).values
    assert third.item() == pytest.approx((2 * 0.97407698 + 1.17110067) / 3)


def test_the_published_epsilon_is_two_of_an_eight_bit_pixels_steps_for_one():
    """8/255 of pixels in [0, 1] is 16/255 in [-1, 1]."""
    assert new_method().epsilon == pytest.approx(16 / 255)
    assert new_method(steps=4).step_size == pytest.approx(4 / 255)  # a quarter of ε, if none is named
    assert new_method(steps=4, step_size=3).step_size == pytest.approx(6 / 255)


@given(st.integers(1, 8), st.floats(0.1, 30), st.integers(0, 2**32))
def test_on_a_linear_network_many_small_steps_are_one_large_step(steps, epsilon, seed):
    random = torch.Generator().manual_seed(seed)
    network = Linear(torch.randn(12, generator=random))
    batch = positives(1.8 * torch.rand(5, 3, 2, 2, generator=random) - 0.9)
    once = new_method(epsilon=epsilon).attacked(network, batch)
    many = new_method(epsilon=epsilon, steps=steps).attacked(network, batch)
    torch.testing.assert_close(many, once, rtol=0, atol=1e-6)
    assert not torch.equal(once, batch.images)


@pytest.mark.parametrize("random_start", [False, True])
def test_examples_stay_near_their_images_and_in_range(random_start, accelerator):
    """Steps of ε, three times, would go further; the images have black and white pixels."""
    batch = batch_at(TRAINING, torch.arange(32).numpy(), settings_of(), 0, 0.0, accelerator)
    batch.images.mul_(2).clamp_(-1, 1)
    method = new_method(epsilon=20, steps=3, step_size=20, random_start=random_start)
    examples = method.attacked(SmallResNet(8), batch)
    moves = (examples - batch.images).abs()
    assert examples.abs().max() == 1
    assert moves.max().item() == pytest.approx(40 / 255, abs=1e-6)
    assert moves.mean() > 0.05
    assert not examples.requires_grad


def test_an_attack_raises_the_loss_of_a_trained_network_and_more_steps_raise_it_more(accelerator, tmp_path):
    network, _, _ = train_by({"method": {"name": "erm"}}, accelerator, tmp_path / "state.pt", steps=40)
    batch = batch_at(TRAINING, torch.arange(64).numpy(), settings_of(), 0, 0.0, accelerator)
    losses = []
    for changes in ({"steps": 1}, {"steps": 7, "step_size": 4}):
        method = new_method(epsilon=16, share=1, **changes)
        losses.append(method.losses(network, batch).values[0].item())
    clean = new_method(epsilon=0).losses(network, batch).values[0].item()
    assert clean + 0.05 < losses[0] < losses[1]


@pytest.mark.parametrize("random_start", [False, True])
def test_an_epsilon_of_zero_is_erm_to_the_bit(random_start, accelerator, tmp_path):
    recipe = {"method": {"name": "adversarial_examples", "epsilon": 0, "random_start": random_start}}
    still = train_by(recipe, accelerator, tmp_path / "still.pt")
    erm = train_by({"method": {"name": "erm"}}, accelerator, tmp_path / "erm.pt")
    assert_same_training(still, erm)
    moved = train_by(
        {"method": {"name": "adversarial_examples", "epsilon": 0.1}}, accelerator, tmp_path / "moved.pt"
    )
    assert moved[2].history != erm[2].history


def test_an_example_depends_on_its_own_image_alone():
    """With batch norm too, whose statistics the attack neither uses of the batch nor changes."""
    network = new_backbone(Backbone(name="resnet18"), seed=0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    before = {name: value.clone() for name, value in network.state_dict().items()}
    method = new_method(steps=2)
    together = method.attacked(network, positives(images))
    for k in range(4):
        alone = method.attacked(network, positives(images[k : k + 1]))
        assert (alone - together[k]).abs().gt(1e-3).float().mean() < 0.01  # where a gradient is nearly 0
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_attack_computes_in_float32():
    network, batch = SmallResNet(8), positives(torch.rand(4, 3, 8, 8) - 0.5)
    expected = new_method().attacked(network, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(new_method().attacked(network, batch), expected)


def test_a_random_start_depends_on_the_step_and_the_place_alone(accelerator):
    def noise(process: int, processes: int, step: int = 0) -> torch.Tensor:
        of_process = type("Process", (), {"process_index": process, "num_processes": processes})
        of_process.device = torch.device("cpu")
        positions = torch.arange(33).numpy()
        return noise_of(batch_at(TRAINING, positions, settings_of(), step, 0.0, of_process))

    whole = noise(0, 1)
    assert torch.equal(noise(0, 2), whole[::2])
    assert torch.equal(noise(1, 2), whole[1::2])
    assert not torch.equal(noise(0, 1, step=1), whole)
    assert abs(whole.mean()) < 0.03
    assert whole.min() < -0.99
    assert whole.max() > 0.99


def test_the_first_step_is_taken_from_the_random_start():
    network, batch = Linear(torch.ones(12)), positives(torch.zeros(3, 3, 2, 2))
    method = new_method(epsilon=0.5 * HALF_RANGE, step_size=0.01 * HALF_RANGE, random_start=True)
    expected = (0.5 * noise_of(batch) - 0.01).clamp(min=-0.5)
    torch.testing.assert_close(method.attacked(network, batch), expected)
