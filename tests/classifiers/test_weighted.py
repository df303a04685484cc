"""Loss weights by group: numbers by hand and of CelebA, groups without images, the risk they estimate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from classifiers.training.method_settings import Recipe
from classifiers.training.methods.weighted import Weighted
from tests.classifiers.toys import batch_of, context_of

CELEBA = [71_629, 66_874, 22_880, 1_387]  # Blond x Male


def weights_of(counts: list[int], weights: str, n_protected: int = 2, **numbers) -> np.ndarray:
    recipe = Recipe(method={"name": "weighted", "weights": weights, **numbers})
    method = recipe.method.build(context_of(counts, n_protected=n_protected))
    assert isinstance(method, Weighted)
    return method.weights.double().numpy()


def with_sum(weights: np.ndarray, total: float) -> list[float]:
    """Scale weights to a sum, as published numbers have it."""
    return (weights * total / weights.sum()).tolist()


def test_inverse_frequency_by_hand():
    weights = weights_of([100, 10, 0, 0], "inverse")
    assert weights.tolist() == pytest.approx([110 / 200, 110 / 20, 0, 0])
    assert with_sum(weights[:2], 2) == pytest.approx([0.18181818, 1.81818182])
    expected = [0.0704, 0.0754, 0.2203, 3.634]
    assert with_sum(weights_of(CELEBA, "inverse"), 4) == pytest.approx(expected, abs=1e-4)


def test_the_effective_number_by_hand():
    """1 - 0.9^n is 0.99997344 and 0.65132156."""
    weights = weights_of([100, 10, 0, 0], "effective_number", beta=0.9)
    assert with_sum(weights[:2], 2) == pytest.approx([0.78886154, 1.21113846])
    assert weights[2:].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, [1, 1, 1, 1]),
        (0.99, [1, 1, 1, 1]),
        (0.999, [0.9232, 0.9232, 0.9232, 1.2304]),
        (0.9999, [0.3694, 0.3696, 0.4108, 2.8501]),
        (1 - 1e-12, [0.0704, 0.0754, 0.2203, 3.634]),  # as good as inverse
    ],
)
def test_the_effective_number_of_large_groups(beta, expected):
    """1 - β^n rounds to 1 for thousands of images: they are not taken for groups without any."""
    weights = weights_of(CELEBA, "effective_number", beta=beta)
    assert with_sum(weights, 4) == pytest.approx(expected, abs=1e-4)


def test_reweighing_by_hand():
    """P(y) is 0.8, 0.2; P(a) is 0.65, 0.35."""
    weights = weights_of([60, 20, 5, 15], "reweighing")
    expected = [0.8 * 0.65 / 0.6, 0.8 * 0.35 / 0.2, 0.2 * 0.65 / 0.05, 0.2 * 0.35 / 0.15]
    assert weights.tolist() == pytest.approx(expected)


def test_reweighing_with_an_absent_group_by_hand():
    """P(y) P(a) of the three groups is 0.48, 0.32, 0.08, with the sum 0.88."""
    weights = weights_of([60, 20, 0, 20], "reweighing")
    assert weights.tolist() == pytest.approx([0.8 / 0.88, 1.6 / 0.88, 0, 0.4 / 0.88])


sizes = st.integers(1, 10_000)


@given(st.lists(sizes, min_size=6, max_size=6))
def test_reweighed_images_have_independent_labels_and_the_same_marginals(counts):
    """It holds for three protected groups, and where the source is one more: 2 x 2 x 3 groups of 12."""
    table = np.array(counts).reshape(2, 3)
    weighted = table * weights_of(counts, "reweighing", n_protected=3).reshape(2, 3)
    independent = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    np.testing.assert_allclose(weighted, independent, rtol=1e-5)
    both = np.stack([table, table[::-1] + 5])  # source, target, protected group
    weighted = both * weights_of(both.ravel().tolist(), "reweighing", n_protected=3).reshape(both.shape)
    independent = both.sum(axis=(0, 2), keepdims=True) * both.sum(axis=1, keepdims=True) / both.sum()
    np.testing.assert_allclose(weighted, independent, rtol=1e-5)


@given(
    st.lists(st.integers(0, 100_000), min_size=4, max_size=4).filter(any),
    st.sampled_from(["inverse", "effective_number", "reweighing"]),
    st.floats(0, 0.999999),
)
def test_the_mean_weight_of_the_images_is_one(counts, name, beta):
    """So the learning rate means what it means for ERM; groups without images have no weight and no NaN."""
    weights = weights_of(counts, name, beta=beta)
    assert weights @ counts / sum(counts) == pytest.approx(1, rel=1e-5)
    assert ((weights > 0) == (np.array(counts) > 0)).all()


@pytest.mark.parametrize("name", ["inverse", "effective_number", "reweighing"])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_groups_of_one_size_have_weights_of_exactly_one(name, size):
    assert weights_of([size] * 4, name).tolist() == [1.0] * 4
    assert weights_of([size] * 2 + [0] * 2, name).tolist() == [1.0] * 2 + [0.0] * 2


def test_the_loss_is_the_weighted_sum_over_the_number_of_images():
    """An image whose group is not known has weight 1."""
    method = Weighted(torch.tensor([0.5, 2.0, 0.0, 3.0]))
    targets, groups = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 3, 3])
    known = torch.tensor([True, True, True, False])
    batch = batch_of(torch.zeros(4, 3, 2, 2), targets, groups, known=known)
    logits = torch.tensor([0.3, -1.0, 2.0, 0.7])
    each = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    expected = (0.5 * each[0] + 2 * each[1] + 3 * each[2] + each[3]) / 4
    assert method.loss(logits, batch).item() == pytest.approx(expected.item())


def test_inverse_frequency_is_the_mean_over_the_groups_of_their_mean_losses():
    groups = torch.tensor([0] * 50 + [1] * 7 + [3] * 3)
    logits = torch.randn(60, generator=torch.Generator().manual_seed(0))
    batch = batch_of(torch.zeros(60, 3, 2, 2), groups // 2, groups)
    method = Recipe(method={"name": "weighted"}).method.build(context_of([50, 7, 0, 3]))
    each = F.binary_cross_entropy_with_logits(logits, batch.targets.float(), reduction="none")
    means = [each[groups == group].mean().item() for group in (0, 1, 3)]
    assert method.loss(logits, batch).item() == pytest.approx(np.mean(means), rel=1e-5)
