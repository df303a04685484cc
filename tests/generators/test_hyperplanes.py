"""Hyperplanes: a planted plane is found again, distances and angles by hand, files that keep every bit."""

import numpy as np
import pytest

from generators.hyperplanes import (
    Hyperplane,
    angle_between,
    balanced_accuracy,
    fit_hyperplane,
    load_hyperplanes,
    save_hyperplanes,
)
from pipeline.errors import UserError


def planted(n: int, D: int, offset: float, seed: int = 0) -> tuple[Hyperplane, np.ndarray, np.ndarray]:
    """A random plane, latents, and on which side of the plane each lies."""
    random = np.random.default_rng(seed)
    normal = random.normal(size=D)
    plane = Hyperplane("planted", normal / np.linalg.norm(normal), offset)
    latents = random.normal(size=(n, D)).astype(np.float32)
    return plane, latents, (plane.distance(latents) > 0).astype(np.int64)


@pytest.mark.parametrize("offset", [0.0, 0.5, -1.2])  # at -1.2 one latent in nine is positive
def test_a_planted_plane_is_recovered_with_its_orientation(offset):
    truth, latents, labels = planted(2000, 16, offset)
    plane = fit_hyperplane("Male", latents, labels, C=1.0, seed=0)
    assert plane.attribute == "Male"
    assert angle_between(plane, truth) < 4
    assert plane.offset == pytest.approx(offset, abs=0.1)
    assert balanced_accuracy(plane, latents, labels) > 0.97
    assert plane.distance(latents)[labels == 1].mean() > 0.5 > plane.distance(latents)[labels == 0].mean()


def test_the_normal_has_unit_length():
    _, latents, labels = planted(300, 8, 0.2)
    for C in (0.01, 10.0):
        plane = fit_hyperplane("Male", latents, labels, C=C, seed=0)
        assert np.linalg.norm(plane.normal) == pytest.approx(1, abs=1e-12)


def test_opposite_labels_give_the_opposite_plane():
    _, latents, labels = planted(500, 8, 0.2)
    plane = fit_hyperplane("Male", latents, labels, C=1.0, seed=0)
    opposite = fit_hyperplane("Male", latents, 1 - labels, C=1.0, seed=0)
    assert angle_between(plane, opposite) == pytest.approx(180, abs=0.1)
    assert opposite.offset == pytest.approx(-plane.offset, abs=1e-3)


def test_fewer_latents_than_dimensions_are_separated():
    _, latents, labels = planted(40, 100, 0.0)
    plane = fit_hyperplane("Male", latents, labels, C=10.0, seed=0)
    assert balanced_accuracy(plane, latents, labels) == 1


def test_the_same_seed_fits_the_same_plane():
    _, latents, labels = planted(40, 100, 0.0)
    first, second = (fit_hyperplane("Male", latents, labels, C=1.0, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.normal, second.normal)
    assert first.offset == second.offset


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_label_is_refused_and_the_attribute_named(label):
    with pytest.raises(UserError, match=f"all 10 images.*Eyeglasses={label}"):
        fit_hyperplane("Eyeglasses", np.ones((10, 3)), np.full(10, label), C=1.0, seed=0)


def test_signed_distances_by_hand():
    plane = Hyperplane("Male", np.array([0.6, 0.8]), -1.0)
    latents = np.array([[2.0, 1.0], [0.0, 0.0], [0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(plane.distance(latents), [1.2 + 0.8 - 1, -1, 0], atol=1e-6)


def test_balanced_accuracy_by_hand():
    """Distances 1, 1, -1, -1, -1 against labels 1, 0, 1, 0, 0: TPR 1/2 and TNR 2/3."""
    plane = Hyperplane("Male", np.array([1.0]), 0.0)
    latents = np.array([[1.0], [1.0], [-1.0], [-1.0], [-1.0]])
    assert balanced_accuracy(plane, latents, np.array([1, 0, 1, 0, 0])) == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("second", "degrees"),
    [
        ((1.0, 0.0), 0),
        ((0.5, np.sqrt(0.75)), 60),
        ((0.0, 1.0), 90),
        ((-0.6, 0.8), 126.8698976),
        ((-1.0, 0.0), 180),
    ],
)
def test_angles_by_hand(second, degrees):
    first = Hyperplane("Male", np.array([1.0, 0.0]), 3.0)
    assert angle_between(first, Hyperplane("Young", np.array(second), -2.0)) == pytest.approx(
        degrees, abs=1e-5
    )


def test_files_keep_every_bit(tmp_path):
    truth, latents, labels = planted(200, 8, 0.1)
    planes = [truth, fit_hyperplane("Male", latents, labels, C=1.0, seed=0)]
    save_hyperplanes(tmp_path / "hyperplanes.json", planes)
    loaded = load_hyperplanes(tmp_path / "hyperplanes.json")
    assert set(loaded) == {"planted", "Male"}
    for plane in planes:
        read = loaded[plane.attribute]
        assert read.attribute == plane.attribute
        assert read.normal.dtype == np.float64
        np.testing.assert_array_equal(read.normal, plane.normal)
        assert read.offset == plane.offset
