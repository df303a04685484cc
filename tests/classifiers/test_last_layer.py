"""The last layer refitted: halves of validation, a fit whose result is known, a network that is the model."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from classifiers.networks.backbones import SmallResNet
from classifiers.networks.images import LabelledImages
from classifiers.training.last_layer import (
    PENALTIES,
    SUBSETS,
    balanced_fit,
    refit_last_layer,
    validation_halves,
)
from pipeline.content.seeds import generator_for
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

SIZES = {0: 60, 1: 41, 2: 7, 5: 2}  # of groups; 3, 4, 6 and 7 have no image


def validation_images(order: np.ndarray | None = None) -> LabelledImages:
    groups = np.repeat(list(SIZES), list(SIZES.values()))
    count = len(groups)
    order = np.arange(count) if order is None else order
    ids = np.array([f"image-{number}" for number in range(count)], dtype=object)
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    whole = LabelledImages(ids, lambda positions: images[positions], groups // 4, groups)
    return whole.subset(order)


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


def test_a_group_of_one_image_cannot_be_halved():
    with pytest.raises(UserError, match=r"one image of group 5, and two halves need two.*last_layer none"):
        validation_halves(validation_images(np.arange(109)), seed=0)


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


# The network


def test_the_network_with_the_fit_in_its_last_layer_is_the_model():
    network = SmallResNet(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fitting, selecting = validation_halves(validation_images(), seed=0)
    accelerator = new_accelerator(Runtime(device="cpu", precision="fp32"))
    calls = []

    def select(scores: np.ndarray, images: LabelledImages) -> float:
        """Rate the third C best, and the fifth equally."""
        assert images is selecting
        calls.append(scores)
        return [0.1, 0.2, 0.9, 0.3, 0.9, 0.0][len(calls) - 1]

    taken = refit_last_layer(network, fitting, selecting, select, accelerator, seed=0)
    assert taken == PENALTIES[2]
    assert len(calls) == len(PENALTIES)
    with torch.no_grad():
        features = network.features(images_to_tensor(fitting.read(np.arange(54)), accelerator.device)).numpy()
        logits = network(images_to_tensor(fitting.read(np.arange(54)), accelerator.device)).numpy()
        scores = torch.sigmoid(network(images_to_tensor(selecting.read(np.arange(56)), accelerator.device)))
    weights, bias = balanced_fit(features.astype(np.float64), fitting.targets, fitting.groups, taken, seed=0)
    np.testing.assert_allclose(logits, features @ weights + bias, atol=1e-5)
    np.testing.assert_allclose(scores, calls[2], atol=1e-5)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"logit.weight", "logit.bias"}
