"""Post-processors: numbers worked by hand, fairlearn and linear programmes, and what must always hold."""

import re
from itertools import product

import numpy as np
import pytest
from fairlearn import postprocessing as fairlearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression

from classifiers.counts import count_table
from classifiers.measures import metrics
from classifiers.measures.evaluation import Predictions
from classifiers.measures.expected_counts import expected_count_table
from classifiers.measures.measuring import group_metrics, overall_metrics
from classifiers.postprocessing import POSTPROCESSORS
from classifiers.postprocessing.applying import post_processed
from classifiers.postprocessing.calibrated_equalized_odds import CalibratedEqualizedOdds, mixing_shares
from classifiers.postprocessing.equalized_odds import EqualizedOdds, equalizing_rates
from classifiers.postprocessing.reject_option import RejectOption, counts_at, grid
from classifiers.postprocessing.threshold_optimizer import ThresholdOptimizer
from pipeline.errors import UserError

Rows = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]  # scores, targets, protected


def rows_of(seed: int, n: int = 200, n_groups: int = 2, slope: float = 0.1) -> Rows:
    """Scores that are better for group 0, with rows of both classes in every group."""
    random = np.random.default_rng(seed)
    targets, protected = random.integers(0, 2, n), random.integers(0, n_groups, n)
    cells = np.arange(2 * n_groups)
    targets[: len(cells)], protected[: len(cells)] = cells % 2, cells // 2
    scores = 0.5 + (0.25 - slope * protected) * (2 * targets - 1) + 0.15 * random.standard_normal(n)
    return np.clip(scores, 0, 1).round(2), targets, protected  # some are equal


def odds_of(
    rates: NDArray[np.float64], targets: NDArray[np.int64], protected: NDArray[np.int64]
) -> np.ndarray:
    """TPR and FPR of each group, of expected counts: [2, G]."""
    counts = expected_count_table(targets, protected, rates, int(protected.max()) + 1)
    return np.array(metrics.positive_rates(counts)[1:])


def balanced_accuracy(rates: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    return float((rates[targets == 1].mean() + 1 - rates[targets == 0].mean()) / 2)


# Expected counts


def test_expected_counts_by_hand() -> None:
    targets, protected = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    rates = np.array([0.25, 0.5, 0.75, 1.0])
    counts = expected_count_table(targets, protected, rates)
    np.testing.assert_array_equal(counts, [[[1.25, 0.75], [0, 0]], [[0.25, 0.75], [0, 1]]])
    twice_the_first = expected_count_table(targets, protected, rates, weights=np.array([[2.0, 0, 1, 1]]))
    np.testing.assert_array_equal(twice_the_first, [[[[1.5, 0.5], [0, 0]], [[0.25, 0.75], [0, 1]]]])


@pytest.mark.parametrize("weighted", [False, True])
def test_certain_predictions_are_counted_as_hard_ones(weighted: bool) -> None:
    scores, targets, protected = rows_of(0, n_groups=3)
    hard = (scores >= 0.5).astype(np.int64)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(hard))) if weighted else None
    np.testing.assert_array_equal(
        expected_count_table(targets, protected, hard.astype(float), 3, weights),
        count_table(targets, protected, hard, 3, weights),
    )


def test_expected_counts_are_the_mean_of_counts_of_random_predictions() -> None:
    _, targets, protected = rows_of(0, 60)
    random = np.random.default_rng(1)
    rates = random.random(60)
    drawn = random.random((20_000, 60)) < rates
    counts = np.mean([count_table(targets, protected, row.astype(np.int64)) for row in drawn], axis=0)
    np.testing.assert_allclose(expected_count_table(targets, protected, rates), counts, atol=0.1)


def test_positive_rates_stand_in_the_place_of_both_thresholds() -> None:
    scores, targets, protected = rows_of(0)
    rates = np.random.default_rng(1).random(len(scores))
    plain = Predictions(targets, scores, protected, threshold=0.4)
    random = Predictions(targets, scores, protected, threshold=0.4, positive_rates=rates)
    values = overall_metrics(random) | group_metrics(random)
    right = np.where(targets == 1, rates, 1 - rates)
    assert values["accuracy"] == values["accuracy_count_matched"] == pytest.approx(right.mean())
    by_group = [right[(targets == t) & (protected == g)].mean() for t in (0, 1) for g in (0, 1)]
    assert values["worst_group_accuracy"] == pytest.approx(min(by_group))
    assert values["statistical_parity_difference"] == pytest.approx(
        rates[protected == 0].mean() - rates[protected == 1].mean()
    )
    for name in ("average_precision", "calibration_error"):  # of the scores
        assert values[name] == overall_metrics(plain)[name]


def test_of_balanced_groups_bias_amplification_stays_zero_on_expected_counts() -> None:
    """Rounding of counts would give its signs ±1."""
    targets, protected = np.repeat([0, 1], 30), np.tile([0, 1], 30)
    rates = np.random.default_rng(0).random(60)
    weights = np.ones((3, 60), np.float32)
    counts = expected_count_table(targets, protected, rates, weights=weights)
    np.testing.assert_array_equal(metrics.bias_amplification(counts), [0, 0, 0])


# Reject option


def test_reject_option_by_hand() -> None:
    rule = RejectOption()
    rule.threshold, rule.margin, rule.privileged = 0.5, 0.1, 1
    scores, protected = np.array([0.1, 0.35, 0.45, 0.55, 0.65, 0.9]), np.array([1, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(rule.positive_rate(scores, protected), [0, 0, 1, 0, 1, 1])
    rule.margin = 0.0
    np.testing.assert_array_equal(rule.positive_rate(scores, protected), [0, 0, 0, 1, 1, 1])


def test_the_critical_region_is_open_below_and_closed_above() -> None:
    rule = RejectOption()
    rule.threshold, rule.margin, rule.privileged = 0.5, 0.25, 0
    scores, protected = np.array([0.25, 0.75, 0.25, 0.75]), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(rule.positive_rate(scores, protected), [0, 0, 0, 1])


@pytest.mark.parametrize("gap", ["statistical_parity", "equal_opportunity", "average_odds"])
def test_reject_option_finds_what_trying_every_candidate_finds(gap) -> None:
    scores, targets, protected = rows_of(3, 80)
    rule = RejectOption(gap).fit(scores, targets, protected)
    measure = {
        "statistical_parity": metrics.statistical_parity_difference,
        "equal_opportunity": metrics.equal_opportunity_difference,
        "average_odds": metrics.average_odds_difference,
    }[gap]
    tried, best = RejectOption(), 0.0
    for privileged, threshold, share in product((0, 1), np.linspace(0.01, 0.99, 100), np.linspace(0, 1, 50)):
        tried.privileged, tried.threshold = privileged, threshold
        tried.margin = share * min(threshold, 1 - threshold)
        predictions = tried.positive_rate(scores, protected).astype(np.int64)
        counts = count_table(targets, protected, predictions)
        if abs(measure(counts)) <= 0.05:
            best = max(best, float(metrics.balanced_accuracy(counts)))
    predictions = rule.positive_rate(scores, protected).astype(np.int64)
    counts = count_table(targets, protected, predictions)
    assert abs(measure(counts)) <= 0.05
    assert metrics.balanced_accuracy(counts) == best > 0.5


@pytest.mark.parametrize("seed", range(20))
def test_which_group_is_named_first_decides_on_no_threshold(seed) -> None:
    """Few rows with few scores: many candidates are equal, and the nearest to 0.5 is taken of both roles."""
    random = np.random.default_rng(seed)
    scores = np.round(random.random(12), 1)
    targets, protected = (np.concatenate([s, random.integers(0, 2, 8)]) for s in ([0, 1, 0, 1], [0, 0, 1, 1]))
    rule = RejectOption().fit(scores, targets, protected)
    renamed = RejectOption().fit(scores, targets, 1 - protected)
    assert (renamed.threshold, renamed.margin) == (rule.threshold, rule.margin)


def test_all_candidates_are_counted_as_their_predictions_are() -> None:
    scores, targets, protected = rows_of(4, 60)
    thresholds, margins = grid()
    assert thresholds.shape == (100,)
    assert margins.shape == (100, 50)
    assert (margins[:, 0] == 0).all()
    cuts = thresholds[:, None] + margins, thresholds[:, None] - margins
    counts = counts_at(scores, targets, protected == 0, *cuts)
    rule = RejectOption()
    rule.privileged = 0
    for row, column in np.random.default_rng(0).integers(0, (100, 50), (100, 2)):
        rule.threshold, rule.margin = thresholds[row], margins[row, column]
        predictions = rule.positive_rate(scores, protected).astype(np.int64)
        np.testing.assert_array_equal(counts[row, column], count_table(targets, protected, predictions))


def test_where_no_candidate_is_within_the_bound_the_smallest_absolute_gap_is_taken() -> None:
    """The smallest signed gap would be -1, of a rule that predicts no 1 in group 0 and all in group 1."""
    targets = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    protected = np.repeat([0, 1], 4)
    scores = np.array([1.0, 0, 0, 0, 1, 1, 0, 0])  # TPR 0.5 and 1, whatever the threshold
    thresholds, margins = grid()
    cuts = thresholds[:, None] + margins, thresholds[:, None] - margins
    gaps = metrics.equal_opportunity_difference(counts_at(scores, targets, protected == 0, *cuts))
    assert gaps.min() == -1
    rule = RejectOption("equal_opportunity").fit(scores, targets, protected)
    rates = rule.positive_rate(scores, protected)
    np.testing.assert_array_equal(rates, [1, 0, 0, 0, 1, 1, 0, 0])


def test_of_equal_candidates_the_one_next_to_plain_predictions_is_taken() -> None:
    targets, protected = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    rule = RejectOption().fit(np.array([0.1, 0.9, 0.1, 0.9]), targets, protected)
    assert rule.margin == 0
    assert rule.threshold == pytest.approx(0.5, abs=0.005)


# Equalised odds


def test_equalized_odds_by_hand() -> None:
    rates = equalizing_rates(np.array([0.9, 0.6]), np.array([0.2, 0.3]))
    np.testing.assert_allclose(rates, [[0.2142857, 0.6428571], [0, 1]], atol=1e-6)
    true = np.array([0.9, 0.6]) * rates[:, 1] + np.array([0.1, 0.4]) * rates[:, 0]
    false = np.array([0.2, 0.3]) * rates[:, 1] + np.array([0.8, 0.7]) * rates[:, 0]
    np.testing.assert_allclose(true, 0.6)
    np.testing.assert_allclose(false, 0.3)
    assert (false - true).sum() == pytest.approx(-0.6)


def test_the_balanced_error_is_minimised_where_positives_are_rare() -> None:
    """By the plain error it would be best to predict 0 always: of ten rows one is positive."""
    cells = {(1, 0): (9, 10), (0, 0): (18, 90), (1, 1): (6, 10), (0, 1): (27, 90)}  # predicted 1, of
    targets = np.concatenate([np.full(n, t) for (t, _), (_, n) in cells.items()])
    protected = np.concatenate([np.full(n, g) for (_, g), (_, n) in cells.items()])
    scores = np.concatenate([np.where(np.arange(n) < k, 0.8, 0.2) for k, n in cells.values()])
    rule = EqualizedOdds().fit(scores, targets, protected)
    np.testing.assert_allclose(rule.rates[0], [0.2142857, 0.6428571], atol=1e-6)
    np.testing.assert_allclose(rule.rates[1], [0, 1], atol=1e-9)
    odds = odds_of(rule.positive_rate(scores, protected), targets, protected)
    np.testing.assert_allclose(odds, [[0.6, 0.6], [0.3, 0.3]])


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_odds_are_equal_on_the_rows_that_equalize_them(seed: int, n_groups: int) -> None:
    scores, targets, protected = rows_of(seed, 150, n_groups)
    rates = EqualizedOdds().fit(scores, targets, protected).positive_rate(scores, protected)
    odds = odds_of(rates, targets, protected)
    np.testing.assert_allclose(odds, odds[:, :1].repeat(n_groups, axis=1), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_equalized_odds_is_as_good_as_fairlearn_on_the_same_predictions(seed: int) -> None:
    """fairlearn tries 1,000 false positive rates, so that it can be a little worse."""
    scores, targets, protected = rows_of(seed, n_groups=3)
    hard = (scores >= 0.5).astype(float)
    rates = EqualizedOdds().fit(scores, targets, protected).positive_rate(scores, protected)
    theirs = ThresholdOptimizer().fit(hard, targets, protected).positive_rate(hard, protected)
    np.testing.assert_allclose(*odds_of(theirs, targets, protected)[:, :2].T, atol=1e-9)
    assert balanced_accuracy(rates, targets) == pytest.approx(balanced_accuracy(theirs, targets), abs=2e-3)
    assert balanced_accuracy(rates, targets) >= balanced_accuracy(theirs, targets) - 1e-9


def test_a_classifier_that_is_always_wrong_is_turned_round() -> None:
    rates = equalizing_rates(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(rates, [[1, 0], [0, 1]], atol=1e-9)


def test_a_solver_that_fails_is_said(monkeypatch) -> None:
    import scipy.optimize

    class Failed:
        status, message, x = 4, "numerical difficulties", None

    monkeypatch.setattr(scipy.optimize, "linprog", lambda *_, **__: Failed())
    with pytest.raises(RuntimeError, match="numerical difficulties"):
        equalizing_rates(np.array([0.9, 0.6]), np.array([0.2, 0.3]))


# Calibrated equalised odds


def test_calibrated_equalized_odds_by_hand() -> None:
    scores = np.array([0.1, 0.3, 0.8, 0.9, 0.2, 0.6, 0.7, 0.9])
    targets, protected = np.tile([0, 0, 1, 1], 2), np.repeat([0, 1], 4)
    rule = CalibratedEqualizedOdds("fpr").fit(scores, targets, protected)
    assert rule.shares[0] == pytest.approx(0.66666667, abs=1e-8)  # (0.4 - 0.2) / (0.5 - 0.2)
    assert rule.shares[1] == 0
    assert rule.positives == {0: 0.5, 1: 0.5}
    # π = 0.5 is predicted 1: two in three predictions of group 0 are 1, the third is that of the score.
    np.testing.assert_allclose(rule.positive_rate(scores, protected), [2 / 3, 2 / 3, 1, 1, 0, 1, 1, 1])


def test_the_generalised_costs_are_equal_after_mixing() -> None:
    scores, targets, protected = rows_of(0, 400, 3, slope=0.05)
    for cost in ("fpr", "fnr", "weighted"):
        rule = CalibratedEqualizedOdds(cost).fit(scores, targets, protected)
        costs = []
        for group, share in rule.shares.items():
            members, pi = protected == group, rule.positives[group]
            mixed = (1 - share) * scores[members] + share * pi
            negative, positive = (mixed[targets[members] == t].mean() for t in (0, 1))
            weighted = (negative * (1 - pi) + (1 - positive) * pi) / 2
            costs.append({"fpr": negative, "fnr": 1 - positive, "weighted": weighted}[cost])
        assert min(rule.shares.values()) == 0
        assert max(rule.shares.values()) > 0.1
        np.testing.assert_allclose(costs, costs[0])


def test_shares_are_clipped_and_never_undefined() -> None:
    # Trivially 0.5: the first group would need 0.5 / 0.3 of its scores replaced.
    np.testing.assert_array_equal(mixing_shares(np.array([0.2, 0.7]), np.array([0.5, 0.5])), [1, 0])
    # 0/0: both are as good as the constant score; and 0.1/0 and less: replacing brings nothing.
    np.testing.assert_array_equal(mixing_shares(np.array([0.5, 0.5]), np.array([0.5, 0.5])), [0, 0])
    np.testing.assert_array_equal(
        mixing_shares(np.array([0.5, 0.6, 0.4]), np.array([0.5, 0.9, 0.3])), [0, 0, 0]
    )


# Threshold optimizer


def test_the_threshold_optimizer_is_fairlearns() -> None:
    random = np.random.default_rng(0)
    features, protected = random.standard_normal((300, 3)), random.integers(0, 3, 300)
    targets = (features[:, 0] + 0.7 * protected + random.standard_normal(300) > 0.5).astype(np.int64)
    model = LogisticRegression().fit(features, targets)
    scores = model.predict_proba(features)[:, 1]
    fitted, applied = slice(0, 200), slice(200, 300)
    for constraint in ("equalized_odds", "demographic_parity"):
        rule = ThresholdOptimizer(constraint).fit(scores[fitted], targets[fitted], protected[fitted])
        theirs = fairlearn.ThresholdOptimizer(
            estimator=model, constraints=constraint, objective="balanced_accuracy_score", prefit=True,
            predict_method="predict_proba",
        ).fit(features[fitted], targets[fitted], sensitive_features=protected[fitted])  # fmt: skip
        expected = theirs._pmf_predict(features[applied], sensitive_features=protected[applied])[:, 1]
        np.testing.assert_allclose(
            rule.positive_rate(scores[applied], protected[applied]), expected, atol=1e-12
        )
    # What its own random predictions are, on average.
    drawn = [
        theirs.predict(features[applied], sensitive_features=protected[applied], random_state=seed)
        for seed in range(400)
    ]
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, atol=0.11)  # 4.4 deviations


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_optimizer_is_as_good_as_a_linear_programme(seed: int) -> None:
    """Of all mixtures of thresholds with equal odds, to the step of fairlearn's grid."""
    scores, targets, protected = rows_of(seed, 120)
    cuts = np.append(np.unique(scores), 2.0)
    points = np.array([
        [[(scores[(protected == g) & (targets == t)] >= cut).mean() for cut in cuts] for t in (1, 0)]
        for g in (0, 1)
    ])  # [group, TPR or FPR, threshold]  # fmt: skip
    zero = np.zeros(len(cuts))
    equal = [np.concatenate([points[0, k], -points[1, k]]) for k in (0, 1)]
    sums = [np.concatenate([zero + 1, zero]), np.concatenate([zero, zero + 1])]
    best = linprog(
        np.concatenate([points[0, 1] - points[0, 0], zero]), A_eq=[*equal, *sums], b_eq=[0, 0, 1, 1]
    )
    rates = ThresholdOptimizer().fit(scores, targets, protected).positive_rate(scores, protected)
    true, false = odds_of(rates, targets, protected)
    np.testing.assert_allclose(true, true[0], atol=1e-9)
    np.testing.assert_allclose(false, false[0], atol=1e-9)
    assert (false - true)[0] == pytest.approx(best.fun, abs=5e-3)
    assert (false - true)[0] >= best.fun - 1e-9


# All of them


@pytest.mark.parametrize("name", POSTPROCESSORS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_rates_are_probabilities_and_depend_on_no_order(name: str, seed: int) -> None:
    scores, targets, protected = rows_of(seed, 60)
    rates = POSTPROCESSORS[name]().fit(scores, targets, protected).positive_rate(scores, protected)
    assert rates.dtype == np.float64
    assert ((rates >= 0) & (rates <= 1)).all()
    order = np.random.default_rng(seed).permutation(60)
    again = POSTPROCESSORS[name]().fit(scores[order], targets[order], protected[order])
    np.testing.assert_array_equal(again.positive_rate(scores[order], protected[order]), rates[order])
    # A row's rate does not depend on the rows beside it.
    np.testing.assert_array_equal(again.positive_rate(scores[:7], protected[:7]), rates[:7])


@pytest.mark.parametrize("name", POSTPROCESSORS)
def test_all_need_the_protected_group_on_validation_and_at_prediction(name: str) -> None:
    assert POSTPROCESSORS[name]().needs == {"validation", "prediction"}


@pytest.mark.parametrize("name", POSTPROCESSORS)
def test_a_fair_perfect_classifier_stays_as_it_is(name: str) -> None:
    targets, protected = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    scores = targets.astype(float)
    rates = POSTPROCESSORS[name]().fit(scores, targets, protected).positive_rate(scores, protected)
    np.testing.assert_allclose(rates, targets, atol=1e-9)


@pytest.mark.parametrize("name", ["equalized_odds", "threshold_optimizer"])
def test_odds_that_differ_are_equal_afterwards(name: str) -> None:
    scores, targets, protected = rows_of(7)
    before = odds_of((scores >= 0.5).astype(float), targets, protected)
    rates = POSTPROCESSORS[name]().fit(scores, targets, protected).positive_rate(scores, protected)
    after = odds_of(rates, targets, protected)
    assert np.abs(before[:, 0] - before[:, 1]).max() > 0.1
    np.testing.assert_allclose(after[:, 0], after[:, 1], atol=1e-9)


# What cannot be fitted


def predictions(scores, targets, protected, n_groups: int = 3) -> Predictions:
    return Predictions(targets, scores, protected, 0.5, n_groups)


NAMES = ["Sex=f", "Sex=m", "Sex=x"]


@pytest.mark.parametrize("name", POSTPROCESSORS)
def test_groups_that_nobody_is_in_do_not_matter(name: str) -> None:
    scores, targets, protected = rows_of(0)
    of_two = predictions(scores, targets, protected, 2)
    last = predictions(scores, targets, 2 * protected)  # Sex=m is absent
    expected = post_processed(name, NAMES, of_two, of_two).positive_rates
    np.testing.assert_array_equal(post_processed(name, NAMES, last, last).positive_rates, expected)


@pytest.mark.parametrize("name", POSTPROCESSORS)
def test_a_group_that_is_absent_from_the_fitted_rows_cannot_be_predicted(name: str) -> None:
    fitting, reported = predictions(*rows_of(0)), predictions(*rows_of(1, n_groups=3))
    expected = (
        f"{name} cannot be applied to rows of Sex=x: none of the rows that it is fitted on is of that "
        "protected group."
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        post_processed(name, NAMES, fitting, reported)


@pytest.mark.parametrize("name", POSTPROCESSORS)
def test_one_class_alone_in_a_group_is_said(name: str) -> None:
    scores, targets, protected = rows_of(0)
    rows = predictions(scores, np.where(protected == 1, 0, targets), protected)
    expected = (
        f"{name} cannot be fitted: every protected group needs rows of both classes to fit on, and none of "
        "Sex=m has y = 1."
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        post_processed(name, NAMES, rows, rows)
    with pytest.raises(UserError, match="none of Sex=f has y = 0"):
        post_processed(name, NAMES, predictions(scores, np.ones_like(targets), protected), rows)


def test_a_method_for_two_groups_refuses_three_and_all_refuse_one() -> None:
    three = predictions(*rows_of(0, n_groups=3))
    expected = (
        "reject_option is for two protected groups, but the rows that it is fitted on are of 3: Sex=f; "
        "Sex=m; Sex=x."
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        post_processed("reject_option", NAMES, three, three)
    for name in ("equalized_odds", "calibrated_equalized_odds", "threshold_optimizer"):
        rates = post_processed(name, NAMES, three, three).positive_rates
        assert rates is not None
        assert not np.isnan(rates).any()
    scores, targets, _ = rows_of(0)
    alone = predictions(scores, targets, np.ones_like(targets))
    with pytest.raises(UserError, match=r"or more, but the rows that it is fitted on are of 1: Sex=m\.$"):
        post_processed("equalized_odds", NAMES, alone, alone)
    empty = predictions(scores[:0], targets[:0], targets[:0])
    with pytest.raises(UserError, match=r"are of 0: there are none\.$"):
        post_processed("equalized_odds", NAMES, empty, alone)
