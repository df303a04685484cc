"""Judgements of synthetic images, counted by hand: agreement, label noise, flip and keep rates."""

import numpy as np
import pytest

from classifiers.agreement import agreement, shares_by_group
from classifiers.measures.judging import flip_rates, judged_label_noise

NAMES = ["Blond_Hair", "Male"]


def columns(*rows: str) -> np.ndarray:
    """Return binary columns [n, 1 + k] of rows such as "01"."""
    return np.array([[int(digit) for digit in row] for row in rows], dtype=np.int64)


def test_shares_of_groups_and_of_one_that_is_empty():
    events = np.array([True, False, True, True])
    assert shares_by_group(events, np.array([0, 0, 2, 2]), 4) == [0.5, None, 1.0, None]


def test_agreement_by_hand():
    truth = np.array([0, 0, 0, 0, 1, 1])
    said = np.array([0, 0, 0, 1, 1, 0])
    groups = np.array([0, 0, 1, 1, 2, 2])
    assert agreement(truth, said, groups, 4) == {
        "accuracy": pytest.approx(4 / 6),
        "balanced_accuracy": pytest.approx((3 / 4 + 1 / 2) / 2),
        "worst_group_accuracy": 0.5,
        "group_accuracies": [1.0, 0.5, 0.5, None],
        "group_n": [2, 2, 2, 0],
    }


def test_agreement_where_there_is_nothing_or_one_class():
    empty = np.array([], dtype=np.int64)
    assert agreement(empty, empty, empty, 2) == {
        "accuracy": None,
        "balanced_accuracy": None,
        "worst_group_accuracy": None,
        "group_accuracies": [None, None],
        "group_n": [0, 0],
    }
    one = agreement(np.ones(2, int), np.array([0, 1]), np.array([1, 1]), 2)
    assert (one["accuracy"], one["balanced_accuracy"]) == (0.5, None)


def test_label_noise_by_hand():
    given = columns("11", "11", "11", "11", "00", "00", "01")
    judged = columns("11", "01", "01", "10", "00", "11", "01")
    assert judged_label_noise(given, judged, NAMES) == {
        "images": 7,
        "group_n": [2, 1, 0, 4],
        "confusion": [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [0, 2, 1, 1]],  # given by judged
        "noise": {"Blond_Hair": [0.5, 0.0, None, 0.5], "Male": [0.5, 0.0, None, 0.25]},
        "group_noise": [0.5, 0.0, None, 0.75],
        "group_noise_average": pytest.approx(4 / 7),
    }


def test_flip_rates_by_hand():
    before = columns("10", "10", "10", "10", "00", "00")
    after = columns("11", "11", "01", "10", "01", "11")
    #                as asked, as asked, target lost too, nothing, as asked, target changed too
    assert flip_rates(before, after, np.array([False, True]), NAMES) == {
        "pairs": 6,
        "changed": {"Blond_Hair": pytest.approx(2 / 6), "Male": pytest.approx(5 / 6)},
        "as_asked": pytest.approx(3 / 6),
        "group_n": [2, 0, 4, 0],
        "group_changed": {"Blond_Hair": [0.5, None, 0.25, None], "Male": [1.0, None, 0.75, None]},
        "group_as_asked": [0.5, None, 0.5, None],
    }


def test_three_attributes_make_eight_groups_and_every_subset_is_its_own_request():
    names = ["Blond_Hair", "Male", "Eyeglasses"]
    before = columns("101", "101", "010")
    after = columns("110", "111", "001")
    both = flip_rates(before, after, np.array([False, True, True]), names)
    assert both["as_asked"] == pytest.approx(2 / 3)
    assert both["group_n"] == [0, 0, 1, 0, 0, 2, 0, 0]
    assert both["group_changed"]["Eyeglasses"] == [None, None, 1.0, None, None, 0.5, None, None]
    first = flip_rates(before, after, np.array([False, True, False]), names)
    assert first["as_asked"] == pytest.approx(1 / 3)
    noise = judged_label_noise(before, after, names)
    assert noise["confusion"][5][6] == noise["confusion"][5][7] == noise["confusion"][2][1] == 1
    assert np.sum(noise["confusion"]) == 3
