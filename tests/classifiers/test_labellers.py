"""Labellers: averaged networks, halves of the images, calibration, and the shift of a prior."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.labellers import (
    Labeller,
    balanced_weights,
    calibration,
    half_of_each,
    load_labeller,
    prior_of,
    prior_shift,
)
from classifiers.networks.backbones import CARD, WEIGHTS, new_backbone, save_network
from classifiers.networks.parameters import Backbone
from pipeline.errors import UserError
from tests.cards import labeller_card

SMALL = Backbone(name="small", width=8)


@pytest.fixture
def networks():
    return [new_backbone(SMALL, seed).eval() for seed in range(4)]


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_labeller_averages_the_logits_of_its_roles(networks, images):
    labeller = Labeller(networks, [None, 0, None, 1])
    with torch.inference_mode():
        alone = torch.stack([network(images) for network in networks], dim=1)
        raw = labeller.mean_logits(images)
        labeller.slope.copy_(torch.tensor([2.0, 3.0, 4.0]))
        labeller.intercept.copy_(torch.tensor([1.0, 0.0, -1.0]))
        torch.testing.assert_close(raw, torch.stack([alone[:, [0, 2]].mean(1), alone[:, 1], alone[:, 3]], 1))
        moved = raw * torch.tensor([2.0, 3.0, 4.0]) + torch.tensor([1.0, 0.0, -1.0])
        torch.testing.assert_close(labeller.with_checkers(images), moved)
        torch.testing.assert_close(labeller(images), moved[:, 0])
        assert labeller.features(images).shape == (5, 2 * 4 * 8)


def test_without_checkers_there_is_one_role(networks, images):
    labeller = Labeller(networks[:2], [None, None])
    with torch.inference_mode():
        assert labeller.with_checkers(images).shape == (5, 1)


def test_a_labeller_is_read_as_it_was_written(networks, images, tmp_path):
    labeller = Labeller(networks, [None, None, 0, 1])
    labeller.slope.copy_(torch.tensor([1.5, 0.5, 2.0]))
    card = labeller_card(SMALL, [0.25, 0.5, 0.5], labeller.halves)
    save_network(tmp_path / "Male", labeller, card)
    read, card = load_labeller(tmp_path / "Male")
    with torch.inference_mode():
        torch.testing.assert_close(read.with_checkers(images), labeller.eval().with_checkers(images))
    assert (card.threshold, card.halves) == (0.25, [None, None, 0, 1])
    assert not any(parameter.requires_grad for parameter in read.parameters())


@pytest.mark.parametrize("damage", ["weights", "card", "halves"])
def test_a_damaged_labeller_is_refused_in_one_sentence(damage, networks, tmp_path):
    save_network(tmp_path, Labeller(networks[:1], [None]), labeller_card(SMALL, [0.5]))
    if damage == "weights":
        (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-100])
    elif damage == "card":
        (tmp_path / CARD).write_text("{")
    else:  # a card of more networks than there are
        card = json.loads((tmp_path / CARD).read_text())
        (tmp_path / CARD).write_text(json.dumps(card | {"halves": [None, None]}))
    with pytest.raises(UserError, match="holds no classifier that zprime wrote"):
        load_labeller(tmp_path)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_halves_split_every_group_evenly(groups, seed):
    groups = np.array(groups)
    halves = half_of_each(groups, seed)
    assert set(halves.tolist()) <= {0, 1}
    for group in np.unique(groups):
        first, second = ((halves[groups == group] == half).sum() for half in (0, 1))
        assert abs(first - second) <= 1
    np.testing.assert_array_equal(halves, half_of_each(groups, seed))


def test_halves_depend_on_the_seed():
    groups = np.zeros(100, dtype=np.int64)
    assert (half_of_each(groups, 0) != half_of_each(groups, 1)).any()


def test_balanced_weights_give_every_group_the_same():
    np.testing.assert_allclose(balanced_weights(np.array([0, 0, 0, 3])), [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_calibration_finds_the_probabilities():
    """Logits are 40 times too large and moved by 30; the labels come from σ(x + 1) = σ(logit / 40 + 0.25)."""
    random = np.random.default_rng(0)
    x = random.normal(size=20_000) * 2
    targets = (random.random(20_000) < 1 / (1 + np.exp(-(x + 1)))).astype(np.int64)
    slope, intercept = calibration(40 * x + 30, targets, np.ones(len(x)))
    assert slope == pytest.approx(1 / 40, rel=0.05)
    assert intercept == pytest.approx(0.25, abs=0.05)


def test_calibration_follows_the_weights():
    """Positives that count three times triple the odds everywhere: an intercept of ln 3."""
    random = np.random.default_rng(0)
    x = random.normal(size=20_000) * 2
    targets = (random.random(20_000) < 1 / (1 + np.exp(-x))).astype(np.int64)
    slope, intercept = calibration(x, targets, np.where(targets == 1, 3.0, 1.0))
    assert (slope, intercept) == (pytest.approx(1, abs=0.05), pytest.approx(np.log(3), abs=0.05))


def test_calibration_stays_finite_and_never_turns_scores_around():
    parted = calibration(np.array([-5.0, -4, 4, 5]), np.array([0, 0, 1, 1]), np.ones(4))
    # Platt's smoothed targets are 1/4 and 3/4 here.
    assert 0 < parted[0] < 1
    turned = np.array([-5.0, -4, 4, 5]), np.array([1, 1, 0, 0])
    assert calibration(*turned, np.ones(4)) == (1.0, 0.0)
    assert calibration(np.ones(3), np.ones(3, dtype=np.int64), np.ones(3)) == (1.0, 0.0)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_prior_among_other_images_is_found(share):
    """Two normal classes two deviations apart: with equal priors the probability of 1 is σ(2 x)."""
    random = np.random.default_rng(1)
    x = random.normal(size=50_000) + np.where(random.random(50_000) < share, 1, -1)
    assert prior_of(1 / (1 + np.exp(-2 * x)), 0.5) == pytest.approx(share, abs=0.01)


def test_a_prior_of_scores_that_say_nothing_is_the_one_assumed():
    assert prior_of(np.full(10, 0.3), 0.3) == pytest.approx(0.3)


def test_the_shift_takes_a_calibrated_score_to_the_other_prior():
    """Bayes by hand: odds 1 under equal priors become 1/9 if one in ten is positive."""
    assert 1 / (1 + np.exp(-(0.0 + prior_shift(0.1, 0.5, 0.1)))) == pytest.approx(0.1)
    assert prior_shift(0.3, 0.3, 0.3) == 0.0


def test_a_share_is_believed_within_a_factor_of_four_of_the_real_one():
    """Real odds are 1/4: a share of nearly 0 is taken to have odds of 1/16, one of nearly 1 odds of 1."""
    assert prior_shift(1e-6, 0.5, 0.2) == pytest.approx(np.log(1 / 16))
    assert prior_shift(1 - 1e-6, 0.5, 0.2) == pytest.approx(0.0)
