"""Parities at one threshold and φ: numbers worked by hand, and fairlearn's."""

import fairlearn.metrics as fairlearn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.counts import count_table
from classifiers.measures.bootstrap import bootstrap_weights
from classifiers.measures.evaluation import METRICS, Predictions
from classifiers.measures.measuring import group_metrics
from classifiers.measures.metrics import (
    average_odds_difference,
    balanced_accuracy,
    equal_opportunity_difference,
    statistical_parity_difference,
)
from classifiers.measures.parities import (
    EPSILON,
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    feasible,
    phi,
)
from tests.classifiers.samples import BY_HAND

# Of each group four negatives and four positives: TPR .75 and .5, FPR .25 and .5.      predicted 0, 1
CANCELLING = np.array([[[3.0, 1.0], [2.0, 2.0]], [[1.0, 3.0], [2.0, 2.0]]])
PARITIES = {
    "equalized_odds_difference": equalized_odds_difference,
    "demographic_parity_difference": demographic_parity_difference,
    "demographic_parity_ratio": demographic_parity_ratio,
}
ALL = [*PARITIES.values(), phi, feasible]


def test_signed_gaps_that_cancel_do_not_in_the_equalized_odds():
    """The numbers of MITIGATION 12: parity and average odds say that nothing is wrong."""
    assert statistical_parity_difference(CANCELLING) == 0
    assert average_odds_difference(CANCELLING) == 0
    assert equalized_odds_difference(CANCELLING) == 0.25
    assert equal_opportunity_difference(CANCELLING) == 0.25
    assert demographic_parity_difference(CANCELLING) == 0
    assert demographic_parity_ratio(CANCELLING) == 1
    assert balanced_accuracy(CANCELLING) == 0.625


def test_phi_is_the_balanced_accuracy_where_its_bias_is_small():
    assert phi(CANCELLING) == phi(CANCELLING, statistical_parity_difference) == 0.625
    assert phi(CANCELLING, equal_opportunity_difference) == 0
    assert phi(CANCELLING, equal_opportunity_difference, epsilon=0.3) == 0.625
    assert [feasible(CANCELLING), feasible(CANCELLING, equal_opportunity_difference)] == [1, 0]


def of_rates(*positives: int) -> np.ndarray:
    """Of each of two groups 20 negatives and 20 positives: so many of them are predicted 1.

    Args:
        positives: of the negatives of both groups, then of their positives.
    """
    predicted = np.array(positives, dtype=float).reshape(2, 2)
    return np.stack([20 - predicted, predicted], axis=-1)


@pytest.mark.parametrize("first", range(20))
def test_a_bias_of_epsilon_is_too_much_however_it_is_rounded(first):
    """A gap of 1/20 in TPR and in FPR: the floating-point difference is above ε, equal to it, or below."""
    for counts in (
        of_rates(first + 1, first, first + 1, first),
        of_rates(first, first + 1, first, first + 1),
    ):
        assert abs(average_odds_difference(counts)) == pytest.approx(EPSILON)
        assert feasible(counts) == 0
        assert phi(counts) == 0
        assert phi(counts, epsilon=0.0501) == balanced_accuracy(counts)
    half = of_rates(first + 1, first, 10, 10)  # a gap in FPR alone
    assert phi(half) == balanced_accuracy(half) > 0


def test_parities_by_hand():
    """Rates 3/10 and 8/10; TPR 1/2 and 5/6; FPR 2/8 and 3/4."""
    assert equalized_odds_difference(BY_HAND) == pytest.approx(3 / 4 - 2 / 8)
    assert demographic_parity_difference(BY_HAND) == pytest.approx(1 / 2)
    assert demographic_parity_ratio(BY_HAND) == pytest.approx(3 / 8)
    assert phi(BY_HAND) == 0


def random_groups(seed: int, n_groups: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, protected groups and predictions; each group has samples of both classes."""
    random = np.random.default_rng(seed)
    targets, predictions = random.integers(0, 2, (2, n))
    protected = random.integers(0, n_groups, n)
    targets[: 2 * n_groups] = np.repeat([0, 1], n_groups)
    protected[: 2 * n_groups] = np.tile(np.arange(n_groups), 2)
    return targets, protected, predictions


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_parities_as_fairlearn_has_them(seed, n_groups):
    targets, protected, predictions = random_groups(seed, n_groups)
    counts = count_table(targets, protected, predictions, n_groups)
    given = {"y_true": targets, "y_pred": predictions, "sensitive_features": protected}
    for name, parity in PARITIES.items():
        assert parity(counts) == pytest.approx(getattr(fairlearn, name)(**given)), name


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_of_resamples_they_are_what_fairlearn_has_with_weights(seed, n_groups):
    targets, protected, predictions = random_groups(seed, n_groups)
    weights = bootstrap_weights(len(targets), 3, np.random.default_rng(seed)).astype(float)
    counts = count_table(targets, protected, predictions, n_groups, weights)
    for name, parity in PARITIES.items():
        for of_resample, sample_weight in zip(parity(counts), weights, strict=True):
            given = {"y_true": targets, "y_pred": predictions, "sensitive_features": protected}
            expected = getattr(fairlearn, name)(**given, sample_weight=sample_weight)
            assert of_resample == pytest.approx(expected), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_the_order_of_the_groups_changes_nothing_and_no_signed_gap_is_larger(seed, n_groups):
    counts = np.random.default_rng(seed).integers(1, 30, (2, n_groups, 2)).astype(float)
    for parity in ALL:
        assert parity(counts[:, ::-1]) == parity(counts)
    for signed in (average_odds_difference, equal_opportunity_difference):
        assert abs(signed(counts)) <= equalized_odds_difference(counts) + 1e-12
    assert abs(statistical_parity_difference(counts)) == demographic_parity_difference(counts)


@pytest.mark.parametrize("parity", ALL, ids=lambda parity: parity.__name__)
def test_an_empty_group_is_left_out_one_alone_has_no_gap_and_leading_axes_are_free(parity):
    stack = np.random.default_rng(0).integers(1, 30, (3, 5, 2, 4, 2)).astype(float)
    each = [[parity(stack[i, j]) for j in range(5)] for i in range(3)]
    np.testing.assert_array_equal(parity(stack), each)
    without = stack.copy()
    without[..., 2, :] = 0
    np.testing.assert_array_equal(parity(without), parity(stack[..., [0, 1, 3], :]))
    without[..., 1:, :] = 0
    assert np.isnan(parity(without)).all()


def test_of_two_groups_one_without_positives_has_no_equalized_odds():
    counts = BY_HAND.copy()
    counts[1, 0] = 0
    assert np.isnan(equalized_odds_difference(counts))
    assert np.isnan(phi(counts))
    assert np.isnan(feasible(counts))
    assert phi(counts, statistical_parity_difference) == 0  # rates 2/8 and 8/10


def test_they_are_measured_at_a_half_whatever_the_matched_threshold_is():
    targets, protected = np.repeat([0, 1], 8), np.tile(np.repeat([0, 1], 4), 2)
    scores = np.array([0.9, 0.2, 0.2, 0.2, 0.9, 0.9, 0.2, 0.2, 0.9, 0.9, 0.9, 0.2, 0.9, 0.9, 0.2, 0.2])
    names = [metric.name for metric in METRICS if metric.table == "at_half"]
    for threshold in (0.1, 0.95):
        values = group_metrics(Predictions(targets, scores, protected, threshold))
        assert {name: float(values[name]) for name in names} == {
            "equalized_odds_difference": 0.25,
            "demographic_parity_difference": 0.0,
            "demographic_parity_ratio": 1.0,
            "average_odds_difference_at_half": 0.0,
            "phi": 0.625,
        }
        assert values["phi_feasible"] == 1
        assert [values["phi_statistical_parity"], values["phi_equal_opportunity"]] == [0.625, 0]
