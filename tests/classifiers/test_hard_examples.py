"""Hard examples and CVaR: choices and losses by hand, ties, groups, the distribution of draws."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from classifiers.training.method_settings import Recipe
from classifiers.training.methods.base import Method
from classifiers.training.methods.cvar import CVaR
from classifiers.training.methods.hard_examples import (
    HardExamples,
    by_loss,
    by_loss_in_groups,
    in_proportion_to_loss,
)
from classifiers.training.parameters import Training
from classifiers.training.recipes import Facts, phases_of
from classifiers.training.samplers import new_sampler
from tests.classifiers.toys import TRAINING, batch_of, settings_of

LOSSES = [0.1, 2.0, 0.5, 1.4]
NO_GROUPS = torch.zeros(4, dtype=torch.long)


class FirstPixel(nn.Module):
    """A network whose logit is an image's first value times a weight of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * images[:, 0, 0, 0]


def batch_with(losses: list[float], groups: list[int] | None = None, **changes):
    """Return a batch of positives for which `FirstPixel` has these losses, and their logits."""
    logits = -torch.tensor(losses).expm1().log()
    images = torch.zeros(len(losses), 3, 2, 2)
    images[:, 0, 0, 0] = logits
    numbers = torch.tensor(groups or [3] * len(losses))
    return batch_of(images, torch.ones(len(losses), dtype=torch.long), numbers, **changes), logits


def loss_of(method: Method, losses: list[float], **changes) -> float:
    batch, _ = batch_with(losses, **changes)
    (loss,) = method.losses(FirstPixel(), batch).values
    return loss.item()


# The candidates with the highest losses


def test_the_loss_of_the_hardest_half_by_hand():
    assert loss_of(HardExamples(2, by_loss), LOSSES) == pytest.approx(1.7)
    assert loss_of(HardExamples(4, by_loss), LOSSES) == pytest.approx(2.0)
    assert loss_of(HardExamples(1, by_loss), LOSSES) == pytest.approx(1.0)


def test_only_the_chosen_images_have_a_gradient_and_the_logits_are_of_all():
    network = FirstPixel()
    batch, logits = batch_with(LOSSES)
    losses = HardExamples(2, by_loss).losses(network, batch)
    torch.testing.assert_close(losses.logits, logits)
    assert not losses.logits.requires_grad
    losses.values[0].backward()
    slopes = logits * (torch.sigmoid(logits) - 1)
    torch.testing.assert_close(network.weight.grad, (slopes[1] + slopes[3]) / 2)


def test_of_equal_losses_the_first_places_are_chosen():
    losses = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert by_loss(losses, NO_GROUPS, 0).tolist() == [1, 3, 5, 0, 2, 4]
    assert by_loss(torch.ones(1000), NO_GROUPS, 0).tolist() == list(range(1000))


def test_in_groups_the_hardest_of_each_come_first_then_the_second_ones():
    losses = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    assert by_loss_in_groups(losses, groups, 0).tolist() == [0, 3, 5, 1, 4, 2]


def test_as_many_of_each_group_are_trained_on():
    """Of three groups' twelve candidates the two hardest of each; images without a group are one more."""
    groups = [0, 0, 0, 0, 1, 1, 1, 1, 3, 3, 3, 3]
    losses = [9.0, 8.0, 7.0, 6.0, 0.4, 0.3, 0.2, 0.1, 1.0, 2.0, 3.0, 4.0]
    method = HardExamples(2, by_loss_in_groups)
    expected = [9, 8, 0.4, 0.3, 3, 4]
    assert loss_of(method, losses, groups=groups) == pytest.approx(np.mean(expected))
    known = torch.tensor([True] * 4 + [False] * 8)  # the groups of eight have no meaning
    expected = [9, 8, 7, 4, 3, 2]
    assert loss_of(method, losses, groups=groups, known=known) == pytest.approx(np.mean(expected))
    likely = {"known": known, "memberships": torch.eye(4)[groups]}  # the most likely groups count
    expected = [9, 8, 0.4, 0.3, 3, 4]
    assert loss_of(method, losses, groups=groups, **likely) == pytest.approx(np.mean(expected))


def test_a_group_with_too_few_candidates_leaves_its_places_to_the_others():
    losses = [9.0, 8.0, 7.0, 6.0, 5.0, 0.1]
    method = HardExamples(2, by_loss_in_groups)  # three places
    expected = [9, 0.1, 8]
    assert loss_of(method, losses, groups=[0] * 5 + [1]) == pytest.approx(np.mean(expected))


def test_the_first_pass_leaves_the_network_as_it_was():
    """Batch norm counts the chosen images alone, and the network goes on training."""
    network = nn.Sequential(nn.BatchNorm2d(3), FirstPixel())
    batch, _ = batch_with(LOSSES)
    HardExamples(2, by_loss).losses(network, batch)
    assert network[0].num_batches_tracked == 1
    assert network.training and network[0].training
    chosen = batch.images[[1, 3]]
    torch.testing.assert_close(network[0].running_mean, 0.1 * chosen.mean(dim=(0, 2, 3)))


def test_gradients_reach_the_network_in_reduced_precision():
    """Weights that the first pass has cast, without a graph, are cast again."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0))
    batch, _ = batch_with(LOSSES)
    with torch.autocast("cpu", torch.bfloat16):
        losses = HardExamples(2, by_loss).losses(network, batch)
    losses.values[0].backward()
    assert network[1].weight.grad.abs().sum() > 0


# Draws in proportion to the losses

DRAWS = 20_000


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    losses = torch.tensor(LOSSES, dtype=torch.float64)
    return np.array([in_proportion_to_loss(losses, NO_GROUPS, seed).tolist() for seed in range(DRAWS)])


def test_the_first_choice_is_in_proportion_to_the_losses(draws):
    shares = np.bincount(draws[:, 0]) / DRAWS
    np.testing.assert_allclose(shares, [0.025, 0.5, 0.125, 0.35], atol=0.012)


def test_two_choices_are_a_sample_without_replacement(draws):
    """The pair {i, j} has the probability p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j)."""
    p = np.array(LOSSES) / 4
    for i, j in combinations(range(4), 2):
        expected = p[i] * p[j] / (1 - p[i]) + p[i] * p[j] / (1 - p[j])
        drawn = (np.sort(draws[:, :2], axis=1) == (i, j)).all(axis=1).mean()
        assert drawn == pytest.approx(expected, abs=0.012)
    assert all(sorted(draw) == [0, 1, 2, 3] for draw in draws.tolist())


def test_a_draw_depends_on_the_seed_and_the_place_alone():
    method = HardExamples(2, in_proportion_to_loss)
    found = [loss_of(method, LOSSES, seed=seed) for seed in (0, 0, *range(1, 30))]
    assert found[0] == found[1]
    pairs = {round((one + other) / 2, 4) for one, other in combinations(LOSSES, 2)}
    assert len({round(loss, 4) for loss in found}) > 3
    assert {round(loss, 4) for loss in found} <= pairs


def test_images_without_loss_are_drawn_last():
    losses = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    for seed in range(20):
        assert in_proportion_to_loss(losses, NO_GROUPS, seed).tolist() == [2, 0, 1, 3]


# The sampler


@pytest.mark.parametrize("name", ["hardest", "hardest_in_groups", "loss_proportional"])
@pytest.mark.parametrize("sampler", ["uniform", "balanced_batches"])
def test_the_recipes_sampler_draws_the_candidates(name, sampler):
    settings: Training = settings_of()
    recipe = Recipe(method={"name": name, "candidates": 3}, sampler=sampler)
    (phase,) = phases_of(recipe, settings, TRAINING, Facts(2, 3))
    part = phase.build(lambda images: np.zeros(0))
    wanted = new_sampler(sampler, TRAINING, 3 * settings.batch_size, settings.seed)
    for step in (0, 7):
        assert part.sampler(step).tolist() == wanted(step).tolist()


# CVaR


def test_cvar_by_hand():
    """Of four images, 0.3 are 1.2: (2 + 0.2 * 1.4) / 1.2."""
    assert loss_of(CVaR(0.3), LOSSES) == pytest.approx(1.9)
    assert loss_of(CVaR(0.5), LOSSES) == pytest.approx(1.7)
    assert loss_of(CVaR(0.1), LOSSES) == pytest.approx(2.0)  # 0.4 of the worst image
    assert loss_of(CVaR(1.0), LOSSES) == pytest.approx(1.0)


def test_cvar_is_the_highest_mean_under_bounded_weights():
    """The dual form: weights of at most 1 / (α B) with the sum 1, maximised by linear programming."""
    from scipy.optimize import linprog

    losses = np.random.default_rng(0).exponential(size=11)
    for share in (0.05, 0.25, 0.5, 0.77, 1.0):
        best = linprog(-losses, A_eq=np.ones((1, 11)), b_eq=[1], bounds=(0, 1 / (share * 11)))
        assert loss_of(CVaR(share), losses.tolist()) == pytest.approx(-best.fun, rel=1e-5)


def test_the_gradient_of_cvar_is_that_of_the_worst_images():
    """Of equal losses the first places count: 1.5 of three images that are alike."""
    logits = torch.tensor([0.2, 0.2, 0.2], requires_grad=True)
    batch = batch_of(torch.zeros(3, 3, 2, 2), torch.ones(3, dtype=torch.long), torch.full((3,), 3))
    CVaR(0.5).loss(logits, batch).backward()
    slope = torch.sigmoid(torch.tensor(0.2)) - 1
    torch.testing.assert_close(logits.grad, slope * torch.tensor([1.0, 0.5, 0.0]) / 1.5)
