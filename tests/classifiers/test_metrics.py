"""Metrics: each against a small case counted by hand, and scikit-learn where it has it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    recall_score,
)

from classifiers.metrics import (
    accuracy,
    average_odds_difference,
    average_precision,
    balanced_accuracy,
    bias_amplification,
    bootstrap_weights,
    count_matching_threshold,
    count_table,
    difference_in_equality_of_opportunity,
    equal_opportunity_difference,
    f1_threshold,
    group_accuracies,
    group_counts,
    kl_joint,
    kl_scores,
    kl_uniform,
    positive_rates,
    reweighted_accuracy,
    statistical_parity_difference,
    worst_group_accuracy,
)

NAN = float("nan")
COUNT_METRICS = [
    accuracy,
    balanced_accuracy,
    worst_group_accuracy,
    group_accuracies,
    difference_in_equality_of_opportunity,
    bias_amplification,
    statistical_parity_difference,
    equal_opportunity_difference,
    average_odds_difference,
]

# The case that is counted by hand, [t, g, p]:   predicted 0, 1
BY_HAND = np.array([[[6.0, 2.0],  # t = 0, g = 0:   8 samples, accuracy 6/8
                     [1.0, 3.0]],  # t = 0, g = 1:  4 samples, accuracy 1/4
                    [[1.0, 1.0],  # t = 1, g = 0:   2 samples, accuracy 1/2
                     [1.0, 5.0]]])  # t = 1, g = 1: 6 samples, accuracy 5/6   # fmt: skip


def labels_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples that have these counts: targets, protected, predictions."""
    cells = np.argwhere(counts >= 0).repeat(counts.ravel().astype(int), axis=0)
    targets, protected, predictions = np.random.default_rng(0).permutation(cells).T
    return targets, protected, predictions


TARGETS, PROTECTED, PREDICTIONS = labels_of(BY_HAND)


def random_sample(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, protected groups, and scores with ties that go with the targets."""
    random = np.random.default_rng(seed)
    targets, protected = random.integers(0, 2, (2, n))
    scores = np.round(np.clip(0.3 * targets + 0.1 * protected + random.random(n) * 0.6, 0, 1), 2)
    return targets, protected, scores


# Counting


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


# Accuracies


def test_group_accuracies_and_the_worst_by_hand():
    np.testing.assert_allclose(group_accuracies(BY_HAND), [6 / 8, 1 / 4, 1 / 2, 5 / 6])
    assert worst_group_accuracy(BY_HAND) == 1 / 4


def test_accuracy_by_hand_and_as_scikit_learn_has_it():
    assert accuracy(BY_HAND) == pytest.approx((6 + 1 + 1 + 5) / 20)
    assert accuracy(BY_HAND) == pytest.approx(accuracy_score(TARGETS, PREDICTIONS))


def test_balanced_accuracy_by_hand_and_as_scikit_learn_has_it():
    assert balanced_accuracy(BY_HAND) == pytest.approx((6 / 8 + 7 / 12) / 2)  # TPR 6/8, TNR 7/12
    assert balanced_accuracy(BY_HAND) == pytest.approx(balanced_accuracy_score(TARGETS, PREDICTIONS))


def test_the_reweighted_accuracy_by_hand():
    proportions = np.array([0.5, 0.3, 0.15, 0.05])
    expected = 0.5 * 6 / 8 + 0.3 * 1 / 4 + 0.15 * 1 / 2 + 0.05 * 5 / 6
    assert reweighted_accuracy(BY_HAND, proportions) == pytest.approx(expected)
    assert reweighted_accuracy(BY_HAND, np.array([8, 4, 2, 6]) / 20) == pytest.approx(
        float(accuracy(BY_HAND))
    )


def test_an_empty_group_is_not_a_number_and_the_worst_group_ignores_it():
    counts = BY_HAND.copy()
    counts[0, 1] = 0  # the worst one
    np.testing.assert_allclose(group_accuracies(counts), [6 / 8, NAN, 1 / 2, 5 / 6])
    assert worst_group_accuracy(counts) == 1 / 2
    # The remaining groups' proportions are taken as the whole.
    expected = (0.5 * 6 / 8 + 0.15 * 1 / 2 + 0.05 * 5 / 6) / 0.7
    assert reweighted_accuracy(counts, np.array([0.5, 0.3, 0.15, 0.05])) == pytest.approx(expected)


def test_rates_of_an_empty_group_are_not_numbers():
    counts = BY_HAND.copy()
    counts[1, 0] = 0  # no positives in protected group 0: no TPR, no DEO; but a rate and an FPR
    rate, true_positive_rate, false_positive_rate = positive_rates(counts)
    np.testing.assert_allclose(rate, [2 / 8, 8 / 10])
    np.testing.assert_allclose(true_positive_rate, [NAN, 5 / 6])
    np.testing.assert_allclose(false_positive_rate, [2 / 8, 3 / 4])
    assert np.isnan(difference_in_equality_of_opportunity(counts))
    assert np.isnan(average_odds_difference(counts))
    counts[0, 0] = 0
    assert np.isnan(statistical_parity_difference(counts))
    assert np.isnan(bias_amplification(counts))


# Fairness


def test_positive_rates_by_hand():
    rate, true_positive_rate, false_positive_rate = positive_rates(BY_HAND)
    np.testing.assert_allclose(rate, [3 / 10, 8 / 10])
    np.testing.assert_allclose(true_positive_rate, [1 / 2, 5 / 6])
    np.testing.assert_allclose(false_positive_rate, [2 / 8, 3 / 4])


def test_true_positive_rates_as_scikit_learn_has_them():
    _, true_positive_rate, _ = positive_rates(BY_HAND)
    for g in (0, 1):
        members = np.equal(PROTECTED, g)
        assert true_positive_rate[g] == pytest.approx(recall_score(TARGETS[members], PREDICTIONS[members]))


def test_fairness_differences_by_hand():
    assert difference_in_equality_of_opportunity(BY_HAND) == pytest.approx(5 / 6 - 1 / 2)
    assert equal_opportunity_difference(BY_HAND) == pytest.approx(1 / 2 - 5 / 6)
    assert statistical_parity_difference(BY_HAND) == pytest.approx(3 / 10 - 8 / 10)
    assert average_odds_difference(BY_HAND) == pytest.approx(((1 / 4 - 3 / 4) + (1 / 2 - 5 / 6)) / 2)


def test_bias_amplification_by_hand():
    """P(t=1) = 8/20; P(t=1|g) = 2/10 and 6/10; P(t̂=1|g) = 3/10 and 8/10.

    g = 0: fewer positives than on average, and 0.1 more are predicted: -0.1 for t = 1 and for t = 0.
    g = 1: more positives than on average, and 0.2 more are predicted: +0.2 for both. Mean: 0.05.
    """
    assert bias_amplification(BY_HAND) == pytest.approx((-0.1 - 0.1 + 0.2 + 0.2) / 4)


def test_bias_amplification_of_correct_predictions_and_of_independent_attributes_is_zero():
    correct = BY_HAND.copy()
    correct[0, :, 0] += correct[0, :, 1]
    correct[1, :, 1] += correct[1, :, 0]
    correct[0, :, 1] = correct[1, :, 0] = 0
    assert bias_amplification(correct) == 0
    independent = np.array([[[5.0, 1.0], [10.0, 2.0]], [[1.0, 2.0], [0.0, 6.0]]])  # a third positive in both
    assert bias_amplification(independent) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_swapping_the_protected_groups_changes_the_sign_of_signed_differences_only(seed):
    counts = np.random.default_rng(seed).integers(1, 30, (2, 2, 2)).astype(float)
    swapped = counts[:, ::-1]
    for signed in (statistical_parity_difference, equal_opportunity_difference, average_odds_difference):
        assert signed(swapped) == pytest.approx(-signed(counts))
    for unsigned in (
        difference_in_equality_of_opportunity,
        bias_amplification,
        worst_group_accuracy,
        accuracy,
    ):
        assert unsigned(swapped) == pytest.approx(unsigned(counts))


@pytest.mark.parametrize("metric", COUNT_METRICS)
def test_leading_axes_are_free(metric):
    """A stack of tables gives the stack of the single results."""
    stack = np.random.default_rng(0).integers(1, 30, (3, 5, 2, 2, 2)).astype(float)
    together = metric(stack)
    for i in range(3):
        for j in range(5):
            np.testing.assert_allclose(together[i, j], metric(stack[i, j]))


# Thresholds


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 60))
def test_the_f1_threshold_is_the_best_of_all(seed, n):
    targets, _, scores = random_sample(seed, n)
    targets[0] = 1

    def f1(threshold: float) -> float:
        predicted = scores >= threshold
        return 2 * (predicted & (targets == 1)).sum() / (predicted.sum() + targets.sum())

    assert f1(f1_threshold(scores, targets)) == pytest.approx(max(f1(score) for score in scores))


def test_the_f1_threshold_has_the_f1_that_scikit_learn_says():
    targets, _, scores = random_sample(0)
    best = max(f1_score(targets, scores >= threshold) for threshold in np.unique(scores))
    assert f1_score(targets, scores >= f1_threshold(scores, targets)) == pytest.approx(best)


def test_the_f1_threshold_by_hand():
    """From 0.4 on: 3 of 3 positives among 4, F1 = 6/7; from 0.6 on: 2 among 2, F1 = 4/5."""
    scores, targets = np.array([0.9, 0.6, 0.5, 0.4, 0.1]), np.array([1, 1, 0, 1, 0])
    assert f1_threshold(scores, targets) == 0.4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(0, 60))
def test_the_count_matching_threshold_predicts_as_many_as_there_are(seed, n, positives):
    random = np.random.default_rng(seed)
    scores = random.permutation(n) / n
    targets = random.permutation(np.arange(n) < positives).astype(int)
    assert (scores >= count_matching_threshold(scores, targets)).sum() == targets.sum()


def test_the_count_matching_threshold_by_hand():
    scores, targets = np.array([0.2, 0.9, 0.4, 0.7]), np.array([1, 0, 1, 0])
    assert count_matching_threshold(scores, targets) == 0.7


# Bootstrap


def test_bootstrap_rows_sum_to_n_and_are_poisson_like():
    weights = bootstrap_weights(300, 200, np.random.default_rng(0))
    assert weights.shape == (200, 300)
    np.testing.assert_array_equal(weights.sum(axis=1), 300)
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 300) ** 300, abs=0.01)
    assert len(np.unique(weights, axis=0)) == 200
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.35)  # no sample is favoured


@pytest.mark.parametrize("metric", COUNT_METRICS)
def test_bootstrapped_count_metrics_equal_explicit_resampling(metric):
    targets, protected, scores = random_sample(0, 60)
    predictions = (scores > 0.5).astype(int)
    draws = np.random.default_rng(5).integers(60, size=(7, 60))
    weights = bootstrap_weights(60, 7, np.random.default_rng(5))
    together = metric(count_table(targets, protected, predictions, weights=weights))
    for k, drawn in enumerate(draws):
        explicit = metric(count_table(targets[drawn], protected[drawn], predictions[drawn]))
        np.testing.assert_allclose(together[k], explicit, rtol=1e-12)


def test_bootstrapped_score_metrics_equal_explicit_resampling():
    targets, protected, scores = random_sample(1, 80)
    draws = np.random.default_rng(5).integers(80, size=(7, 80))
    weights = bootstrap_weights(80, 7, np.random.default_rng(5))
    precision = average_precision(scores, targets, weights)
    divergence = kl_scores(scores, targets, protected, weights)
    assert precision.shape == divergence.shape == (7,)
    for k, drawn in enumerate(draws):
        assert precision[k] == pytest.approx(average_precision_score(targets[drawn], scores[drawn]))
        assert divergence[k] == pytest.approx(kl_scores(scores[drawn], targets[drawn], protected[drawn]))


# Average precision


def test_average_precision_by_hand():
    """Positives at ranks 1 and 3: (1 + 2/3) / 2."""
    assert average_precision(np.array([0.9, 0.5, 0.7]), np.array([1, 1, 0])) == pytest.approx(5 / 6)
    # All scores equal: one point of the curve, precision 1/2.
    assert average_precision(np.full(4, 0.3), np.array([1, 0, 0, 1])) == pytest.approx(0.5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 200), st.sampled_from([0, 1, 2, 8]))
def test_average_precision_is_scikit_learns_with_ties_and_integer_weights(seed, n, decimals):
    random = np.random.default_rng(seed)
    scores, targets = np.round(random.random(n), decimals), random.integers(0, 2, n)
    targets[0] = 1
    assert average_precision(scores, targets) == pytest.approx(average_precision_score(targets, scores))
    weights = random.integers(0, 4, n)
    weights[0] = 1
    repeated = average_precision_score(targets.repeat(weights), scores.repeat(weights))
    assert average_precision(scores, targets, weights) == pytest.approx(repeated)


def test_average_precision_without_positives_is_not_a_number():
    assert np.isnan(average_precision(np.array([0.1, 0.2]), np.array([0, 0])))


# KL of the scores


def kl_scores_by_definition(scores: np.ndarray, targets: np.ndarray, protected: np.ndarray) -> float:
    """METHODS 2 to the letter, one histogram after the other."""
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
    """Where one group has b + 1e-6 the other has 1e-6, and the reverse: Σ b ln((b + 1e-6) / 1e-6)."""
    scores = np.array([0.11, 0.91] * 2)
    targets, protected = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    bump = gaussian_filter1d(np.eye(1, 50, 25)[0], sigma=1)
    expected = (bump * np.log((bump + 1e-6) / 1e-6)).sum()
    assert kl_scores(scores, targets, protected) == pytest.approx(expected, rel=1e-6)
    assert 11 < expected < 14


def test_kl_scores_takes_the_shared_range_from_0_to_1():
    """Scores that are all near one another are near one another: no set's own range stretches them."""
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


# KL of the data


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
