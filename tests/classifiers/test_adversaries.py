"""Domain-adversarial training and adversarial de-biasing: gradients, losses and bounds by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from classifiers.networks.backbones import new_backbone
from classifiers.networks.parameters import Backbone
from classifiers.training.batches import Batch
from classifiers.training.descent import descend, new_optimizer
from classifiers.training.method_settings import Recipe
from classifiers.training.methods.adversarial_debiasing import (
    AdversarialDebiasing,
    without_the_adversarys,
)
from classifiers.training.methods.adversary import AdversaryLoss, inverse_shares
from classifiers.training.methods.base import Method
from classifiers.training.methods.domain_adversarial import (
    DomainAdversarial,
    reversed_gradient,
    rising,
)
from classifiers.training.parameters import Optimizer
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.test_methods import Processes
from tests.classifiers.toys import batch_of, context_of, settings_of, trained

EVEN = [10, 10, 10, 10]


@pytest.fixture
def accelerator():
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


def labels_of(
    groups: list[int], n_protected: int = 2, images: torch.Tensor | None = None, **changes
) -> Batch:
    """Return a batch of images with these groups."""
    of = torch.tensor(groups)
    blank = torch.zeros(len(groups), 3, 8, 8) if images is None else images
    return batch_of(blank, of // n_protected, of, **changes)


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


# The reversed gradient


def test_the_gradient_is_reversed_and_scaled_and_the_value_is_not():
    """f = 2 x with x = 3 is 6; the gradient of w = 2 is x = 3, times -0.5."""
    weight = torch.tensor(2.0, requires_grad=True)
    value = reversed_gradient(weight * 3, 0.5)
    value.backward()
    assert value.item() == 6
    assert weight.grad.item() == -1.5


def test_the_factor_rises_as_published():
    found = [rising(progress) for progress in (0, 0.1, 0.5, 1)]
    assert found == pytest.approx([0, 0.46211716, 0.98661430, 0.99990920], abs=1e-8)


class Features(nn.Module):
    """A network whose features are w times the first four values of an image; its logit is their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, -0.5, 2.0, 0.25]))
        self.last = nn.Linear(4, 1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :4] * self.weights


def gradients_of_head(method: DomainAdversarial, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the gradient of the features' weights due to the head's loss alone, and those of the head."""
    gradients = []
    for counts in (0.0, 1.0):
        network = Features()
        nn.init.zeros_(network.last.weight)  # then the other loss does not reach the features
        method.zero_grad()
        loss = method.losses(network, batch).values[0] * counts
        loss.backward()
        gradients.append(network.weights.grad)
    assert gradients[0].abs().sum() == 0
    return gradients[1], [parameter.grad.clone() for parameter in method.parameters()]


@pytest.mark.parametrize("conditional", [False, True])
def test_the_network_climbs_the_loss_that_the_head_descends(conditional):
    """At p = 0.1 the factor is 0.46211716 λ; the head's own gradient has no λ."""
    batch = labels_of([0, 3, 1, 2, 0, 3], images=noise(6), progress=0.1)

    def made(penalty: float) -> DomainAdversarial:
        return DomainAdversarial(context_of(EVEN, feature_size=4), penalty, conditional)

    network, head = Features(), made(1.0)
    features = network.features(batch.images)
    normal = F.layer_norm(features, (4,))
    y = batch.targets[:, None].float()
    inputs = torch.cat([normal, y, normal * y], dim=1) if conditional else normal
    F.cross_entropy(head.head(inputs), batch.groups % 2).backward()
    plain, of_head = network.weights.grad, [parameter.grad for parameter in head.parameters()]
    assert plain.abs().max() > 1e-4
    for penalty in (1.0, 3.0):
        found, own = gradients_of_head(made(penalty), batch)
        torch.testing.assert_close(found, -0.46211716 * penalty * plain)
        torch.testing.assert_close(own, of_head)


def test_the_head_does_not_see_how_large_features_are():
    batch = labels_of([0, 3, 1, 2], images=noise(4))
    method = DomainAdversarial(context_of(EVEN, feature_size=4))
    first, second = Features(), Features()
    with torch.no_grad():
        for network, scale in ((first, 1.0), (second, 10.0)):
            nn.init.zeros_(network.last.weight)
            nn.init.zeros_(network.last.bias)
            network.weights.mul_(scale)
    assert method.losses(first, batch).values[0].item() == pytest.approx(
        method.losses(second, batch).values[0].item(), rel=1e-4
    )


@pytest.mark.parametrize("average", [0.0, 0.2])
@pytest.mark.parametrize(
    "method",
    [
        lambda: DomainAdversarial(context_of(EVEN, feature_size=32), 0.0),
        lambda: DomainAdversarial(context_of(EVEN, feature_size=32), 0.0, conditional=True),
        lambda: AdversarialDebiasing(context_of(EVEN), alpha=0.0, projection=False),
        lambda: AdversarialDebiasing(context_of(EVEN), "demographic_parity", alpha=0.0, projection=False),
    ],
    ids=["dann", "conditional", "odds", "parity"],
)
def test_without_a_penalty_the_weights_are_those_of_erm_to_the_bit(method, average, accelerator, tmp_path):
    changes = {"optimizer": Optimizer(), "average": average}
    plain, _, of_erm = trained(accelerator, tmp_path / "erm.pt", **changes)
    network, own, result = trained(accelerator, tmp_path / "state.pt", method(), **changes)
    for name, weights in plain.state_dict().items():
        assert torch.equal(network.state_dict()[name], weights), name
    for selection, weights in of_erm.best.items():
        for name in weights:
            assert torch.equal(result.best[selection][name], weights[name]), name
    for first, last in zip(method().parameters(), own.parameters(), strict=True):
        assert not torch.equal(first, last)  # the adversary has learned all the same


@pytest.mark.parametrize(
    "method",
    [
        lambda: DomainAdversarial(context_of(EVEN, feature_size=32)),
        lambda: AdversarialDebiasing(context_of(EVEN)),
    ],
    ids=["dann", "adversarial"],
)
def test_with_a_penalty_they_are_not_and_the_history_has_the_adversarys_loss(method, accelerator, tmp_path):
    plain, _, _ = trained(accelerator, tmp_path / "erm.pt")
    network, _, result = trained(accelerator, tmp_path / "state.pt", method())
    assert not torch.equal(network.last.weight, plain.last.weight)
    for record in result.history:
        assert 0 < record["adversary_loss"] < 3
        assert 0.6 < record["adversary_bound"] <= math.log(2)


# The step of adversarial de-biasing


def test_the_step_by_hand():
    own, adversarys = [torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.0])]
    (found,) = without_the_adversarys(own, adversarys, 0.1, projection=True)
    assert found.tolist() == pytest.approx([-0.1, 4])
    (found,) = without_the_adversarys(own, adversarys, 0.1, projection=False)
    assert found.tolist() == pytest.approx([2.9, 4])


def test_the_step_of_a_matrix_by_hand():
    """⟨G, A⟩ / ⟨A, A⟩ = 5 / 2, where the sum of the matrix product would say 5."""
    own, adversarys = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    (found,) = without_the_adversarys([own], [adversarys], 1.0, projection=True)
    torch.testing.assert_close(found, torch.tensor([[1, -1.5], [-0.5, 4]]))


def test_the_projection_is_of_all_tensors_as_one_vector():
    own = [torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])]
    adversarys = [torch.tensor([[1.0, 0.0]]), torch.tensor([1.0])]
    found = without_the_adversarys(own, adversarys, 0.0, projection=True)
    assert [tensor.tolist() for tensor in found] == [[[-1, 2]], [1]]  # 4 / 2 = 2 times (1, 0, 1) less
    product = sum((step * of).sum() for step, of in zip(found, adversarys, strict=True))
    assert product.item() == 0


@pytest.mark.parametrize("projection", [False, True])
def test_without_an_adversarys_gradient_the_step_is_the_networks(projection):
    own = [torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])]
    found = without_the_adversarys(own, [torch.zeros(1, 2), torch.zeros(1)], 5.0, projection)
    assert all(torch.equal(one, other) for one, other in zip(found, own, strict=True))


@pytest.mark.parametrize("size", [1e-38, 1e-25, 1e25])
def test_gradients_whose_square_is_no_float32_are_projected(size):
    (found,) = without_the_adversarys(
        [torch.tensor([3.0, 4.0])], [torch.tensor([size, 0.0])], 0.0, projection=True
    )
    assert found.tolist() == pytest.approx([0, 4], abs=1e-5)


class Weight(nn.Module):
    """A network whose logit is a weight times the first value of an image."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, 0] * self.weight


def first_values(*values: float) -> torch.Tensor:
    images = torch.zeros(len(values), 3, 8, 8)
    images[:, 0, 0, 0] = torch.tensor(values)
    return images


def test_the_adversary_sees_the_logit_and_with_equalised_odds_the_target():
    batch = labels_of([0, 3], images=first_values(2.0, 3.0))
    for constraint, weights, expected in (
        ("demographic_parity", [[1.0], [0.0]], [2.0, 3.0]),
        ("equalized_odds", [[1.0, 10.0, 100.0, 1000.0], [0.0] * 4], [2 + 200, 3 + 30 + 1000]),
    ):
        method = AdversarialDebiasing(context_of(EVEN), constraint, "intersections")
        with torch.no_grad():
            method.adversary.weight.copy_(torch.tensor(weights))
        found = method.losses(Weight(1.0), batch).values[1].item()
        margins = [expected[0], -expected[1]]  # of the false answer over the true one: groups 0 and 1
        assert found == pytest.approx(np.mean([np.logaddexp(0, -m) for m in margins]))


def test_a_step_of_the_network_and_of_the_adversary_by_hand(accelerator):
    """z = 2 and -1 with y = a = 1 and 0; the adversary, of one attribute, is u z with u = 1.

    With w = 1: dL_P = mean of (σ(z) - y) x; L_A is the same function of u w, so that g_A = g_P. Projected,
    nothing is left of g_P; the step is α g_A, upwards.
    """
    batch = labels_of([3, 0], images=first_values(2.0, -1.0))
    network = Weight(1.0)
    method = AdversarialDebiasing(context_of(EVEN), "demographic_parity", alpha=0.5, own_rate=10.0)
    nn.init.ones_(method.adversary.weight)
    settings = settings_of(optimizer=Optimizer(name="sgd", learning_rate=1.0), weight_decay=0.0)
    descend(network, method, new_optimizer(network, method, settings), 0.1, batch, accelerator)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (2.0, -1.0)]
    gradient = ((sigmoid[0] - 1) * 2 + sigmoid[1] * -1) / 2
    assert network.weight.item() == pytest.approx(1 + 0.1 * 0.5 * gradient)
    assert method.adversary.weight.item() == pytest.approx(1 - 0.1 * 10 * gradient)


def test_alpha_rises_with_the_root_of_the_step():
    method = AdversarialDebiasing(context_of(EVEN), alpha=2.0, rising=True, projection=False)
    for progress, expected in ((0.0, 0.0), (0.25, 1.0), (0.64, 1.6)):
        method.losses(Weight(1.0), labels_of([0, 3], progress=progress))
        (found,) = method.combine([[torch.tensor(1.0)], [torch.tensor(1.0)]])
        assert found.item() == pytest.approx(1 - expected)


# The adversary's loss and its bound


def test_weights_by_hand():
    """Of target 0 there are 6 and 2 images, of target 1 only the second group: 8 / (2 · 6), 8 / (2 · 2)."""
    counts = torch.tensor([[6.0, 2.0], [0.0, 4.0]], dtype=torch.float64)
    assert inverse_shares(counts, given_target=True).tolist() == [[8 / 12, 2], [0, 1]]
    # Without the target 6 of 12 are of either group.
    assert inverse_shares(counts, given_target=False).tolist() == [[1, 1], [1, 1]]
    assert (inverse_shares(counts, True) * counts).sum() == counts.sum()


def test_the_groups_of_both_sources_are_added_up():
    context = context_of([3, 1, 0, 4, 3, 1, 0, 0])
    assert AdversaryLoss(context, "intersections", True, True).weights.tolist() == pytest.approx(
        [8 / 12, 2, 0, 1]
    )


@pytest.mark.parametrize("heads", ["attributes", "intersections"])
@pytest.mark.parametrize("given_target", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bound_is_the_least_loss_without_the_network(heads, given_target, weighted):
    """Logits for each target (or one for all) are trained on two attributes' groups; SciPy is not needed."""
    groups = [0, 0, 0, 1, 2, 3, 3, 4, 5, 5, 5, 5, 6, 7, 7, 7, 7, 7]
    batch = labels_of(groups, 4)
    loss = AdversaryLoss(
        context_of(np.bincount(groups).tolist(), n_protected=4), heads, given_target, weighted
    )
    logits = torch.zeros(2, loss.outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits[batch.targets if given_target else torch.zeros_like(batch.targets)], batch)
        value.backward()
        return value

    optimizer.step(closure)
    least = closure().item()
    assert loss.outputs == (2 if heads == "attributes" else 4)
    assert loss.figures()["adversary_bound"] == pytest.approx(least, abs=1e-4)


def test_the_bound_of_one_even_attribute_is_ln_2():
    loss = AdversaryLoss(context_of(EVEN), "attributes", True, False)
    value = loss(torch.zeros(4, 1), labels_of([0, 1, 2, 3]))
    assert value.item() == pytest.approx(math.log(2))
    assert loss.figures() == pytest.approx({"adversary_loss": math.log(2), "adversary_bound": math.log(2)})


def test_figures_are_averages_of_the_last_steps():
    """Loss ln 2 of 4 images, then 0 of 2: (0.9 · 4 ln 2 + 0) / (0.9 · 4 + 2)."""
    loss = AdversaryLoss(context_of(EVEN), "intersections", False, False)
    loss(torch.zeros(4, 2), labels_of([0, 1, 2, 3]))
    loss(torch.tensor([[99.0, 0.0], [0.0, 99.0]]), labels_of([0, 3]))
    assert loss.figures()["adversary_loss"] == pytest.approx(3.6 * math.log(2) / 5.6)


def test_several_attributes_each_have_a_logit():
    """Of four protected groups, number 2 has the bits 0 and 1: ln(1 + e³) + ln(1 + e⁻⁵)."""
    loss = AdversaryLoss(context_of([5] * 8, n_protected=4), "attributes", True, False)
    found = loss(torch.tensor([[3.0, 5.0]]), labels_of([2], 4)).item()
    assert found == pytest.approx(np.logaddexp(0, 3) + np.logaddexp(0, -5))


def test_only_known_groups_count_and_by_their_number_in_the_whole_batch():
    guesses = torch.tensor([[0.0, 1.0], [2.0, 0.0], [9.0, 0.0]])
    known = torch.tensor([True, True, False])
    loss = AdversaryLoss(context_of(EVEN), "intersections", False, False)
    expected = (np.logaddexp(0, -1) + np.logaddexp(0, -2)) / 2  # groups 1 and 0 are right
    assert loss(guesses, labels_of([1, 0, 1], known=known)).item() == pytest.approx(expected)


METHODS = {
    "dann": lambda total: DomainAdversarial(context_of([4, 16, 100, 1], feature_size=4, total=total)),
    "conditional_dann": lambda total: DomainAdversarial(
        context_of([4, 16, 100, 1], feature_size=4, total=total), conditional=True
    ),
    "parity": lambda total: AdversarialDebiasing(
        context_of([4, 16, 100, 1], total=total), "demographic_parity", "intersections"
    ),
    "odds": lambda total: AdversarialDebiasing(context_of([4, 16, 100, 1], total=total)),
}


class Linear(Features):
    """`Features` as a network."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(images))[:, 0]


def gradients_of(method: Method, batch: Batch) -> list[torch.Tensor]:
    """Return the gradients of each loss by the parameters of a network and of the method."""
    torch.manual_seed(0)
    network = Linear()
    for parameter in method.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    parameters = [*network.parameters(), *method.parameters()]
    return [
        gradient
        for loss in method.losses(network, batch).values
        for gradient in torch.autograd.grad(
            loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    ]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("split", [slice(0, 3), slice(0, 10, 2), slice(0, 1)])
@pytest.mark.parametrize("unknown", [[], [0, 1, 2], list(range(10))])
def test_gradients_summed_over_two_processes_equal_one_processs(name, split, unknown):
    """It holds even if a process sees none of a group, no known one, or another number of images."""
    groups, images, known = [0, 0, 1, 3, 0, 3, 3, 1, 0, 0], noise(10), torch.ones(10, dtype=torch.bool)
    known[unknown] = False
    whole = labels_of(groups, images=images, known=known, progress=0.5)
    mine = torch.zeros(10, dtype=torch.bool)
    mine[split] = True
    parts = [
        labels_of(
            whole.groups[part].tolist(),
            images=images[part],
            known=known[part],
            places=torch.arange(10)[part],
            size=10,
            progress=0.5,
        )
        for part in (mine, ~mine)
    ]
    processes = Processes()
    for k, part in enumerate(parts):
        gradients_of(METHODS[name](processes.recorder(k)), part)
    methods = [METHODS[name](processes.summing()) for _ in parts]
    shares = [gradients_of(method, part) for method, part in zip(methods, parts, strict=True)]
    alone = METHODS[name](lambda tensor: tensor)
    for first, second, expected in zip(*shares, gradients_of(alone, whole), strict=True):
        assert expected.isfinite().all()
        torch.testing.assert_close(first + second, expected)
    for method in methods:
        assert method.figures() == pytest.approx(alone.figures())
        assert bool(alone.figures()) == (len(unknown) < 10)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("known", [True, False])
def test_a_batch_of_one_image_trains_everything_and_leaves_no_nan(name, known, accelerator):
    """Group 2 of four groups, of which one has no images; then no group is known."""
    network, method = Linear(), METHODS[name](lambda tensor: tensor)
    first = [parameter.clone() for parameter in method.parameters()]
    optimizer = new_optimizer(network, method, settings_of(optimizer=Optimizer()))
    batch = labels_of([2], images=noise(1), known=torch.tensor([known]), progress=0.5)
    for _ in range(2):
        descend(network, method, optimizer, 0.1, batch, accelerator)
    assert all(parameter.isfinite().all() for of in (network, method) for parameter in of.parameters())
    moved = [not torch.equal(one, now) for one, now in zip(first, method.parameters(), strict=True)]
    assert any(moved) == known


def test_an_absent_group_has_no_weight_and_no_nan():
    method = DomainAdversarial(context_of([4, 0, 0, 5], feature_size=4), conditional=True)
    assert method.guess.weights.tolist() == [1, 0, 0, 1]
    assert all(
        gradient.isfinite().all() for gradient in gradients_of(method, labels_of([0, 3], images=noise(2)))
    )


def test_the_heads_first_weights_come_from_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (
        DomainAdversarial(context_of(EVEN, seed=seed)).head[0].weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# The adversary wins where the network betrays the group, and loses where it cannot


def test_features_that_are_the_target_betray_the_group_to_the_head_that_does_not_know_it(accelerator):
    """Where a = y, features that tell y tell a; the conditional head is left with nothing to guess."""
    images = first_values(*np.tile([2.0, -2.0], 32))
    groups = [3, 0] * 32
    losses = {}
    for conditional in (False, True):
        network = new_backbone(Backbone(width=8), seed=0)
        method = DomainAdversarial(
            context_of([32, 0, 0, 32], feature_size=32), 0.0, conditional, own_rate=10.0
        )
        optimizer = new_optimizer(network, method, settings_of(optimizer=Optimizer()))
        for _ in range(30):
            descend(network, method, optimizer, 3e-3, labels_of(groups, images=images), accelerator)
        losses[conditional] = SimpleNamespace(**method.figures())
    assert losses[False].adversary_bound == pytest.approx(math.log(2))
    assert losses[False].adversary_loss < 0.3
    assert losses[True].adversary_bound == pytest.approx(0, abs=1e-9)


# Settings


def test_recipes_name_the_adversaries_with_their_numbers():
    dann = Recipe(method={"name": "domain_adversarial", "penalty": 0.5, "conditional": True, "hidden": 7})
    method = dann.method.build(context_of(EVEN, feature_size=3))
    assert (method.penalty, method.conditional, method.own_rate) == (0.5, True, 5)
    assert method.head[0].weight.shape == (7, 7)
    odds = Recipe(
        method={
            "name": "adversarial_debiasing",
            "heads": "intersections",
            "alpha": 3.0,
            "rising": True,
            "projection": False,
            "own_rate": 2.0,
        }
    )
    method = odds.method.build(context_of([5] * 8, n_protected=4))
    assert (method.alpha, method.rising, method.projection, method.own_rate) == (3, True, False, 2)
    assert method.adversary.weight.shape == (4, 4)
    parity = Recipe(method={"name": "adversarial_debiasing", "constraint": "demographic_parity"})
    assert parity.method.build(context_of(EVEN)).adversary.weight.shape == (1, 1)
    assert dann.method.needs == odds.method.needs == {"training"}


def test_a_penalty_below_zero_is_refused():
    for method in (
        {"name": "domain_adversarial", "penalty": -1},
        {"name": "adversarial_debiasing", "alpha": -1},
    ):
        with pytest.raises(ValidationError, match="greater than or equal to 0"):
            Recipe(method=method)
