"""Counts: of groups and of predictions, by hand; weighted to other proportions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import counts as counting
from classifiers.counts import bins_of, count_table, group_counts, ratio, reweighted
from classifiers.measures.bootstrap import bootstrap_weights
from classifiers.measures.divergences import kl_scores, kl_scores_published
from classifiers.measures.metrics import calibration_errors
from pipeline.content.groups import protected_groups
from tests.classifiers.samples import BY_HAND, PREDICTIONS, PROTECTED, TARGETS, random_sample


def test_the_count_table_counts():
    np.testing.assert_array_equal(count_table(TARGETS, PROTECTED, PREDICTIONS), BY_HAND)


def test_the_count_table_counts_weights_and_more_protected_groups():
    targets, protected, predictions = np.array([0, 1, 1]), np.array([2, 0, 2]), np.array([1, 1, 0])
    counts = count_table(targets, protected, predictions, 3, weights=np.array([[1, 2, 3], [0, 5, 0]]))
    assert counts.shape == (2, 2, 3, 2)
    assert (counts[0, 0, 2, 1], counts[0, 1, 0, 1], counts[0, 1, 2, 0]) == (1, 2, 3)
    assert counts[1, 1, 0, 1] == counts[1].sum() == 5
    assert counts[0].sum() == 6


def test_group_counts_by_hand():
    np.testing.assert_array_equal(group_counts(TARGETS, PROTECTED), [8, 4, 2, 6])
    np.testing.assert_array_equal(group_counts(np.array([1]), np.array([2]), 3), [0, 0, 0, 0, 0, 1])


def test_the_groups_of_several_attributes_are_their_intersections():
    columns = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    ids, n_groups = protected_groups(columns)
    assert (ids.tolist(), n_groups) == ([0, 1, 2, 3], 4)
    np.testing.assert_array_equal(group_counts(np.array([0, 0, 1, 1]), columns), [1, 1, 0, 0, 0, 0, 1, 1])
    counts = count_table(np.array([0, 0, 1, 1]), columns, np.array([1, 0, 0, 1]))
    assert counts.shape == (2, 4, 2)
    assert counts[0, 0, 1] == counts[0, 1, 0] == counts[1, 2, 0] == counts[1, 3, 1] == 1


def test_one_column_is_the_attribute_itself():
    targets, protected, scores = random_sample(0)
    column, predictions = protected[:, None], (scores > 0.5).astype(int)
    np.testing.assert_array_equal(
        count_table(targets, column, predictions), count_table(targets, protected, predictions)
    )
    for metric in (kl_scores, kl_scores_published, calibration_errors):
        np.testing.assert_array_equal(metric(scores, targets, column), metric(scores, targets, protected))


def test_a_group_that_is_not_among_the_groups_is_refused():
    for protected in (np.array([0, 1, 2]), np.array([[0, 1], [2, 0]]), np.array([0, -1])):
        with pytest.raises(ValueError, match="not all in 0 to 1"):
            protected_groups(protected)


def test_reweighted_counts_by_hand():
    """Each group keeps its shares of right and wrong predictions; its size becomes its proportion."""
    weighted = reweighted(BY_HAND, np.array([0.4, 0.2, 0.1, 0.3]))
    np.testing.assert_allclose(weighted.ravel(), [0.3, 0.1, 0.05, 0.15, 0.05, 0.05, 0.05, 0.25])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_reweighted_groups_have_the_proportions_of_those_that_have_samples(seed, n_groups):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 4, (5, 2, n_groups, 2)).astype(float)
    counts[:, 0, 0, 0] += 1
    proportions = random.dirichlet(np.ones(2 * n_groups))
    sizes = reweighted(counts, proportions).sum(axis=-1).reshape(5, -1)
    present = (counts.sum(axis=-1) > 0).reshape(5, -1) * proportions
    np.testing.assert_allclose(sizes, present / present.sum(axis=-1, keepdims=True))


def test_where_no_group_of_the_training_data_has_samples_there_is_nothing_to_weigh():
    counts = np.zeros((2, 2, 2))
    counts[0, 0] = 5
    assert np.isnan(reweighted(counts, np.array([0.0, 0.5, 0.25, 0.25]))).all()


def test_quotients_by_zero_are_not_numbers():
    np.testing.assert_array_equal(
        ratio(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 0.0])), [0.5, np.nan, np.nan]
    )


def test_the_last_bin_has_its_upper_edge():
    assert bins_of(np.array([0.0, 0.49, 0.5, 1.0]), 2).tolist() == [0, 0, 1, 1]


def test_sums_in_blocks_are_the_same(monkeypatch):
    targets, protected, scores = random_sample(0, 50)
    weights = bootstrap_weights(50, 7, np.random.default_rng(0))
    at_once = kl_scores(scores, targets, protected, weights)
    monkeypatch.setattr(counting, "BLOCK_BYTES", 4 * 200 * 8)  # 200 cells, 8 samples at a time
    np.testing.assert_array_equal(kl_scores(scores, targets, protected, weights), at_once)
