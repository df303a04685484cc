"""Metrics: each against a small case counted by hand, and scikit-learn or fairlearn if they have it."""

import fairlearn.metrics as fairlearn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    recall_score,
)

from classifiers.counts import count_table
from classifiers.measures.bootstrap import bootstrap_weights
from classifiers.measures.divergences import kl_scores, kl_scores_published
from classifiers.measures.metrics import (
    average_odds_difference,
    balanced_accuracy,
    bias_amplification,
    bias_amplification_reweighted,
    calibration_errors,
    count_matching_threshold,
    difference_in_equality_of_opportunity,
    disparate_impact,
    equal_opportunity_difference,
    positive_rates,
    reweighted_accuracy,
    statistical_parity_difference,
)
from classifiers.selection import (
    accuracy,
    average_precision,
    f1_threshold,
    group_accuracies,
    worst_group_accuracy,
    worst_group_threshold,
)
from tests.classifiers.samples import BY_HAND, PREDICTIONS, PROTECTED, TARGETS, random_sample

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
    """Return targets, protected groups and predictions; each group has samples of both classes."""
    random = np.random.default_rng(seed)
    targets, predictions = random.integers(0, 2, (2, 300))
    protected = random.integers(0, n_groups, 300)
    targets[: 2 * n_groups] = np.repeat([0, 1], n_groups)
    protected[: 2 * n_groups] = np.tile(np.arange(n_groups), 2)
    return targets, protected, predictions


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_gaps_as_fairlearn_has_them(seed, n_groups):
    """fairlearn's differences are max - min and its ratios min / max: ours are signed for two groups."""
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


def test_the_reweighted_bias_amplification_by_hand():
    """Of the training data .4, .1, .1, .4: P(t=1) = .5; P(t=1|g) = .2 and .8.

    P(t̂=1|g=0) = .8 * 2/8 + .2 * 1/2 = .3: fewer positives than on average, .1 more are predicted: -.1 twice.
    P(t̂=1|g=1) = .2 * 3/4 + .8 * 5/6 = .817: more than on average, .017 more are predicted: +.017 twice.
    """
    proportions = np.array([0.4, 0.1, 0.1, 0.4])
    expected = (-0.1 - 0.1 + 2 * (0.15 + 4 / 6 - 0.8)) / 4
    assert bias_amplification_reweighted(BY_HAND, proportions) == pytest.approx(expected)


def test_the_reweighted_bias_amplification_has_a_value_where_the_test_groups_are_of_one_size():
    """P(t=1|g) = .2 and .8 of the training data; of group 1 all are predicted 1, of group 0 none: .2 each."""
    counts = np.array([[[10.0, 0.0], [0.0, 10.0]], [[10.0, 0.0], [0.0, 10.0]]])
    assert bias_amplification(counts) == 0
    proportions = np.array([0.4, 0.1, 0.1, 0.4])
    assert bias_amplification_reweighted(counts, proportions) == pytest.approx(0.2)
    assert bias_amplification_reweighted(counts, np.array([0.48, 0.32, 0.12, 0.08])) == 0  # independent


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_reweighted_to_its_own_proportions_a_test_set_is_as_it_was(seed, n_groups):
    counts = np.random.default_rng(seed).integers(1, 30, (2, n_groups, 2)).astype(float)
    own = counts.sum(axis=-1).ravel() / counts.sum()
    assert bias_amplification_reweighted(counts, own) == pytest.approx(bias_amplification(counts), abs=1e-12)
    assert reweighted_accuracy(counts, own) == pytest.approx(accuracy(counts))


def test_in_the_reweighted_bias_amplification_groups_without_samples_share_their_proportion():
    counts = BY_HAND.copy()
    counts[0, 1] = 0  # of protected group 1 all are positive, and 5 of 6 predicted so: 1/6 fewer, twice
    # P(t=1) = (.1 + .4) / .9 of those present; group 0 has .1 / .5 = .2, and .1 more are predicted, twice.
    reweighted = bias_amplification_reweighted(counts, np.array([0.4, 0.1, 0.1, 0.4]))
    assert reweighted == pytest.approx((-0.1 - 0.1 - 1 / 6 - 1 / 6) / 4)


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
    """Threshold 0.4: 3 of 3 positives among 4, F1 = 6/7; threshold 0.6: 2 among 2, F1 = 4/5."""
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


@pytest.mark.parametrize(
    ("scores", "positives", "threshold"),
    [
        ([0.9, 0.5, 0.5, 0.5, 0.1], 2, 0.9),  # 1 or 4 for 2
        ([0.9, 0.5, 0.5, 0.5, 0.1], 3, 0.5),  # 1 or 4 for 3
        ([0.9, 0.5, 0.5, 0.1], 2, 0.5),  # 1 or 3 for 2: the lower
        ([0.5, 0.5, 0.1], 1, 0.5),  # none or 2 for 1: the lower, that some are predicted 1
        ([0.5, 0.5, 0.5], 1, np.nextafter(0.5, 1)),  # none or 3 for 1
        ([0.5, 0.5], 0, np.nextafter(0.5, 1)),
        ([0.5, 0.5], 2, 0.5),
    ],
)
def test_the_count_matching_threshold_of_equal_scores_by_hand(scores, positives, threshold):
    targets = (np.arange(len(scores)) < positives).astype(int)
    assert count_matching_threshold(np.array(scores), targets) == threshold


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 60), st.sampled_from([0, 1, 2, 8]))
def test_no_other_cut_is_nearer_than_the_count_matching_threshold(seed, n, positives, decimals):
    random = np.random.default_rng(seed)
    scores = np.round(random.random(n), decimals)
    targets = (np.arange(n) < positives).astype(int)

    def missed(cut: float) -> int:
        return abs(int((scores >= cut).sum() - targets.sum()))

    threshold = count_matching_threshold(scores, targets)
    cuts = [*np.unique(scores), np.inf]
    assert missed(threshold) == min(map(missed, cuts))
    assert all(missed(cut) > missed(threshold) for cut in cuts if cut < threshold)  # of equally near ones


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 60))
def test_the_worst_group_threshold_is_the_best_of_all(seed, n):
    targets, protected, scores = random_sample(seed, n)
    groups = targets * 2 + protected

    def worst(threshold: float) -> float:
        right = (scores >= threshold) == targets
        return min(right[groups == group].mean() for group in np.unique(groups))

    threshold = worst_group_threshold(scores, targets, groups)
    assert worst(threshold) == pytest.approx(max(worst(score) for score in scores))


# Bootstrap


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
