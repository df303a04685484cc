"""Metrics: each against a small case counted by hand, and scikit-learn or fairlearn where they have it."""

import math

import fairlearn.metrics as fairlearn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    recall_score,
)

from classifiers import metrics
from classifiers.metrics import (
    accuracy,
    average_odds_difference,
    average_precision,
    balanced_accuracy,
    bias_amplification,
    bootstrap_weights,
    bootstrapped,
    calibration_errors,
    count_matching_threshold,
    count_table,
    difference_in_equality_of_opportunity,
    disparate_impact,
    equal_opportunity_difference,
    f1_threshold,
    group_accuracies,
    group_counts,
    kl_joint,
    kl_scores,
    kl_scores_published,
    kl_uniform,
    median_and_deviation,
    positive_rates,
    protected_groups,
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
    disparate_impact,
]

SIGNED = [
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


def random_groups(seed: int, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, protected groups and predictions, each group with samples of both classes."""
    random = np.random.default_rng(seed)
    targets, predictions = random.integers(0, 2, (2, 300))
    protected = random.integers(0, n_groups, 300)
    targets[: 2 * n_groups] = np.repeat([0, 1], n_groups)
    protected[: 2 * n_groups] = np.tile(np.arange(n_groups), 2)
    return targets, protected, predictions


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_gaps_as_fairlearn_has_them(seed, n_groups):
    """Its differences are max - min and its ratios min / max: as ours, but that those of two have a sign."""
    targets, protected, predictions = random_groups(seed, n_groups)
    counts = count_table(targets, protected, predictions, n_groups)
    given = {"y_true": targets, "y_pred": predictions, "sensitive_features": protected}
    parity = fairlearn.demographic_parity_difference(**given)
    assert abs(statistical_parity_difference(counts)) == pytest.approx(parity)
    opportunity = fairlearn.equal_opportunity_difference(**given)
    assert abs(equal_opportunity_difference(counts)) == pytest.approx(opportunity)
    assert difference_in_equality_of_opportunity(counts) == pytest.approx(
        fairlearn.false_negative_rate_difference(**given)
    )
    impact = disparate_impact(counts)
    assert min(impact, 1 / impact) == pytest.approx(fairlearn.demographic_parity_ratio(**given))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_rates_and_accuracies_of_groups_as_fairlearn_has_them(seed, n_groups):
    targets, protected, predictions = random_groups(seed, n_groups)
    counts = count_table(targets, protected, predictions, n_groups)
    rates = {
        "rate": fairlearn.selection_rate,
        "tpr": fairlearn.true_positive_rate,
        "fpr": fairlearn.false_positive_rate,
    }
    frame = fairlearn.MetricFrame(
        metrics=rates, y_true=targets, y_pred=predictions, sensitive_features=protected
    )
    for ours, name in zip(positive_rates(counts), rates, strict=True):
        np.testing.assert_allclose(ours, frame.by_group[name].to_numpy())
    frame = fairlearn.MetricFrame(
        metrics=accuracy_score,
        y_true=targets,
        y_pred=predictions,
        sensitive_features={"target": targets, "protected": protected},
    )
    np.testing.assert_allclose(group_accuracies(counts), frame.by_group.to_numpy())
    assert worst_group_accuracy(counts) == pytest.approx(frame.group_min())


def test_average_odds_of_several_groups_as_the_largest_of_all_pairs():
    targets, protected, predictions = random_groups(0, 4)
    counts = count_table(targets, protected, predictions, 4)
    pairs = [abs(average_odds_difference(counts[:, [p, q]])) for p in range(4) for q in range(p)]
    assert average_odds_difference(counts) == pytest.approx(max(pairs))


def test_bias_amplification_of_several_groups_by_its_formula():
    targets, protected, predictions = random_groups(1, 4)
    terms = []
    for g in range(4):
        members = protected == g
        for t in (0, 1):
            share = (targets[members] == t).mean()
            change = (predictions[members] == t).mean() - share
            terms.append(np.sign(share - (targets == t).mean()) * change)
    counts = count_table(targets, protected, predictions, 4)
    assert bias_amplification(counts) == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("metric", [m for m in COUNT_METRICS if m is not group_accuracies])
def test_of_several_groups_an_empty_one_is_left_out(metric):
    counts = np.random.default_rng(0).integers(1, 30, (2, 4, 2)).astype(float)
    counts[:, 2] = 0
    assert metric(counts) == pytest.approx(metric(counts[:, [0, 1, 3]]))


@pytest.mark.parametrize(
    "metric", [m for m in COUNT_METRICS if "accurac" not in m.__name__], ids=lambda m: m.__name__
)
def test_one_group_alone_has_no_gap(metric):
    counts = np.zeros((2, 3, 2))
    counts[:, 1] = [[3, 1], [1, 3]]
    assert np.isnan(metric(counts))


def test_disparate_impact_by_hand():
    assert disparate_impact(BY_HAND) == pytest.approx((3 / 10) / (8 / 10))
    nobody = BY_HAND.copy()
    nobody[:, 1, 1] = 0  # nobody of group 1 is predicted positive
    assert np.isnan(disparate_impact(nobody))


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
    assert disparate_impact(swapped) == pytest.approx(1 / disparate_impact(counts))


@pytest.mark.parametrize("metric", COUNT_METRICS)
def test_metrics_stay_in_their_ranges_and_do_not_change_where_the_data_are_doubled(metric):
    for seed in range(20):
        counts = np.random.default_rng(seed).integers(0, 9, (2, 2, 2)).astype(float)
        value = metric(counts)
        np.testing.assert_allclose(metric(3 * counts), value)
        lowest = 0 if metric not in SIGNED else -1
        highest = 1 if metric is not disparate_impact else np.inf
        assert np.all(np.isnan(value) | ((value >= lowest) & (value <= highest)))


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


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(60, 120), st.sampled_from([1, 2, 8]))
def test_bootstrapped_score_metrics_equal_explicit_resampling(seed, n, decimals):
    targets, protected, scores = random_sample(seed, n)
    scores = np.round(scores, decimals)
    draws = np.random.default_rng(5).integers(n, size=(7, n))
    weights = bootstrap_weights(n, 7, np.random.default_rng(5))
    precision = average_precision(scores, targets, weights)
    errors = calibration_errors(scores, targets, protected, weights=weights)
    divergence = kl_scores(scores, targets, protected, weights)
    published = kl_scores_published(scores, targets, protected, weights)
    assert precision.shape == divergence.shape == published.shape == (7,)
    for k, drawn in enumerate(draws):
        of_drawn = scores[drawn], targets[drawn], protected[drawn]
        assert precision[k] == pytest.approx(average_precision_score(targets[drawn], scores[drawn]))
        np.testing.assert_allclose(errors[k], calibration_errors(*of_drawn), rtol=1e-5, atol=1e-6)
        assert divergence[k] == pytest.approx(kl_scores(*of_drawn))
        assert published[k] == pytest.approx(kl_scores_published(*of_drawn), nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_score_metrics_do_not_change_where_groups_are_swapped_or_the_data_doubled(seed, n_groups):
    random = np.random.default_rng([seed, 1])
    targets, _, scores = random_sample(seed, 400)
    protected = random.integers(0, n_groups, 400)
    renamed = random.permutation(n_groups)[protected]
    twice = np.tile(np.arange(400), 2)
    divergence = kl_scores(scores, targets, protected, None, n_groups)
    errors = calibration_errors(scores, targets, protected, n_groups)
    assert 0 <= divergence <= 13.82
    assert np.all((errors >= 0) & (errors <= 1))
    assert kl_scores(scores, targets, renamed, None, n_groups) == pytest.approx(divergence)
    np.testing.assert_allclose(
        sorted(calibration_errors(scores, targets, renamed, n_groups)), sorted(errors), atol=1e-12
    )
    assert kl_scores_published(scores, targets, renamed, None, n_groups) == pytest.approx(
        kl_scores_published(scores, targets, protected, None, n_groups)
    )
    doubled = scores[twice], targets[twice], protected[twice]
    assert kl_scores(*doubled, None, n_groups) == pytest.approx(divergence)
    np.testing.assert_allclose(calibration_errors(*doubled, n_groups), errors)
    assert average_precision(*doubled[:2]) == pytest.approx(average_precision(scores, targets))


def test_sums_in_blocks_are_the_same(monkeypatch):
    targets, protected, scores = random_sample(0, 50)
    weights = bootstrap_weights(50, 7, np.random.default_rng(0))
    at_once = kl_scores(scores, targets, protected, weights)
    monkeypatch.setattr(metrics, "BLOCK_BYTES", 4 * 200 * 8)  # 200 cells, 8 samples at a time
    np.testing.assert_array_equal(kl_scores(scores, targets, protected, weights), at_once)


def test_the_bootstrap_in_blocks_is_the_same(monkeypatch):
    _, _, scores = random_sample(0, 50)

    def means(weights):
        return {"mean": weights @ scores / 50}

    at_once = bootstrapped(means, 50, 11, np.random.default_rng(0))["mean"]
    monkeypatch.setattr(metrics, "BLOCK_BYTES", 4 * 50 * 3)
    in_blocks = bootstrapped(means, 50, 11, np.random.default_rng(0))["mean"]
    np.testing.assert_allclose(in_blocks, at_once, rtol=1e-12)
    assert at_once.shape == (11,)


def test_median_and_deviation_ignore_resamples_without_a_value():
    assert median_and_deviation(np.array([1.0, NAN, 3.0])) == (2.0, 1.0)
    assert np.isnan(median_and_deviation(np.array([NAN, NAN]))).all()


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


# Calibration


def test_calibration_errors_by_hand():
    """Bins of 1/15. Group 0: one bin, mean score 0.41, a half positive: 0.09, of both samples.

    Group 1: a score of 0.9 that is negative, and a perfect 1.0 in another bin, weighted alike: 0.45.
    """
    scores, targets = np.array([0.41, 0.41, 0.9, 1.0]), np.array([1, 0, 0, 1])
    errors = calibration_errors(scores, targets, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(errors, [0.09, 0.45])
    everyone = calibration_errors(scores, targets, np.zeros(4, dtype=int), 1)
    np.testing.assert_allclose(everyone, [(0.09 * 2 + 0.9 + 0) / 4])


def test_calibration_errors_by_definition():
    targets, protected, scores = random_sample(0, 500)
    for g, error in enumerate(calibration_errors(scores, targets, protected)):
        expected, n = 0.0, (protected == g).sum()
        for k in range(15):
            inside = (protected == g) & (scores >= k / 15) & ((scores < (k + 1) / 15) | (k == 14))
            if inside.any():
                expected += inside.sum() / n * abs(scores[inside].mean() - targets[inside].mean())
        assert error == pytest.approx(expected)


def test_calibration_error_of_an_empty_group_is_not_a_number():
    errors = calibration_errors(np.array([0.2, 0.4]), np.array([0, 1]), np.array([1, 1]))
    np.testing.assert_allclose(errors, [NAN, 0.4])  # |Σ (s - y)| / n in two bins: (0.2 + 0.6) / 2


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
    """METHODS 2: each set's own range, and integers smoothed to integers."""
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
    """Uniform on [0, 0.4] and on [0.9, 1]: nearly nothing in common, and published as nearly the same."""
    random = np.random.default_rng(0)
    targets, protected = np.repeat([0, 0, 1, 1], 2000), np.repeat([0, 1, 0, 1], 2000)
    scores = np.where(protected == 0, 0.4 * random.random(8000), 0.9 + 0.1 * random.random(8000))
    assert kl_scores_published(scores, targets, protected) < 0.05
    assert kl_scores(scores, targets, protected) > 9


def test_the_published_kl_loses_bins_with_few_samples():
    """Two scores: each set is two bins of one sample, smoothed to 0.4, rounded down to nothing."""
    scores = np.tile([0.2, 0.8], 4)
    targets, protected = np.repeat([0, 1], 4), np.repeat([0, 1, 0, 1], 2)
    assert np.isnan(kl_scores_published(scores, targets, protected))
    assert kl_scores(scores, targets, protected) == pytest.approx(0, abs=1e-9)


def test_the_published_kl_without_samples_of_a_class_is_not_a_number():
    assert np.isnan(kl_scores_published(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1]), np.array([0, 1, 0])))


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
