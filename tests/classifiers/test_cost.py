"""The cost of a training: the images that go forward and backward through the network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classifiers.networks.backbones import new_backbone
from classifiers.networks.parameters import Backbone
from classifiers.training.batches import Batch
from classifiers.training.cost import Count, counted, first_layer
from classifiers.training.methods.base import Losses, Method
from classifiers.training.methods.erm import ERM
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.toys import Opposed, trained

STEPS, BATCH = 12, 16


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


class Featured(Method):
    """ERM by the network's features; what else it computes, a subclass says."""

    def losses(self, network: nn.Module, batch: Batch) -> Losses:
        images = self.images(network, batch)
        logits = network.last(network.features(images))[:, 0]
        return Losses((F.binary_cross_entropy_with_logits(logits, batch.targets.float()),), logits)

    def images(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        return batch.images


class Watched(Featured):
    """It looks at a quarter of the batch without gradients first."""

    def images(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            network(batch.images[:4])
        return batch.images


class Attacked(Featured):
    """It trains on images that a step along the gradient towards them made harder."""

    def images(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        images = batch.images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(images).sum(), images)
        return batch.images + 0.1 * gradient.sign()


@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [
        (ERM, BATCH, BATCH),
        (Featured, BATCH, BATCH),
        (Watched, BATCH + 4, BATCH),
        (Attacked, 2 * BATCH, 2 * BATCH),
        (Opposed, BATCH, 2 * BATCH),  # two gradients of one graph
    ],
)
@pytest.mark.parametrize("average", [0.0, 0.2])
def test_what_a_method_costs(method, forward, backward, average, accelerator, tmp_path):
    """The four evaluations, of 200 images each, do not count, whichever network they are of."""
    *_, result = trained(accelerator, tmp_path / "state.pt", method(), average=average)
    assert result.cost == {"forward": STEPS * forward, "backward": STEPS * backward}


def test_a_training_that_is_found_finished_has_its_cost(accelerator, tmp_path):
    for _ in range(2):
        *_, result = trained(accelerator, tmp_path / "state.pt")
        assert result.cost == {"forward": STEPS * BATCH, "backward": STEPS * BATCH}


def counts(count: Count) -> tuple[int, int]:
    return count.forward, count.backward


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_passes_are_counted_one_by_one_while_they_are_to_be(name):
    network, images = new_backbone(Backbone(name=name, width=8), seed=0).eval(), torch.zeros(3, 3, 32, 32)
    network(images).sum().backward()
    with counted(network) as count:
        assert counts(count) == (0, 0)
        with torch.no_grad():
            network(images)
        assert counts(count) == (3, 0)
        loss = network(images).sum()
        assert counts(count) == (6, 0)
        for expected in (3, 6):
            torch.autograd.grad(loss, [*network.parameters()], retain_graph=True)
            assert counts(count) == (6, expected)
        torch.autograd.grad(loss, [*network.last.parameters()])  # of the last layer alone
        assert counts(count) == (6, 6)
        towards = images.clone().requires_grad_(True)
        torch.autograd.grad(network(towards).sum(), towards)
        assert counts(count) == (9, 9)
        network.features(images[:1]).sum().backward()
        assert counts(count) == (10, 10)
        with torch.inference_mode():
            network(images[:0])
        assert counts(count) == (10, 10)
    network(images).sum().backward()
    assert counts(count) == (10, 10)
    assert not first_layer(network)._forward_hooks


def test_the_first_layer_is_the_one_that_sees_the_images():
    small, large = (new_backbone(Backbone(name=name, width=8), 0) for name in ("small", "resnet18"))
    assert first_layer(small) is small.stem
    assert first_layer(large) is large.network.conv1


def test_an_error_ends_the_count():
    network = new_backbone(Backbone(width=8), seed=0)
    with pytest.raises(RuntimeError), counted(network):
        network(torch.zeros(1, 5, 8, 8))
    assert not first_layer(network)._forward_hooks
