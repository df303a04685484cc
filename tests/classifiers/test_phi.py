"""φ by hand, its exact threshold against all cuts one by one, the order of choices, and thresholds folded."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from classifiers.counts import count_table
from classifiers.finishing.objective import BIASES, Cut, Goal, bias_of, counts_at, cuts_between, phi
from classifiers.networks.images import LabelledImages
from tests.classifiers.samples import BY_HAND, random_sample


def images_of(targets: np.ndarray, protected: np.ndarray, n_protected: int = 2) -> LabelledImages:
    ids = np.arange(len(targets)).astype(str).astype(object)
    return LabelledImages(ids, lambda positions: NotImplemented, targets, targets * n_protected + protected)


# φ and μ


def test_phi_is_the_accuracy_where_the_bias_is_below_epsilon():
    accuracies, biases = np.full(6, 0.8), np.array([0.0, 0.049, -0.049, 0.05, -0.05, 0.3])
    np.testing.assert_array_equal(phi(accuracies, biases, 0.05), [0.8, 0.8, 0.8, 0, 0, 0])


def test_biases_by_hand():
    # Rates of group 0 and 1: positive 3/10 and 8/10, true positive 1/2 and 5/6, false positive 2/8 and 3/4
    assert bias_of("spd", BY_HAND) == pytest.approx(3 / 10 - 8 / 10)
    assert bias_of("eod", BY_HAND) == pytest.approx(1 / 2 - 5 / 6)
    assert bias_of("aod", BY_HAND) == pytest.approx(((2 / 8 - 3 / 4) + (1 / 2 - 5 / 6)) / 2)


def test_between_several_groups_the_bias_is_the_largest_gap():
    counts = np.array([[[6.0, 2.0], [1.0, 3.0], [4.0, 0.0]], [[1.0, 1.0], [1.0, 5.0], [1.0, 3.0]]])
    assert bias_of("eod", counts) == pytest.approx(5 / 6 - 1 / 2)
    assert bias_of("spd", counts) == pytest.approx(8 / 10 - 3 / 10)


@pytest.mark.parametrize("name", sorted(BIASES))
def test_without_a_group_to_compare_with_the_bias_is_0(name):
    one_group = BY_HAND.copy()
    one_group[:, 1] = 0
    assert bias_of(name, one_group) == 0
    # A third group without images does not change the gap of the others.
    with_empty = np.concatenate([BY_HAND, np.zeros((2, 1, 2))], axis=1)
    assert bias_of(name, with_empty) == pytest.approx(abs(bias_of(name, BY_HAND)))


# The threshold


def test_a_threshold_by_hand():
    # Logits rise with the target, and by 2 in protected group 1: cut at 0, group 1 has both false positives.
    logits = np.array([-3.0, -1, 1, 3, -2, 0.5, 2.5, 5])
    targets, protected = np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    images = images_of(targets, protected)
    cut = Goal("aod").best_cut(logits, images, 2)
    assert cut == Cut(0.75, 1.0, 0.0)  # between 0.5 and 1
    assert Goal("aod").cut_at(0.0, logits, images, 2) == Cut(0.0, 7 / 8, -0.25)  # FPR 0 and 1/2, TPR 1 and 1


def slow_best(logits: np.ndarray, targets: np.ndarray, protected: np.ndarray, n: int, goal: Goal):
    """Try every cut on its own, with exact fractions; return ρ and μ of the best."""

    def rates(predictions, target, group):
        members = [p for p, t, g in zip(predictions, targets, protected, strict=True)
                   if t in target and g == group]  # fmt: skip
        return Fraction(int(sum(members)), len(members))

    tried = []
    for value in np.unique(logits)[1:]:
        predictions = logits >= value
        hits = [
            Fraction(int((predictions == t)[targets == t].sum()), int((targets == t).sum())) for t in (0, 1)
        ]
        of_group = {"spd": lambda g, p=predictions: rates(p, (0, 1), g),
                    "eod": lambda g, p=predictions: rates(p, (1,), g),
                    "aod": lambda g, p=predictions: (rates(p, (0,), g) + rates(p, (1,), g)) / 2}  # fmt: skip
        values = [of_group[goal.bias](group) for group in range(n)]
        tried.append((sum(hits) / 2, max(values) - min(values)))
    highest = max(pair[0] for pair in tried)
    useful = [pair for pair in tried if pair[0] - Fraction(1, 2) >= (highest - Fraction(1, 2)) / 2]
    for limit in (goal.epsilon - goal.margin, goal.epsilon):
        feasible = [pair for pair in useful if round(float(pair[1]), 9) < round(limit, 9)]
        if feasible:
            return min(feasible, key=lambda pair: (-pair[0], pair[1]))
    near = [pair for pair in tried if pair[0] >= highest - Fraction(1, 100)]
    return min(near, key=lambda pair: (pair[1], -pair[0]))


@example(seed=32042, n_protected=2, bias="eod", epsilon=0.03)  # exactly half is kept
@given(
    seed=st.integers(0, 10**6),
    n_protected=st.sampled_from([2, 3]),
    bias=st.sampled_from(sorted(BIASES)),
    epsilon=st.sampled_from([0.03, 0.06, 0.21]),
)
def test_the_threshold_is_the_best_of_all_cuts(seed, n_protected, bias, epsilon):
    random = np.random.default_rng(seed)
    count = int(random.integers(2 * n_protected, 40))
    cells = np.append(np.arange(2 * n_protected), random.integers(0, 2 * n_protected, count))  # none is empty
    targets, protected = cells // n_protected, cells % n_protected
    logits = np.round(random.normal(targets + protected * random.random(), 1), 1)  # with ties
    logits[0] = logits[1] + 1  # not all the same
    goal = Goal(bias, epsilon, 0.01)
    cut = goal.best_cut(logits, images_of(targets, protected, n_protected), n_protected)
    accuracy, gap = slow_best(logits, targets, protected, n_protected, goal)
    assert (cut.accuracy, abs(cut.bias)) == (pytest.approx(float(accuracy)), pytest.approx(float(gap)))
    # What it says of itself is true of the predictions.
    predictions = (logits >= cut.logit).astype(np.int64)
    assert 0 < predictions.sum() < len(predictions)
    assert cut.accuracy == pytest.approx(balanced_accuracy_score(targets, predictions))
    table = count_table(targets, protected, predictions, n_protected)
    assert cut.bias == pytest.approx(float(bias_of(bias, table)))


def test_counts_at_cuts_are_those_of_the_predictions():
    targets, protected, scores = random_sample(3)
    cuts = cuts_between(scores)
    tables = [count_table(targets, protected, (scores >= cut).astype(np.int64)) for cut in cuts]
    np.testing.assert_array_equal(counts_at(cuts, scores, images_of(targets, protected), 2), np.stack(tables))


def test_cuts_part_neighbouring_numbers_too():
    low = 1.0
    high = np.nextafter(low, 2)
    np.testing.assert_array_equal(cuts_between(np.array([high, low, 3.0, 3.0])), [high, (high + 3) / 2])


def test_equal_logits_keep_the_threshold():
    images = images_of(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert Goal().best_cut(np.full(4, 2.0), images, 2) == Cut(0.0, 0.5, 0.0)


@pytest.mark.parametrize("bias", sorted(BIASES))
def test_images_of_one_target_or_one_group_give_numbers(bias):
    logits = np.array([-1.0, 0.0, 1.0, 2.0])
    for targets, protected in (([1, 1, 1, 1], [0, 1, 0, 1]), ([0, 1, 0, 1], [1, 1, 1, 1])):
        cut = Goal(bias).best_cut(logits, images_of(np.array(targets), np.array(protected)), 2)
        assert np.isfinite([cut.logit, cut.accuracy, cut.bias]).all()


# The order of choices


def test_the_order_is_by_feasibility_then_phi_then_bias():
    # Three are within ε - margin, one within ε; of the others two are most accurate, and two are neither.
    accuracies = np.array([0.75, 0.85, 0.85, 0.90, 0.95, 0.945, 0.80, 0.85])
    biases = np.array([0.00, 0.03, -0.01, 0.045, 0.40, -0.30, 0.06, 0.07])
    order = Goal("spd", epsilon=0.05, margin=0.01).ranking(accuracies, biases)
    np.testing.assert_array_equal(order, [2, 1, 0, 3, 5, 4, 7, 6])


def test_what_ruins_a_network_is_not_feasible():
    # Half of what the best knows beyond chance is 0.7 - 0.5; a little less is too little.
    biases = np.array([0.3, 0.0, 0.0, 0.295])
    for accuracy, best in ((0.7, 1), (0.699, 3)):
        order = Goal("spd").ranking(np.array([0.9, accuracy, 0.5, 0.895]), biases)
        assert order[0] == best


def test_of_equal_choices_the_first_is_taken():
    assert Goal().order([Cut(1.0, 0.8, 0.02), Cut(2.0, 0.8, -0.02)]).tolist() == [0, 1]


def test_the_value_of_a_search_is_phi_or_less_than_0():
    goal = Goal("spd", epsilon=0.05)
    assert [goal.value(Cut(0.0, 0.8, bias)) for bias in (0.04, -0.06, 0.3)] == [0.8, -0.06, -0.3]
