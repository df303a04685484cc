"""Finishes: halves of validation, fits whose results are known, networks that are the models."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from classifiers.finishing import afr, smote
from classifiers.finishing.base import Material
from classifiers.finishing.halves import validation_halves
from classifiers.finishing.last_layer import PENALTIES, SUBSETS, balanced_fit, refit_last_layer
from classifiers.finishing.layers import fold_threshold
from classifiers.finishing.settings import AnyFinishSettings
from classifiers.networks.backbones import SmallResNet, new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.networks.parameters import Backbone
from pipeline.content.resumable import Session
from pipeline.content.seeds import generator_for
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests.classifiers.toys import toy_images

SIZES = {0: 60, 1: 41, 2: 7, 5: 2}  # of groups; 3, 4, 6 and 7 have no image


def validation_images(order: np.ndarray | None = None) -> LabelledImages:
    groups = np.repeat(list(SIZES), list(SIZES.values()))
    count = len(groups)
    order = np.arange(count) if order is None else order
    ids = np.array([f"image-{number}" for number in range(count)], dtype=object)
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    whole = LabelledImages(ids, lambda positions: images[positions], groups // 4, groups)
    return whole.subset(order)


def material_of(
    training: LabelledImages, validation: LabelledImages, select: Callable[..., float] | None = None
) -> Material:
    """What a finish may use of these images; it chooses by the accuracy unless told otherwise."""
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    fitting, selecting = validation_halves(validation, seed=0)
    session = Session("finish", accelerator, Path("state.pt"), 60.0)
    return Material(training, fitting, selecting, select or accuracy_of, 2, session, seed=0)


def accuracy_of(scores: np.ndarray, images: LabelledImages) -> float:
    return float(((scores >= 0.5) == images.targets).mean())


# Halves


def test_halves_are_disjoint_and_stratified():
    validation = validation_images()
    fitting, selecting = validation_halves(validation, seed=0)
    assert not set(fitting.ids) & set(selecting.ids)
    assert set(fitting.ids) | set(selecting.ids) == set(validation.ids)
    assert fitting.group_counts(8) == [30, 20, 3, 0, 0, 1, 0, 0]
    assert selecting.group_counts(8) == [30, 21, 4, 0, 0, 1, 0, 0]
    positions = {id: number for number, id in enumerate(validation.ids)}
    for half in (fitting, selecting):
        chosen = np.array([positions[id] for id in half.ids])
        np.testing.assert_array_equal(half.groups, validation.groups[chosen])
        np.testing.assert_array_equal(half.targets, validation.targets[chosen])
        np.testing.assert_array_equal(half.read(np.arange(len(half))), validation.read(chosen))


def test_halves_depend_on_ids_and_seed_not_on_the_order():
    fitting, _ = validation_halves(validation_images(), seed=0)
    shuffled, _ = validation_halves(validation_images(np.random.default_rng(1).permutation(110)), seed=0)
    other, _ = validation_halves(validation_images(), seed=1)
    assert set(shuffled.ids) == set(fitting.ids)
    assert set(other.ids) != set(fitting.ids)


def test_a_groups_only_image_is_in_the_half_to_select_by():
    fitting, selecting = validation_halves(validation_images(np.arange(109)), seed=0)
    assert fitting.group_counts(8) == [30, 20, 3, 0, 0, 0, 0, 0]
    assert selecting.group_counts(8) == [30, 21, 4, 0, 0, 1, 0, 0]
    none, _ = validation_halves(validation_images(np.arange(1)), seed=0)
    assert len(none) == 0


def test_a_last_layer_is_not_balanced_over_groups_that_it_never_saw():
    material = material_of(validation_images(), validation_images(np.arange(109)))
    with pytest.raises(UserError, match=r"one image of group 5, and two halves need two.*another finish"):
        refit_last_layer(SmallResNet(4), material)


# The fit


def shortcut_features(sizes: dict[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three features of groups 2 t + a: the first shows t, the second a, and the third is constant."""
    groups = np.repeat(list(sizes), list(sizes.values()))
    noise = np.random.default_rng(0).normal(0, 1, (len(groups), 2))
    features = np.column_stack([4 * (groups // 2) + 2 * noise[:, 0], 10 * (groups % 2) + noise[:, 1]])
    return np.column_stack([features + 100, np.full(len(groups), 7.0)]), groups // 2, groups


def test_a_balanced_fit_does_not_use_the_shortcut():
    """Target and shortcut are correlated in the images; logistic regression on all of them relies on it."""
    features, targets, groups = shortcut_features({0: 3000, 1: 400, 2: 400, 3: 3000})
    as_they_come = LogisticRegression(max_iter=1000).fit(features, targets).coef_[0]
    assert abs(as_they_come[1]) * 10 > 2  # logits between the groups
    weights, bias = balanced_fit(features, targets, groups, 1.0, seed=0)
    assert abs(weights[1]) * 10 < 0.4
    assert weights[2] == 0
    # Both classes are normal with variance 4, means 100 and 104: the best logit is (x - 102) * 4 / 4.
    assert weights[0] == pytest.approx(1.0, abs=0.12)
    assert 102 * weights[0] + 105 * weights[1] + bias == pytest.approx(0, abs=0.3)


def test_of_equal_groups_the_fit_is_scikit_learns():
    """Every balanced subset is then all images, and the mean of the fits is each of them."""
    features, targets, groups = shortcut_features({0: 50, 1: 50, 2: 50, 3: 50})
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, tol=1e-8))
    logits = reference.fit(features, targets).decision_function(features)
    weights, bias = balanced_fit(features, targets, groups, 0.1, seed=0)
    np.testing.assert_allclose(features @ weights + bias, logits, atol=2e-3)  # the optimiser's tolerance


def test_the_fit_is_the_mean_over_the_balanced_subsets():
    """It equals the mean of scikit-learn's decision functions on the standardised features."""
    features, targets, groups = shortcut_features({0: 90, 1: 20, 2: 12, 3: 80})
    standardised = StandardScaler().fit_transform(features)
    logits = np.zeros(len(groups))
    for subset in range(SUBSETS):
        random = generator_for(5, "subset", subset)
        members = [random.choice(np.flatnonzero(groups == g), 12, replace=False) for g in range(4)]
        drawn = np.concatenate(members)
        fit = LogisticRegression(C=0.3, max_iter=1000).fit(standardised[drawn], targets[drawn])
        logits += fit.decision_function(standardised) / SUBSETS
    weights, bias = balanced_fit(features, targets, groups, 0.3, seed=5)
    np.testing.assert_allclose(features @ weights + bias, logits, atol=1e-5)
    other, _ = balanced_fit(features, targets, groups, 0.3, seed=6)
    assert np.abs(other - weights).max() > 1e-3


def test_the_network_with_the_fit_in_its_last_layer_is_the_model():
    network = SmallResNet(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    calls = []

    def select(scores: np.ndarray, images: LabelledImages) -> float:
        """Rate the third C best, and the fifth equally."""
        assert images is material.selecting
        calls.append(scores)
        return [0.1, 0.2, 0.9, 0.3, 0.9, 0.0][len(calls) - 1]

    material = material_of(validation_images(), validation_images(), select)
    fitting, selecting, device = material.fitting, material.selecting, material.accelerator.device
    taken = refit_last_layer(network, material)["penalty"]
    assert taken == PENALTIES[2]
    assert len(calls) == len(PENALTIES)
    with torch.no_grad():
        features = network.features(images_to_tensor(fitting.read(np.arange(54)), device)).numpy()
        logits = network(images_to_tensor(fitting.read(np.arange(54)), device)).numpy()
        scores = torch.sigmoid(network(images_to_tensor(selecting.read(np.arange(56)), device)))
    weights, bias = balanced_fit(features.astype(np.float64), fitting.targets, fitting.groups, taken, seed=0)
    np.testing.assert_allclose(logits, features @ weights + bias, atol=1e-5)
    np.testing.assert_allclose(scores, calls[2], atol=1e-5)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"logit.weight", "logit.bias"}


@given(threshold=st.floats(0.01, 0.99), score=st.floats(0.01, 0.99))
def test_a_folded_threshold_is_a_half(threshold, score):
    network = SmallResNet(4)
    with torch.no_grad():
        network.last.bias.fill_(math.log(score / (1 - score)))
    fold_threshold(network, math.log(threshold / (1 - threshold)))
    folded = torch.sigmoid(network.last.bias).item()
    # Odds of the score over odds of the threshold.
    odds = score / (1 - score) * (1 - threshold) / threshold
    assert folded == pytest.approx(odds / (1 + odds), abs=1e-5)


# SMOTE


class Numbers:
    """Random numbers that are given."""

    def __init__(self, pairs: list[int], shares: list[float]) -> None:
        self.pairs, self.shares = np.array(pairs), np.array(shares)

    def integers(self, stop: int, size: int) -> np.ndarray:
        assert self.pairs.shape == (size,) and self.pairs.max() < stop
        return self.pairs

    def random(self, size: int) -> np.ndarray:
        assert self.shares.shape == (size,)
        return self.shares


def test_a_new_row_is_so_far_on_the_way_to_a_neighbour():
    """(0, 0) goes a quarter of the way to (2, 4); of three rows, the pairs are the neighbours in turn."""
    two = np.array([[0.0, 0.0], [2.0, 4.0]])
    np.testing.assert_array_equal(smote.interpolated(two, 1, Numbers([0], [0.25])), [[0.5, 1.0]])
    three = np.array([[0.0], [1.0], [10.0]])
    # Neighbours, nearest first: of 0: 1, 10; of 1: 0, 10; of 10: 1, 0.
    made = smote.interpolated(three, 6, Numbers([0, 1, 2, 3, 4, 5], [0.5] * 6))
    np.testing.assert_array_equal(made[:, 0], [0.5, 5.0, 0.5, 5.5, 5.5, 5.0])


def test_the_neighbours_are_the_nearest_of_all_pairs():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(smote.neighbours_of(rows), np.argsort(distances, axis=1)[:, :5])


@given(
    rows=arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.sampled_from([0.0, 1, 5])),
    count=st.integers(1, 20),
)
def test_rows_stay_within_their_group_even_where_rows_are_equal(rows, count):
    """With as many neighbours as there are others, and copies of a row, which are no row's self."""
    if len(rows) > 1:
        neighbours = smote.neighbours_of(rows)
        assert neighbours.shape == (len(rows), min(5, len(rows) - 1))
        for own, others in enumerate(neighbours):
            assert own not in others
            assert len(set(others)) == len(others)
    made = smote.interpolated(rows, count, np.random.default_rng(0))
    assert made.shape == (count, 2)
    assert np.all((made >= rows.min(axis=0)) & (made <= rows.max(axis=0)))


def test_all_groups_become_as_large_as_the_largest():
    """The given rows stay; new ones lie between two rows of their group; a single row is copied."""
    groups = np.array([3] * 12 + [0] * 5 + [6] * 1 + [1] * 12)
    features = np.random.default_rng(0).normal(size=(30, 4)) + 100 * groups[:, None]
    rows, of_rows = smote.evened_out(features, groups, seed=7)
    assert np.bincount(of_rows).tolist() == [12, 12, 0, 12, 0, 0, 12]
    np.testing.assert_array_equal(rows[:30], features)
    np.testing.assert_array_equal(rows[30:][of_rows[30:] == 6], np.repeat(features[17:18], 11, axis=0))
    own = features[groups == 0]
    lengths = np.linalg.norm(own[:, None] - own[None], axis=-1)
    for row in rows[30:][of_rows[30:] == 0]:
        away = np.linalg.norm(row - own, axis=-1)
        on_the_way = np.isclose(away[:, None] + away[None], lengths)
        assert on_the_way[lengths > 0].any()
    again, _ = smote.evened_out(features, groups, seed=7)
    other, _ = smote.evened_out(features, groups, seed=8)
    np.testing.assert_array_equal(again, rows)
    assert np.abs(other - rows).max() > 1e-3


def test_interpolation_is_imbalanced_learns():
    """With the same random numbers, row by row."""
    over_sampling = pytest.importorskip("imblearn.over_sampling")
    random = np.random.default_rng(0)
    rows = {0: random.normal(size=(30, 3)), 1: random.normal(size=(9, 3)), 2: random.normal(size=(4, 3))}

    class Theirs:
        """NumPy's former generator under the new one's names; imbalanced-learn seeds it for each class."""

        def __init__(self) -> None:
            self.state = np.random.RandomState(5)

        def integers(self, stop: int, size: int) -> np.ndarray:
            return self.state.randint(low=0, high=stop, size=size)

        def random(self, size: int) -> np.ndarray:
            return self.state.uniform(size=size)

    for group, count in ((1, 21), (2, 26)):
        pair = np.concatenate([rows[0], rows[group]])
        neighbours = min(5, len(rows[group]) - 1)
        theirs = over_sampling.SMOTE(k_neighbors=neighbours, random_state=5)
        expected, _ = theirs.fit_resample(pair, np.repeat([0, group], [30, len(rows[group])]))
        made = smote.interpolated(rows[group], count, Theirs())
        np.testing.assert_allclose(made, expected[len(pair) :], atol=1e-12)


def test_copies_take_part_once_and_large_groups_in_part(monkeypatch):
    images = validation_images(np.array([*range(110), 109, 108, 0, 0]))
    assert smote.images_taking_part(images, 0).group_counts(8) == validation_images().group_counts(8)
    monkeypatch.setattr(smote, "PER_GROUP", 10)
    few = smote.images_taking_part(images, 0)
    assert few.group_counts(8) == [10, 10, 7, 0, 0, 2, 0, 0]
    assert few.ids.tolist() == smote.images_taking_part(images, 0).ids.tolist()
    assert set(few.ids) != set(smote.images_taking_part(images, 1).ids)


def test_images_that_are_left_out_of_the_groups_take_no_part():
    images = toy_images(40, 0)
    known = np.arange(40) % 4 > 0
    left_out = smote.images_taking_part(replace(images, known=known), 0)
    assert left_out.ids.tolist() == images.ids[known].tolist()
    soft = replace(images, known=known, memberships=np.full((40, 4), 0.25))
    assert len(smote.images_taking_part(soft, 0)) == 40


def test_labels_that_only_choices_use_are_no_needs():
    """A table compares them with those of trainings, which all choose by validation's groups."""
    needs = {
        kind.model_fields["name"].annotation.__args__[0]: kind.needs
        for kind in get_args(get_args(AnyFinishSettings)[0])
    }
    assert needs == {
        "last_layer": {"validation"},
        "smote": {"training"},
        "afr": frozenset(),
        "random_perturbation": {"validation"},
        "layerwise": {"validation"},
        "adversarial_finetuning": {"validation"},
    }


def test_smote_refits_on_standardised_features_of_the_training_images(monkeypatch):
    network = new_backbone(Backbone(width=8), 0)
    material = material_of(toy_images(90, 0), toy_images(60, 1))
    given = []
    evened_out = smote.evened_out
    monkeypatch.setattr(smote, "evened_out", lambda *a: given.append((*a, evened_out(*a))) or given[-1][-1])
    facts = smote.refit_evened_out(network, material)
    ((features, groups, _, (rows, of_rows)),) = given
    assert len(features) == 90 and groups.tolist() == material.training.groups.tolist()
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-9)
    deviation = features.std(axis=0)  # before rows are added
    np.testing.assert_allclose(deviation[deviation > 0], 1, atol=1e-9)
    fit = LogisticRegression(C=facts["penalty"], max_iter=1000).fit(rows, of_rows // 2)
    scores = predict(network, material.training.read, 90, material.accelerator)
    np.testing.assert_allclose(scores, fit.predict_proba(features)[:, 1], atol=1e-5)


# Automatic feature reweighting


def test_weights_are_those_of_the_reference():
    weights = afr.weights_of(np.array([0.9, 0.5, 0.1]), 4.0)
    np.testing.assert_allclose(weights, [0.03280241, 0.16247141, 0.80472617], atol=5e-9)
    np.testing.assert_allclose(afr.weights_of(np.array([0.9, 0.5, 0.1]), 0.0), 1 / 3)
    assert np.isfinite(afr.weights_of(np.ones(3), 1e4)).all()


def test_descent_ends_at_the_logistic_regression():
    """Without λ at the weighted maximum of the likelihood, with it where scikit-learn's ℓ2 ends."""
    random = np.random.default_rng(0)
    rows = np.column_stack([random.normal(size=(200, 2)) * [1, 30], np.ones(200)])
    targets = (rows @ [1.0, 0.02, 0.3] + random.logistic(size=200) > 0).astype(int)
    weights = afr.weights_of(random.random(200), 2.0)
    reference = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(rows, targets, sample_weight=weights)
    found = afr.descended(rows, targets, weights, np.zeros(3), 0.0, 20_000)
    np.testing.assert_allclose(found, reference.coef_[0], rtol=1e-3)
    penalty = 0.05  # λ‖v‖² beside a sum of losses is ‖v‖² / 2 beside C times it with C = 1 / 2λ
    reference = LogisticRegression(C=1 / (2 * penalty), fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(rows, targets, sample_weight=weights)
    found = afr.descended(rows, targets, weights, np.zeros(3), penalty, 20_000)
    np.testing.assert_allclose(found, reference.coef_[0], rtol=1e-3)


def test_a_strong_penalty_keeps_the_trained_layer_and_every_step_falls():
    random = np.random.default_rng(0)
    rows, targets, start = random.normal(size=(50, 4)), random.integers(0, 2, 50), random.normal(size=4)
    weights = afr.weights_of(random.random(50), 3.0)
    near = afr.descended(rows, targets, weights, start, 1e6, 100)
    np.testing.assert_allclose(near, start, atol=1e-5)

    def total(v: np.ndarray, penalty: float) -> float:
        losses = np.logaddexp(0, -(2 * targets - 1) * (rows @ v))
        return float(weights @ losses + penalty * ((v - start) ** 2).sum())

    for penalty in (0.0, 0.01):
        after = [total(afr.descended(rows, targets, weights, start, penalty, n), penalty) for n in range(30)]
        assert np.all(np.diff(after) < 0)


def test_afr_trains_the_last_layer_on_without_groups():
    """Groups of the fitting half that are wrong, and one that it lacks, change nothing."""
    found = []
    for spoilt in (False, True):
        network = new_backbone(Backbone(width=8), 0)
        material = material_of(toy_images(20, 0), toy_images(60, 1))
        if spoilt:
            material = replace(material, fitting=replace(material.fitting, groups=np.zeros(30) - 1))
        before = predict(network, material.selecting.read, len(material.selecting), material.accelerator)
        facts = afr.reweight(network, material, steps=200)
        scores = predict(network, material.selecting.read, len(material.selecting), material.accelerator)
        found.append((facts, scores))
    assert facts["gamma"] in afr.GAMMAS and facts["penalty"] in afr.PENALTIES
    assert accuracy_of(scores, material.selecting) > accuracy_of(before, material.selecting) + 0.2
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_afr_weighs_by_the_probability_of_the_true_label(monkeypatch):
    network = new_backbone(Backbone(width=8), 0)
    material = material_of(toy_images(20, 0), toy_images(60, 1))
    fitting = material.fitting
    scores = predict(network, fitting.read, len(fitting), material.accelerator)
    seen, weights_of = [], afr.weights_of
    monkeypatch.setattr(afr, "weights_of", lambda p, gamma: seen.append(p) or weights_of(p, gamma))
    afr.reweight(network, material, steps=1)
    np.testing.assert_allclose(seen[0], np.where(fitting.targets == 1, scores, 1 - scores), atol=1e-6)


@pytest.mark.parametrize("finish", [smote.refit_evened_out, partial(afr.reweight, steps=20)])
def test_groups_that_are_absent_or_single_make_no_nan(finish):
    """Training images of three groups, one of them a single image; a group is missing where AFR fits."""
    whole = toy_images(80, 0)
    chosen = [*np.flatnonzero(whole.groups == 0), *np.flatnonzero(whole.groups == 3)]
    few = whole.subset(np.array([*chosen, np.flatnonzero(whole.groups == 1)[0]]))
    network = new_backbone(Backbone(width=8), 0)
    finish(network, material_of(few, few))
    scores = predict(network, whole.read, len(whole), material_of(few, few).accelerator)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
