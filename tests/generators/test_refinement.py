"""Refined complements, on linear networks, for which the end of the descent is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from generators import refinement
from generators.parameters import ComplementRefinement
from generators.refinement import refine_complements
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

SETTINGS = ComplementRefinement(steps=400, learning_rate=0.02, batch_size=64)


@pytest.fixture
def accelerator() -> Accelerator:
    return new_accelerator(Runtime(device="cpu", precision="fp32"))


def as_image(z: torch.Tensor) -> torch.Tensor:
    """Make an image of 1 x D pixels that are the latent."""
    return z[:, None, None, :].expand(-1, 3, 1, -1)


def along(axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make a classifier that sees one coordinate of the latent."""
    return lambda images: images[:, 0, 0, axis]


def latents(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)


def test_every_classifier_is_given_its_margin(accelerator: Accelerator, monkeypatch) -> None:
    monkeypatch.setattr(refinement, "DISTANCE", 0.0)
    start = latents(50)
    wanted = np.random.default_rng(1).integers(0, 2, (50, 2))
    moved = refine_complements(as_image, [along(0), along(1)], start, wanted, SETTINGS, accelerator)
    seen = (2 * wanted - 1) * moved[:, :2]
    assert seen.min() > refinement.MARGIN - 0.05
    # Coordinates that no classifier sees stay, and so do those that are satisfied from the start.
    np.testing.assert_array_equal(moved[:, 2], start[:, 2])
    satisfied = (2 * wanted - 1) * start[:, :2] > refinement.MARGIN
    np.testing.assert_array_equal(moved[:, :2][satisfied], start[:, :2][satisfied])


def test_the_distance_holds_back(accelerator: Accelerator, monkeypatch) -> None:
    """One classifier, D = 3: 1 = d/dz of 100 · (z - 0)² / 3 at z = 3/200: there the descent ends."""
    monkeypatch.setattr(refinement, "DISTANCE", 100.0)
    settings = SETTINGS.model_copy(update={"learning_rate": 0.001})
    moved = refine_complements(
        as_image, [along(0)], np.zeros((1, 3), np.float32), np.ones((1, 1), int), settings, accelerator
    )
    np.testing.assert_allclose(moved, [[3 / 200, 0.0, 0.0]], atol=1e-3)


def test_a_latents_way_depends_on_no_other(accelerator: Accelerator) -> None:
    start, wanted = latents(33), np.ones((33, 1), int)
    settings = SETTINGS.model_copy(update={"steps": 7})
    together = refine_complements(as_image, [along(0)], start, wanted, settings, accelerator)
    apart = refine_complements(
        as_image, [along(0)], start, wanted, settings.model_copy(update={"batch_size": 5}), accelerator
    )
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_no_step_changes_nothing(accelerator: Accelerator) -> None:
    start = latents(4)
    settings = SETTINGS.model_copy(update={"steps": 0})
    moved = refine_complements(as_image, [along(0)], start, np.ones((4, 1), int), settings, accelerator)
    np.testing.assert_array_equal(moved, start)


def test_on_the_sphere_every_step_ends_there(accelerator: Accelerator, monkeypatch) -> None:
    """D = 3: moving z₀ up shortens the other coordinates equally; a latent that is satisfied stays."""
    start = np.array([[-1.0, 1.0, 1.0], [1.5, 0.5, np.sqrt(0.5)]], np.float32)
    monkeypatch.setattr(refinement, "MARGIN", 1.0)
    monkeypatch.setattr(refinement, "DISTANCE", 0.0)
    moved = refine_complements(
        as_image, [along(0)], start, np.ones((2, 1), int), SETTINGS, accelerator, on_sphere=True
    )
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.sqrt(3), rtol=1e-6)
    assert moved[0, 0] > 1.0 - 0.05
    assert moved[0, 1] == pytest.approx(moved[0, 2], abs=1e-6)
    np.testing.assert_allclose(moved[1], start[1], atol=1e-6)
