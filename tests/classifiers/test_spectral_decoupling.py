"""Spectral decoupling: the numbers of the paper's code and of its formula, classes that are absent."""

import pytest
import torch

from classifiers.training.method_settings import Recipe
from classifiers.training.methods.spectral_decoupling import SpectralDecoupling
from tests.classifiers.toys import batch_of, context_of

CELEBA = (0.44, 2.5)  # γ of the paper's CelebA experiment


def loss_of(method: SpectralDecoupling, logits: list[float], targets: list[int]) -> torch.Tensor:
    labels = torch.tensor(targets)
    return method.loss(torch.tensor(logits), batch_of(torch.zeros(len(targets), 3, 2, 2), labels, 2 * labels))


def test_one_image_by_hand():
    """The cross-entropy is 0.12692801, the penalty 0.1 (2 - 2.5)²; the absent class has none, and no NaN."""
    assert loss_of(SpectralDecoupling(0.1, CELEBA), [2.0], [1]).item() == pytest.approx(0.15192801)


def test_both_classes_by_hand():
    """The mean cross-entropy is 0.22009485; the penalties are 0.1 * 0.25 and 0.1 (-1 - 0.44)²."""
    loss = loss_of(SpectralDecoupling(0.1, CELEBA), [2.0, -1.0], [1, 0])
    assert loss.item() == pytest.approx(0.45245485)


def test_the_formula_of_the_paper_by_hand():
    """With λ' = 0.1, (λ'/2) mean z² is 0.05 * 2.5; it is λ = λ'/4 in a batch with as many of both classes."""
    loss = loss_of(SpectralDecoupling(0.1 / 4, (0.0, 0.0)), [2.0, -1.0], [1, 0])
    assert loss.item() == pytest.approx(0.34509485)


def test_each_class_has_its_own_mean_whatever_its_share():
    method = SpectralDecoupling(0.5, (-1.0, 1.0))
    plain = SpectralDecoupling(0.0, (-1.0, 1.0))
    for repeats in (1, 4):
        logits, targets = [3.0] + [-2.0, 0.0] * repeats, [1] + [0, 0] * repeats
        penalty = loss_of(method, logits, targets) - loss_of(plain, logits, targets)
        assert penalty.item() == pytest.approx(0.5 * ((3 - 1) ** 2 + (1 + 1) / 2))


def test_where_a_free_logit_comes_to_rest():
    """With P(y = 1) = 0.149 and γ of CelebA the logits are -0.8415 and 2.5538: 0.5 stays a threshold."""
    method = SpectralDecoupling(0.1, CELEBA)
    logits = torch.zeros(1000, requires_grad=True)
    targets = (torch.arange(1000) < 149).long()
    batch = batch_of(torch.zeros(1000, 3, 2, 2), targets, 2 * targets)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = method.loss(logits, batch)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert logits[0].item() == pytest.approx(2.5538, abs=1e-3)
    assert logits[-1].item() == pytest.approx(-0.8415, abs=1e-3)


def test_a_recipe_has_its_numbers():
    recipe = Recipe(method={"name": "spectral_decoupling", "strength": 0.5, "targets": [-1, 2.5]})
    method = recipe.method.build(context_of([9, 9, 9, 9]))
    assert isinstance(method, SpectralDecoupling)
    assert (method.strength, method.gammas.tolist()) == (0.5, [-1.0, 2.5])
    assert recipe.method.needs == frozenset()
