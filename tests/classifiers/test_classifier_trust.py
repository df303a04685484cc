"""Judgements of trainings, labellers, labels and the probe: by hand, at their thresholds."""

import numpy as np
import pytest

from classifiers.labeller_trust import interval_of, labeller_judgement, share_judgement
from classifiers.measures.trust import probe_judgement
from classifiers.training.plateau import training_judgement

NAMES = ["y=0, a=0", "y=0, a=1", "y=1, a=0", "y=1, a=1"]


def test_a_training_on_its_plateau_is_useless():
    judgement = training_judgement("train original erm 0", 0.02)
    assert (judgement.step, judgement.level) == ("train original erm 0", "useless")
    assert "0.02 apart" in judgement.sentence and judgement.remedy
    assert training_judgement("train original erm 0", 0.1).level == "fine"


def test_wilsons_interval_by_hand():
    """Of 10 right of 10: 1 / (1 + 1.96² / 10)."""
    low, high = interval_of(10, 10)
    assert (low, high) == (pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-6), pytest.approx(1.0))
    assert interval_of(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("accuracy", "n", "separation", "level"),
    [
        (0.02, 150, 0.9, "useless"),
        (0.5, 150, 0.9, "useless"),  # chance
        (0.6, 150, 0.9, "doubtful"),  # above it, but three in ten are wrong
        (0.8, 10, 0.9, "doubtful"),  # of ten images: chance is within the confidence
        (0.8, 150, 0.9, "fine"),
        (0.8, 150, 0.05, "useless"),  # one of its networks has learned nothing
    ],
)
def test_the_worst_group_decides_about_a_labeller(accuracy, n, separation, level):
    accuracies = np.array([0.99, 0.95, np.nan, accuracy])
    judgement = labeller_judgement("y", accuracies, [1000, 1000, 0, n], NAMES, separation)
    assert judgement.level == level
    assert "y=1, a=1" in judgement.sentence and f"{100 * accuracy:.0f} % of {n}" in judgement.sentence
    assert judgement.figures["worst_group_accuracy"] == accuracy


@pytest.mark.parametrize(
    ("real", "positive", "n", "level"),
    [
        (0.5, 9800, 10000, "useless"),  # 98 %, as a biased labeller of digits said: a factor of 49
        (0.15, 3000, 10000, "fine"),  # a generator that leans towards the rare: a factor of 2.4
        (0.15, 5500, 10000, "doubtful"),  # a factor of 7
        (0.5, 0, 10000, "useless"),
        (0.002, 19, 10000, "useless"),  # as frequent as it is, but 19 images make no hyperplane
        (0.002, 25, 10000, "fine"),
    ],
)
def test_labels_among_synthetic_images_are_about_as_frequent(real, positive, n, level):
    judgement = share_judgement("Even", real, positive, n)
    assert judgement.level == level
    assert judgement.figures["share"] == positive / n


def test_the_probe_is_never_useless():
    assert probe_judgement("z", 0.95, 0.4).level == "fine"
    assert probe_judgement("z", 0.999, 0.9).level == "doubtful"
    assert "0.999" in probe_judgement("z", 0.999, 0.9).sentence


def test_a_probe_that_holds_nothing_apart_is_doubtful_itself():
    """So it was on the avatars while their edges were repeated: an AUC of 0.56, where 0.98 is possible."""
    judgement = probe_judgement("z", 0.56, 0.02)
    assert judgement.level == "doubtful"
    assert "0.560" in judgement.sentence and "assess.probe.steps" in judgement.remedy
    assert probe_judgement("z", 0.7, 0.1).level == "fine"
