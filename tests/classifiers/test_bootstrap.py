"""The bootstrap: its weights, its blocks, and the median and deviation of a metric."""

import numpy as np
import pytest

from classifiers.measures import bootstrap
from classifiers.measures.bootstrap import bootstrap_weights, bootstrapped, median_and_deviation
from tests.classifiers.samples import random_sample


def test_bootstrap_rows_sum_to_n_and_are_poisson_like():
    weights = bootstrap_weights(300, 200, np.random.default_rng(0))
    assert weights.shape == (200, 300)
    np.testing.assert_array_equal(weights.sum(axis=1), 300)
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 300) ** 300, abs=0.01)
    assert len(np.unique(weights, axis=0)) == 200
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.35)  # no sample is favoured


def test_the_bootstrap_in_blocks_is_the_same(monkeypatch):
    _, _, scores = random_sample(0, 50)

    def means(weights):
        return {"mean": weights @ scores / 50}

    at_once = bootstrapped(means, 50, 11, np.random.default_rng(0))["mean"]
    monkeypatch.setattr(bootstrap, "BLOCK_BYTES", 4 * 50 * 3)
    in_blocks = bootstrapped(means, 50, 11, np.random.default_rng(0))["mean"]
    np.testing.assert_allclose(in_blocks, at_once, rtol=1e-12)
    assert at_once.shape == (11,)


def test_median_and_deviation_ignore_resamples_without_a_value():
    assert median_and_deviation(np.array([1.0, np.nan, 3.0])) == (2.0, 1.0)
    assert np.isnan(median_and_deviation(np.array([np.nan, np.nan]))).all()
