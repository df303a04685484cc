"""Judged complements: labels by hand for one and two protected attributes; what gates drop and count."""

import numpy as np
import pandas as pd
import pytest

from data.gates import dropped_counts, flip_masks, judged_complements, kept_by, passed_gates, shares_of
from data.parameters import Gates
from pipeline.errors import UserError

ONE = ["Blond", "Male"]
TWO = ["Blond", "Male", "Eyeglasses"]
SURE = np.ones(4)  # the originals' targets are right, in every group of one protected attribute


def scored(ids: list[str], names: list[str], scores: list[tuple[float, ...]]) -> pd.DataFrame:
    """Add labels, scores cut at 0.5."""
    table = pd.DataFrame(scores, columns=[f"{name}_score" for name in names])
    labels = {name: (table[f"{name}_score"] >= 0.5).astype(int) for name in names}
    return table.assign(id=ids, **labels)


@pytest.fixture
def z() -> pd.DataFrame:
    return scored(["a", "b", "c", "d"], ONE, [(0.1, 0.2), (0.3, 0.9), (0.8, 0.4), (0.9, 0.1)])


@pytest.fixture
def z_prime() -> pd.DataFrame:
    # The complement of c lost its target, that of d kept its protected attribute; b's moved far.
    table = scored(["a'", "b'", "c'", "d'"], ONE, [(0.2, 0.7), (0.1, 0.05), (0.4, 0.9), (0.95, 0.3)])
    return table.assign(
        pair_id=["a", "b", "c", "d"],
        flips="Male",
        move_length=[1.0, 9.0, 2.0, 3.0],
        flipped=[True, True, False, True],
        target_stayed=[True, False, True, True],
    )


@pytest.mark.parametrize(
    ("label", "labels", "confidence"),
    [
        ("inherited", [(0, 1), (0, 0), (1, 1), (1, 1)], [0.7, 0.9, 0.4, 0.3]),
        ("rescored", [(0, 1), (0, 0), (0, 1), (1, 0)], [0.7, 0.9, 0.6, 0.7]),
    ],
)
def test_labels_of_complements(z, z_prime, label, labels, confidence) -> None:
    judged = judged_complements(z_prime, z, ONE, label, SURE)
    assert judged["id"].tolist() == ["a'", "b'", "c'", "d'"]
    assert list(zip(judged["target"], judged["protected"], strict=True)) == labels
    np.testing.assert_allclose(judged["confidence"], confidence)
    # The classifiers' findings and the promised group are the same, whatever label the complement gets.
    assert judged["group"].tolist() == [1, 0, 3, 3]
    assert judged["target_kept"].tolist() == [True, True, False, True]
    assert judged["protected_flipped"].tolist() == [True, True, True, False]
    assert judged["hyperplane_flipped"].tolist() == [True, True, False, True]
    assert judged["hyperplane_target_kept"].tolist() == [True, False, True, True]


def test_labels_follow_ids_not_positions(z, z_prime) -> None:
    straight = judged_complements(z_prime, z, ONE, "inherited", SURE).set_index("id")
    shuffled = judged_complements(
        z_prime.sample(frac=1, random_state=2), z.sample(frac=1, random_state=1), ONE, "inherited", SURE
    ).set_index("id")
    pd.testing.assert_frame_equal(shuffled.loc[straight.index], straight)


def test_a_complement_without_its_original_is_named(z, z_prime) -> None:
    with pytest.raises(UserError, match="no row for id 'd'"):
        judged_complements(z_prime, z[z["id"] != "d"], ONE, "inherited", SURE)


def test_a_flip_of_something_else_is_named(z, z_prime) -> None:
    with pytest.raises(UserError, match="flip 'Eyeglasses', which is no protected attribute"):
        judged_complements(z_prime.assign(flips="Male+Eyeglasses"), z, ONE, "inherited", SURE)


# Gates


@pytest.mark.parametrize(
    ("gates", "kept", "dropped"),
    [
        ({}, "abcd", {}),
        ({"agreement": "target"}, "abd", {"agreement": [0, 0, 0, 1]}),
        ({"agreement": "protected"}, "abc", {"agreement": [0, 0, 0, 1]}),
        ({"agreement": "both"}, "ab", {"agreement": [0, 0, 0, 2]}),
        ({"hyperplane": "protected"}, "abd", {"hyperplane": [0, 0, 0, 1]}),
        ({"hyperplane": "target"}, "acd", {"hyperplane": [1, 0, 0, 0]}),
        ({"hyperplane": "both"}, "ad", {"hyperplane": [1, 0, 0, 1]}),
        ({"move_length": 3.0}, "acd", {"move_length": [1, 0, 0, 0]}),
        ({"confidence": 0.7}, "ab", {"confidence": [0, 0, 0, 2]}),
        ({"confidence": 0.8}, "b", {"confidence": [0, 1, 0, 2]}),
        (
            {"agreement": "protected", "hyperplane": "protected", "move_length": 2.5, "confidence": 0.35},
            "a",
            {
                "agreement": [0, 0, 0, 1],
                "hyperplane": [0, 0, 0, 1],
                "move_length": [1, 0, 0, 1],
                "confidence": [0, 0, 0, 1],
            },
        ),
    ],
)
def test_gates_drop_what_they_should(z, z_prime, gates, kept, dropped) -> None:
    judged = judged_complements(z_prime, z, ONE, "inherited", SURE)
    passed = passed_gates(judged, Gates(**{"agreement": "none"} | gates))
    assert "".join(judged["pair_id"][kept_by(passed, 4)]) == kept
    assert dropped_counts(judged, passed, 4) == {
        gate: {"all": sum(counts), **{f"group_{group}": count for group, count in enumerate(counts)}}
        for gate, counts in dropped.items()
    }


def test_the_gate_of_confidence_looks_at_the_label_given(z, z_prime) -> None:
    judged = judged_complements(z_prime, z, ONE, "rescored", SURE)
    passed = passed_gates(judged, Gates(agreement="none", confidence=0.65))
    assert "".join(judged["pair_id"][kept_by(passed, 4)]) == "abd"


def test_the_gate_of_the_labeller_looks_at_the_group_of_the_original(z, z_prime) -> None:
    """a is of group 0, b of 1, c and d of 2: their complements promise 1, 0 and 3."""
    accuracies = np.array([0.99, 0.8, 0.9, np.nan])
    judged = judged_complements(z_prime, z, ONE, "inherited", accuracies)
    assert judged["labeller_accuracy"].tolist() == [0.99, 0.8, 0.9, 0.9]
    for least, kept, dropped in (
        (0.8, "abcd", [0, 0, 0, 0]),
        (0.9, "acd", [1, 0, 0, 0]),
        (0.95, "a", [1, 0, 0, 2]),
    ):
        passed = passed_gates(judged, Gates(agreement="none", labeller_accuracy=least))
        assert "".join(judged["pair_id"][kept_by(passed, 4)]) == kept
        counts = dropped_counts(judged, passed, 4)["labeller_accuracy"]
        assert counts == {"all": sum(dropped)} | {f"group_{k}": count for k, count in enumerate(dropped)}


def test_a_labeller_that_was_never_tried_on_a_group_is_not_trusted_there(z, z_prime) -> None:
    judged = judged_complements(z_prime, z, ONE, "inherited", np.array([1.0, 1.0, np.nan, 1.0]))
    passed = passed_gates(judged, Gates(agreement="none", labeller_accuracy=0.0))
    assert "".join(judged["pair_id"][kept_by(passed, 4)]) == "ab"
    assert passed_gates(judged, Gates(agreement="none")) == {}


def test_the_labeller_of_two_attributes_is_asked_of_eight_groups(two) -> None:
    """The originals are in the groups 4 (blond, no man, no glasses) and 3."""
    judged = judged_complements(two[1], two[0], TWO, "inherited", np.arange(8) / 10)
    assert judged["labeller_accuracy"].tolist() == [0.4] * 3 + [0.3] * 3


def test_shares_of_one_attribute(z, z_prime) -> None:
    assert shares_of(judged_complements(z_prime, z, ONE, "inherited", SURE), ONE) == {
        "target_kept": 0.75,
        "protected_flipped": 0.75,
        "hyperplane_flipped": 0.75,
        "hyperplane_target_kept": 0.75,
        "attributes": {
            "Blond": {"flipped": None, "kept": 0.75},
            "Male": {"flipped": 0.75, "kept": None},
        },
    }


# Several protected attributes


def test_flips_are_columns() -> None:
    flips = pd.Series(["Male", "Eyeglasses", "Male+Eyeglasses", "Male"])
    assert flip_masks(flips, TWO[1:]).tolist() == [[True, False], [False, True], [True, True], [True, False]]
    assert flip_masks(flips[:0], TWO[1:]).shape == (0, 2)


@pytest.fixture
def two() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Provide a blond woman without glasses, a dark man with them, and the three complements of each."""
    z = scored(["a", "b"], TWO, [(0.9, 0.1, 0.2), (0.2, 0.8, 0.7)])
    ids = [f"{z_id}-{mask}" for z_id in "ab" for mask in ("10", "01", "11")]
    scores = [
        (0.9, 0.8, 0.1),  # as promised: blond, male, no glasses
        (0.9, 0.1, 0.4),  # no glasses appeared
        (0.4, 0.9, 0.9),  # no longer blond
        (0.1, 0.2, 0.4),  # lost its glasses too
        (0.1, 0.9, 0.2),  # as promised
        (0.1, 0.1, 0.1),  # as promised
    ]
    z_prime = scored(ids, TWO, scores).assign(
        pair_id=list("aaabbb"),
        flips=["Male", "Eyeglasses", "Male+Eyeglasses"] * 2,
        move_length=1.0,
        flipped=True,
        target_stayed=True,
    )
    return z, z_prime


def test_two_attributes_by_hand(two) -> None:
    judged = judged_complements(two[1], two[0], TWO, "inherited", np.ones(8))
    assert judged["target"].tolist() == [1, 1, 1, 0, 0, 0]
    assert judged["protected"].tolist() == [2, 1, 3, 1, 2, 0]  # Male is the higher digit
    assert judged["group"].tolist() == [6, 5, 7, 1, 2, 0]
    assert judged["protected_flipped"].tolist() == [True, False, True, False, True, True]
    assert judged["target_kept"].tolist() == [True, True, False, True, True, True]
    np.testing.assert_allclose(judged["confidence"], [0.8, 0.4, 0.4, 0.4, 0.8, 0.9])
    rescored = judged_complements(two[1], two[0], TWO, "rescored", np.ones(8))
    assert rescored["target"].tolist() == [1, 1, 0, 0, 0, 0]
    assert rescored["protected"].tolist() == [2, 0, 3, 0, 2, 0]
    passed = passed_gates(judged, Gates(agreement="both"))
    assert judged["id"][kept_by(passed, 6)].tolist() == ["a-10", "b-01", "b-11"]
    counts = dropped_counts(judged, passed, 8)["agreement"]
    assert counts == {"all": 3} | {f"group_{group}": int(group in (1, 5, 7)) for group in range(8)}


def test_shares_of_two_attributes(two) -> None:
    shares = shares_of(judged_complements(two[1], two[0], TWO, "inherited", np.ones(8)), TWO)
    assert shares["target_kept"] == pytest.approx(5 / 6)
    assert shares["protected_flipped"] == pytest.approx(4 / 6)
    assert shares["attributes"] == {
        "Blond": {"flipped": None, "kept": pytest.approx(5 / 6)},
        "Male": {"flipped": 1.0, "kept": 1.0},
        "Eyeglasses": {"flipped": pytest.approx(3 / 4), "kept": pytest.approx(1 / 2)},
    }
