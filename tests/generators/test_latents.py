"""Latents: each from (seed, purpose, number), standard normal; their projections to the sphere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.latents import BLOCK, sample_latents, to_sphere

TOTAL = 3 * BLOCK
ALL = sample_latents(0, "z", 0, TOTAL, 4)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_range_equals_that_slice_of_the_whole(data):
    start = data.draw(st.integers(0, TOTAL - 1))
    count = data.draw(st.integers(1, TOTAL - start))
    np.testing.assert_array_equal(sample_latents(0, "z", start, count, 4), ALL[start : start + count])


def test_ranges_at_the_ends_of_a_block_equal_their_slices():
    for start, count in ((0, BLOCK), (BLOCK - 1, 2), (BLOCK, BLOCK), (BLOCK, 1), (2 * BLOCK - 1, 1)):
        np.testing.assert_array_equal(sample_latents(0, "z", start, count, 4), ALL[start : start + count])


def test_seeds_purposes_and_blocks_give_different_latents():
    others = [
        sample_latents(1, "z", 0, 100, 4),
        sample_latents(0, "grid", 0, 100, 4),
        ALL[BLOCK : BLOCK + 100],
    ]
    for other in others:
        assert np.abs(np.corrcoef(ALL[:100].ravel(), other.ravel())[0, 1]) < 0.2


def test_latents_are_standard_normal():
    latents = sample_latents(5, "z", 0, 20000, 8).astype(np.float64)
    assert latents.shape == (20000, 8)
    np.testing.assert_allclose(latents.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(latents, rowvar=False), np.eye(8), atol=0.05)
    assert (latents**4).mean() == pytest.approx(3, abs=0.1)


def test_no_latent_comes_twice():
    assert len(np.unique(ALL, axis=0)) == TOTAL


def test_latents_are_float32():
    assert ALL.dtype == np.float32


def test_the_sphere_has_the_root_of_the_dimension_as_its_radius():
    latents = sample_latents(0, "z", 0, 100, 16) * 7
    on_sphere = to_sphere(latents)
    np.testing.assert_allclose(np.linalg.norm(on_sphere, axis=1), 4, rtol=1e-6)
    np.testing.assert_allclose(
        on_sphere / latents, (on_sphere / latents)[:, :1].repeat(16, axis=1), rtol=1e-5
    )
    assert (on_sphere / latents > 0).all()


def test_the_sphere_by_hand():
    """(3, 4) has length 5: (3, 4) √2 / 5."""
    expected = [[3 * 2**0.5 / 5, 4 * 2**0.5 / 5]]
    np.testing.assert_allclose(to_sphere(np.array([[3.0, 4.0]], np.float32)), expected, rtol=1e-6)


def test_latents_on_the_sphere_stay_float32():
    assert to_sphere(ALL[:3]).dtype == np.float32
