"""Judgements of hyperplanes: by hand, at their thresholds, and their sentences."""

import math

import numpy as np
import pytest

from generators.hyperplanes import Hyperplane
from generators.plane_trust import (
    angle_judgement,
    one_label_judgement,
    plane_group_accuracies,
    plane_judgement,
)

NAMES = ["t=0, a=0", "t=0, a=1", "t=1, a=0", "t=1, a=1"]
GOOD, MANY = np.array([0.95, 0.9, 0.85, 0.88]), np.array([400, 300, 250, 50])


def test_accuracies_of_groups_by_hand():
    plane = Hyperplane("t", np.array([1.0, 0.0]), -1.0)  # positive where x > 1
    latents = np.array([[0.0, 5.0], [2.0, 0.0], [3.0, 0.0], [0.5, 0.0], [4.0, 1.0]])
    labels = np.array([0, 0, 1, 1, 1])
    groups = np.array([0, 0, 2, 2, 2])
    accuracies, counts = plane_group_accuracies(plane, latents, labels, groups, 4)
    np.testing.assert_allclose(accuracies, [0.5, np.nan, 2 / 3, np.nan])
    assert counts.tolist() == [2, 0, 3, 0]


def test_a_good_plane_is_fine_and_says_its_figures():
    found = plane_judgement("Male", 0.912, [600, 400], GOOD, MANY, NAMES)
    assert (found.step, found.level, found.remedy) == ("hyperplane of Male", "fine", "")
    assert found.sentence == (
        "it is right for 91 % of 1,000 latents that it was not fitted on, either label counting half, where "
        "chance is 50 %, and for 85 % of those labelled t=1, a=0, the worst group."
    )
    assert found.figures == {
        "balanced_accuracy": 0.912,
        "worst_group_accuracy": 0.85,
        "label_0_n": 600.0,
        "label_1_n": 400.0,
    }


@pytest.mark.parametrize(
    ("accuracy", "level"),
    [(0.5, "useless"), (0.6, "useless"), (0.61, "doubtful"), (0.79, "doubtful"), (0.8, "fine")],
)
def test_the_balanced_accuracy_decides(accuracy, level):
    found = plane_judgement("Male", accuracy, [600, 400], GOOD, MANY, NAMES)
    assert found.level == level
    assert bool(found.remedy) == (level != "fine")


@pytest.mark.parametrize(
    ("accuracy", "n", "level"),
    [(0.5, 50, "fine"), (0.49, 50, "doubtful"), (0.1, 20, "doubtful"), (0.1, 19, "fine")],
)
def test_a_group_that_is_wrong_more_often_than_right_makes_a_plane_doubtful(accuracy, n, level):
    found = plane_judgement(
        "Male", 0.9, [600, 400], np.array([0.95, 0.9, 0.85, accuracy]), np.array([400, 300, 250, n]), NAMES
    )
    assert found.level == level
    assert ("t=1, a=1, the worst group" in found.sentence) == (n >= 20)


def test_a_rare_label_makes_a_plane_doubtful():
    kept = plane_judgement("Blond_Hair", 0.55, [600, 400], GOOD, MANY, NAMES, crossed=False)
    assert kept.level == "doubtful" and kept.remedy
    few = plane_judgement("Male", 0.9, [981, 19], GOOD, MANY, NAMES)
    assert few.level == "doubtful"
    assert few.sentence.endswith("; only 19 have the label 1.")
    assert plane_judgement("Male", 0.9, [980, 20], GOOD, MANY, NAMES).level == "fine"


def test_groups_without_latents_are_left_out():
    nothing = np.full(4, np.nan)
    found = plane_judgement("Male", 0.9, [30, 30], nothing, np.zeros(4, dtype=np.int64), NAMES)
    assert found.level == "fine"
    assert found.figures["worst_group_accuracy"] is None
    assert "worst group" not in found.sentence


def test_one_label_among_the_latents_is_useless():
    found = plane_judgement("Male", math.nan, [0, 600], GOOD, MANY, NAMES)
    assert found.level == "useless"
    assert found.figures["balanced_accuracy"] is None
    assert found.sentence == (
        "all 600 latents to validate it with have the label 1, so that nothing says how often it is right."
    )
    none = plane_judgement("Male", math.nan, [0, 0], GOOD, MANY, NAMES)
    assert (none.level, none.sentence) == ("useless", "there is no latent to validate it with.")


def test_a_plane_fitted_to_labels_of_one_kind_is_useless():
    found = one_label_judgement("Blond_Hair in Male=1", 1, 7200)
    assert (found.level, found.step) == ("useless", "hyperplane of Blond_Hair in Male=1")
    assert found.sentence.startswith(
        "all 7,200 latents to fit it with are labelled 1: the generator makes none"
    )
    assert found.figures["label_0_n"] == 0.0
    assert found.figures["label_1_n"] == 7200.0


@pytest.mark.parametrize(
    ("angle", "level"),
    [
        (0.0, "useless"),
        (14.9, "useless"),
        (15.0, "doubtful"),
        (29.9, "doubtful"),
        (30.0, "fine"),
        (90.0, "fine"),
        (150.0, "fine"),
        (150.1, "doubtful"),
        (165.1, "useless"),
        (180.0, "useless"),
    ],
)
def test_planes_that_are_nearly_parallel_are_useless(angle, level):
    found = angle_judgement({("t", "a"): angle, ("t", "b"): 90.0})
    assert found.level == level
    assert found.figures == {"angle_degrees": angle}
    assert bool(found.remedy) == (level != "fine")


def test_the_most_parallel_pair_is_named_and_how_long_moves_get():
    found = angle_judgement({("t", "a"): 80.0, ("t", "b"): 170.0, ("a", "b"): 20.0})
    # 1 / sin 170° is 5.76.
    assert found.sentence == (
        "the normals of t and b are 170° apart, where 90° is independent: a move that keeps one and flips "
        "the other is 5.8 times as long as at a right angle."
    )
    assert angle_judgement({("t", "a"): 0.0}).sentence.endswith("flips the other is without end.")
