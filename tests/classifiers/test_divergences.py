"""KL divergences: each against its definition, written out, and small cases by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from classifiers.measures.divergences import kl_joint, kl_scores, kl_scores_published, kl_uniform
from tests.classifiers.samples import random_sample

# Of scores


def kl_scores_by_definition(scores: np.ndarray, targets: np.ndarray, protected: np.ndarray) -> float:
    """Compute METHODS 2 to the letter, one histogram after the other."""
    divergences = []
    for t in (0, 1):
        densities = []
        for g in (0, 1):
            chosen = scores[(targets == t) & (protected == g)]
            histogram = np.histogram(chosen, bins=50, range=(0, 1))[0].astype(float)
            smooth = gaussian_filter1d(histogram, sigma=1)
            densities.append(smooth / smooth.sum() + 1e-6)
        for p, q in (densities, densities[::-1]):
            divergences.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return float(np.median(divergences))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_kl_scores_equals_its_definition(seed):
    random = np.random.default_rng(seed)
    targets, protected = random.integers(0, 2, (2, 150))
    targets[:4], protected[:4] = [0, 0, 1, 1], [0, 1, 0, 1]
    scores = random.beta(1 + 2 * targets, 2 + protected)
    expected = kl_scores_by_definition(scores, targets, protected)
    assert kl_scores(scores, targets, protected) == pytest.approx(expected, rel=1e-9)


def test_kl_scores_of_identical_distributions_is_zero():
    scores = np.tile(np.random.default_rng(0).random(100), 4)
    targets, protected = np.repeat([0, 0, 1, 1], 100), np.repeat([0, 1, 0, 1], 100)
    assert kl_scores(scores, targets, protected) == pytest.approx(0, abs=1e-12)


def test_kl_scores_of_far_apart_distributions_by_hand():
    """In a bin one group has b + 1e-6 and the other 1e-6, and the reverse: Σ b ln((b + 1e-6) / 1e-6)."""
    scores = np.array([0.11, 0.91] * 2)
    targets, protected = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    bump = gaussian_filter1d(np.eye(1, 50, 25)[0], sigma=1)
    expected = (bump * np.log((bump + 1e-6) / 1e-6)).sum()
    assert kl_scores(scores, targets, protected) == pytest.approx(expected, rel=1e-6)
    assert 11 < expected < 14


def test_kl_scores_takes_the_shared_range_from_0_to_1():
    """Scores that are all close stay close: no histogram stretches its own range over the bins."""
    random = np.random.default_rng(0)
    targets, protected = random.integers(0, 2, (2, 400))
    scores = 0.5001 + 0.001 * (protected + random.random(400))
    assert kl_scores(scores, targets, protected) == pytest.approx(0, abs=1e-9)


def test_kl_scores_is_symmetric_in_the_groups_and_in_the_classes():
    targets, protected, scores = random_sample(3)
    value = kl_scores(scores, targets, protected)
    assert value > 0.01
    assert kl_scores(scores, targets, 1 - protected) == pytest.approx(value)
    assert kl_scores(scores, 1 - targets, protected) == pytest.approx(value)


def test_kl_scores_counts_the_ends_of_the_range():
    scores = np.array([0.0, 0.0, 1.0, 1.0])
    targets, protected = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert kl_scores(scores, targets, protected) == pytest.approx(0, abs=1e-12)


def test_kl_scores_without_samples_of_a_class_is_not_a_number():
    assert np.isnan(kl_scores(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1]), np.array([0, 1, 0])))


def test_kl_scores_of_several_groups_is_the_median_of_all_pairs():
    random = np.random.default_rng(0)
    targets, protected = random.integers(0, 2, 600), random.integers(0, 3, 600)
    scores = random.beta(1 + 2 * targets, 2 + protected)
    divergences = []
    for t in (0, 1):
        histograms = [
            np.histogram(scores[(targets == t) & (protected == g)], 50, (0, 1))[0].astype(float)
            for g in range(3)
        ]
        smooth = [gaussian_filter1d(h, 1) / h.sum() + 1e-6 for h in histograms]
        divergences += [
            (smooth[p] * np.log(smooth[p] / smooth[q])).sum() for p in range(3) for q in range(3) if p != q
        ]
    assert kl_scores(scores, targets, protected, None, 3) == pytest.approx(np.median(divergences))
    # A group that nobody is in changes nothing.
    assert kl_scores(scores, targets, protected, None, 4) == pytest.approx(np.median(divergences))


def published_by_definition(scores: np.ndarray, targets: np.ndarray, protected: np.ndarray) -> float:
    """Compute METHODS 2 to the letter: each set's own range, and integers smoothed to integers."""
    divergences = []
    for t in (0, 1):
        densities = []
        for g in (0, 1):
            counted = np.histogram(scores[(targets == t) & (protected == g)], bins=50)[0]
            smooth = gaussian_filter(counted, 1)
            assert smooth.dtype.kind == "i"
            densities.append(smooth / smooth.sum() + 1e-6)
        for p, q in (densities, densities[::-1]):
            divergences.append((p * np.log(p / q)).sum())
    return float(np.median(divergences))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 15]))
def test_the_published_kl_equals_its_definition(seed, decimals):
    random = np.random.default_rng(seed)
    targets, protected = random.integers(0, 2, (2, 1500))
    scores = np.round(random.beta(1 + 2 * targets, 2 + protected), decimals)
    expected = published_by_definition(scores, targets, protected)
    assert kl_scores_published(scores, targets, protected) == pytest.approx(expected, rel=1e-9)


def test_the_published_kl_cannot_tell_distributions_apart_that_differ_in_place_and_width_alone():
    """Uniform on [0, 0.4] and on [0.9, 1] do not overlap, and are published as nearly the same."""
    random = np.random.default_rng(0)
    targets, protected = np.repeat([0, 0, 1, 1], 2000), np.repeat([0, 1, 0, 1], 2000)
    scores = np.where(protected == 0, 0.4 * random.random(8000), 0.9 + 0.1 * random.random(8000))
    assert kl_scores_published(scores, targets, protected) < 0.05
    assert kl_scores(scores, targets, protected) > 9


def test_the_published_kl_loses_bins_with_few_samples():
    """With two scores each set is two bins of one sample, smoothed to 0.4, rounded down to 0."""
    scores = np.tile([0.2, 0.8], 4)
    targets, protected = np.repeat([0, 1], 4), np.repeat([0, 1, 0, 1], 2)
    assert np.isnan(kl_scores_published(scores, targets, protected))
    assert kl_scores(scores, targets, protected) == pytest.approx(0, abs=1e-9)


def test_the_published_kl_without_samples_of_a_class_is_not_a_number():
    assert np.isnan(kl_scores_published(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1]), np.array([0, 1, 0])))


# Of the labels of a data set


def test_kl_joint_by_hand():
    """Counts 4, 1, 1, 4: margins 1/2, so 0.8 ln(0.4 / 0.25) + 0.2 ln(0.1 / 0.25)."""
    expected = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    assert kl_joint(np.array([4, 1, 1, 4])) == pytest.approx(expected)
    assert kl_joint(np.array([1, 0, 0, 1])) == pytest.approx(math.log(2))  # 0 ln 0 = 0


def test_kl_joint_of_independent_attributes_is_zero():
    assert kl_joint(np.array([6, 3, 2, 1])) == pytest.approx(0, abs=1e-12)
    assert kl_joint(np.outer([5, 7], [1, 2, 3]).ravel()) == pytest.approx(0, abs=1e-12)


def test_kl_uniform_by_hand():
    expected = 0.4 * math.log(0.4 / 0.25) * 2 + 0.1 * math.log(0.1 / 0.25) * 2
    assert kl_uniform(np.array([4, 1, 1, 4])) == pytest.approx(expected)
    assert kl_uniform(np.array([5, 0, 0, 0])) == pytest.approx(math.log(4))
    assert kl_uniform(np.array([7, 7, 7, 7])) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4).filter(any))
def test_divergences_of_data_are_never_negative_and_joint_is_the_smaller(counts):
    joint, uniform = kl_joint(np.array(counts)), kl_uniform(np.array(counts))
    assert 0 <= joint <= uniform + 1e-12
