"""Real digits in two inks: which digits a split has, how many in each ink, and the ink found from pixels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from data.sources import SOURCES, source_of
from data.sources.avatars import Avatars
from data.sources.base import MEASURED_AT_ONCE, check_groups, measured_in_batches
from data.sources.digits import Digits, attributes_of, correlated_inks, red_ink
from pipeline.errors import UserError
from stages.shared.presets import preset_values

PRESETS = Path(__file__).parents[2] / "presets"
ALL = range(1_797)
WRITTEN = load_digits().target
TARGETS = ("Five_or_more", "Even")
SPLITS = ("train", "validation", "test", "oracle", "judge")


def part(source: Digits, split: str) -> pd.DataFrame:
    table = source.table()
    return table[table["split"] == split].reset_index(drop=True)


def numbers(table: pd.DataFrame) -> list[int]:
    """Return which of scikit-learn's digits the ids name: "test-0123-red" names the one at position 123."""
    return [int(name.split("-")[1]) for name in table["id"]]


def row(number: int, red: int) -> dict[str, int]:
    return {"_number": number, "Red": red}


# Which digits, and in which ink


def test_the_splits_have_as_many_images_of_each_group_as_counted_by_hand() -> None:
    """Of the 1,100 digits of seed 0, 552 are five or more and 548 are not; 95 % are 524.4 and 520.6."""
    table = Digits().table()
    assert table["split"].value_counts().to_dict() == {
        "train": 1_100, "validation": 594, "test": 800, "oracle": 1_100, "judge": 2_794,
    }  # fmt: skip
    groups = {split: np.bincount(2 * of["Five_or_more"] + of["Red"]) for split, of in table.groupby("split")}
    assert groups["train"].tolist() == [521, 27, 28, 524]
    assert groups["oracle"].tolist() == [274, 274, 276, 276]
    for split in ("validation", "test", "judge"):  # green, then red
        assert groups[split][0] == groups[split][1]
        assert groups[split][2] == groups[split][3]
    assert table["id"].is_unique
    check_groups(table, ["Five_or_more", "Red"], "digits")
    check_groups(table, ["Even", "Red"], "digits")


def test_labels_are_those_of_the_digit_that_the_id_names() -> None:
    table = Digits(seed=2).table()
    digits = WRITTEN[numbers(table)]
    assert table["Five_or_more"].tolist() == [int(digit in (5, 6, 7, 8, 9)) for digit in digits]
    assert table["Even"].tolist() == [int(digit in (0, 2, 4, 6, 8)) for digit in digits]
    names = np.where(table["id"].str.endswith("-red"), 1, 0)
    assert table["Red"].tolist() == names.tolist()
    assert [name.split("-")[0] for name in table["id"]] == table["split"].tolist()
    assert attributes_of(np.array([0, 4, 5, 9]))["Five_or_more"].tolist() == [0, 0, 1, 1]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    train=st.integers(40, 1_100),
    correlation=st.floats(0.5, 1.0),
    target=st.sampled_from(TARGETS),
)
def test_splits_share_no_digit_but_for_both_inks_and_the_judge(seed, train, correlation, target) -> None:
    source = Digits(seed=seed, train=train, correlation=correlation, target=target)
    table = source.table()
    of = {split: numbers(rows) for split, rows in table.groupby("split")}
    once = {split: set(found) for split, found in of.items()}
    assert len(of["train"]) == len(once["train"]) == train
    assert once["oracle"] == once["train"]
    assert len(of["oracle"]) == train
    for split, digits in (("validation", 297), ("test", 400), ("judge", 1_397)):
        assert len(once[split]) == digits
        inks = table[table["split"] == split].groupby("_number")["Red"].agg(list)
        assert all(sorted(both) == [0, 1] for both in inks)
    assert not once["test"] & (once["train"] | once["validation"] | once["judge"])
    assert not once["train"] & once["validation"]
    assert once["judge"] == set(ALL) - once["test"]


@pytest.mark.slow
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    train=st.sampled_from([40, 300, 701, 1_100]),
    correlation=st.floats(0.5, 1.0),
    target=st.sampled_from(TARGETS),
)
def test_the_ink_tells_the_target_in_just_the_share_that_is_asked_for(
    seed, train, correlation, target
) -> None:
    source = Digits(seed=seed, train=train, correlation=correlation, target=target)
    for split, share in (("train", correlation), ("oracle", 0.5)):
        images = part(source, split)
        for value in (0, 1):
            of_value = images[images[target] == value]
            told = int((of_value["Red"] == value).sum())
            assert told == min(round(share * len(of_value)), len(of_value) - 1)
            assert told > 0
    check_groups(source.table(), [target, "Red"], "digits")


@settings(max_examples=20)
@given(train=st.integers(40, 1_099), correlation=st.floats(0.5, 1.0))
def test_fewer_training_images_are_the_first_of_all_of_them(train, correlation) -> None:
    few, all_of_them = (part(Digits(train=n, correlation=correlation), "train") for n in (train, 1_100))
    pd.testing.assert_frame_equal(few, all_of_them[:train])


def test_inks_by_hand() -> None:
    """Of four ones 75 % are red, of three zeros 2.25, rounded to 2, green: one of each in the other ink."""
    target = np.array([1, 0, 1, 1, 0, 0, 1])
    red = correlated_inks(target, 0.75)
    assert red.tolist() == [0, 1, 1, 1, 0, 0, 1]
    assert correlated_inks(target, 1.0).tolist() == [0, 1, 1, 1, 0, 0, 1]  # at least one all the same
    assert correlated_inks(target, 0.5)[target == 1].sum() == 2
    assert target.tolist() == [1, 0, 1, 1, 0, 0, 1]


def test_the_other_target_is_told_by_the_ink_and_the_digit_is_not() -> None:
    images = part(Digits(target="Even"), "train")
    told = {name: float((images[name] == images["Red"]).mean()) for name in TARGETS}
    assert told["Even"] == pytest.approx(0.95, abs=1e-3)
    assert 0.35 < told["Five_or_more"] < 0.65


def test_another_seed_gives_other_splits_and_other_pictures() -> None:
    first, again, other = Digits(seed=1), Digits(seed=1), Digits(seed=2)
    pd.testing.assert_frame_equal(first.table(), again.table())
    tests = [set(numbers(part(source, "test"))) for source in (first, other)]
    assert len(tests[0] & tests[1]) < 150  # 89 of 400 by chance
    np.testing.assert_array_equal(first.image(row(5, 1), 16), again.image(row(5, 1), 16))
    assert (first.image(row(5, 1), 16) != other.image(row(5, 1), 16)).mean() > 0.5


def test_too_few_digits_of_a_target_value_are_named() -> None:
    """Some of these seeds give four digits of which at most one is five or more."""
    messages = []
    for seed in range(20):
        try:
            Digits(train=4, seed=seed).table()
        except UserError as error:
            messages.append(str(error))
    assert 0 < len(messages) < 20
    starts = {f"params.yaml: prepare.source.train is 4, and {n}" for n in (0, 1)}
    assert {message.split(" of ")[0] for message in messages} == starts
    assert all("of these digits have Five_or_more=" in message for message in messages)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": 1_101}, r"prepare\.source: train \(it is 1101\): .* less than or equal to 1100"),
        ({"correlation": 0.4}, r"correlation \(it is 0\.4\): .* greater than or equal to 0\.5"),
        ({"target": "Red"}, r"target \(it is 'Red'\): .*'Five_or_more' or 'Even'"),
    ],
)
def test_a_mistake_in_the_parameters_is_named(changes, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        source_of({"name": "digits"} | changes)


def test_the_presets_source_is_complete() -> None:
    content = preset_values("digits", PRESETS)
    section = content["prepare"]["source"]
    assert set(section) == set(Digits.model_fields)
    source = source_of(section)
    assert source == Digits()
    assert content["attributes"] == [source.target, "Red"]


# The pictures


@settings(max_examples=30)
@given(number=st.sampled_from(ALL), resolution=st.sampled_from([8, 16, 32]), seed=st.integers(0, 3))
def test_a_recoloured_digit_is_the_same_picture_in_the_other_ink(number, resolution, seed) -> None:
    """Red ink is (200, 45, 45) and green (45, 160, 45): they differ by 155 and -115 times the coverage."""
    source = Digits(seed=seed)
    green, red = (source.image(row(number, ink), resolution).astype(float) for ink in (0, 1))
    np.testing.assert_array_equal(red[..., 2], green[..., 2])
    difference = red - green
    unclipped = np.maximum(red, green)[..., :2].max(axis=-1) < 255
    coverage = difference[..., 0] / 155
    np.testing.assert_allclose(difference[..., 1][unclipped], -115 * coverage[unclipped], atol=2)
    assert coverage[unclipped].min() >= -0.01
    assert 0.5 < coverage.max() <= 1.01


def test_a_picture_at_its_own_size_is_the_digits_coverage() -> None:
    """At 8 px nothing is interpolated: in red, the inks differ by 155 times scikit-learn's value / 16."""
    source, written = Digits(), load_digits().images
    for number in (1, 7, 1_796):
        green, red = (source.image(row(number, ink), 8).astype(float) for ink in (0, 1))
        coverage = (red - green)[..., 0] / 155
        strength = coverage[written[number] == 16].mean()
        assert 0.75 - 0.01 <= strength <= 1.01
        np.testing.assert_allclose(coverage, strength * written[number] / 16, atol=0.01)


def test_paper_and_noise_are_as_strong_as_they_are_said_to_be() -> None:
    images = np.stack([Digits().image(row(number, 0), 32) for number in range(200)]).astype(float)
    corners = images[:, :, :2].reshape(200, -1)  # left edge: hardly any ink there
    paper = np.median(corners, axis=1)
    assert 213 <= paper.min() < 222
    assert 243 < paper.max() <= 252
    dark = images[paper < 235][:, :, :2]  # bright paper is clipped at 255
    middle = dark - np.median(dark, axis=(1, 2, 3), keepdims=True)
    assert 1.4826 * np.median(np.abs(middle)) == pytest.approx(4.0, abs=0.7)  # whole numbers


@pytest.mark.parametrize("split", SPLITS)
def test_a_digit_in_an_ink_is_one_picture_in_every_split(split: str) -> None:
    source = Digits()
    of_split = part(source, split).iloc[3].to_dict()
    twin = row(int(of_split["id"].split("-")[1]), int(of_split["id"].endswith("-red")))
    np.testing.assert_array_equal(source.image(of_split, 16), source.image(twin, 16))


# The ink from the pixels


@pytest.mark.parametrize("resolution", [16, 32])
def test_the_ink_of_every_image_is_seen_in_its_pixels_and_under_more_noise(resolution: int) -> None:
    source, random = Digits(), np.random.default_rng(0)
    for red in (0, 1):
        images = np.stack([source.image(row(number, red), resolution) for number in ALL])
        assert red_ink(images).tolist() == [red] * 1_797
        noisy = np.clip(images + np.rint(random.normal(0, 15, images.shape)), 0, 255).astype(np.uint8)
        assert red_ink(noisy).tolist() == [red] * 1_797


def test_the_ink_is_what_outweighs_the_other_in_all_pixels_together() -> None:
    images = np.full((5, 2, 2, 3), 200, np.uint8)
    images[1, 0, 0] = (201, 200, 255)
    images[2, 0, 0] = (200, 201, 0)
    images[3, :, 0] = (255, 0, 0)  # 2 pixels that add 510, and 2 that take 200 each
    images[3, :, 1] = (0, 200, 0)
    images[4, 0, 0], images[4, 1, 1] = (255, 0, 0), (0, 255, 0)  # neither
    found = red_ink(images)
    assert found.tolist() == [0, 1, 0, 1, 0]
    assert found.dtype == np.int64
    assert red_ink(images[:0]).shape == (0,)


def test_a_source_says_which_attributes_pixels_tell() -> None:
    assert Digits().measured("Red") is red_ink
    assert Digits().measured("Five_or_more") is None
    assert Avatars().measured("Male") is None
    assert SOURCES["digits"] is Digits


def test_images_are_measured_in_batches_and_come_in_order() -> None:
    n = MEASURED_AT_ONCE + 100
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, 2, 2, 3)).astype(np.uint8)
    batches: list[int] = []
    found = measured_in_batches(red_ink, lambda positions: images[positions], n, batches.append)
    np.testing.assert_array_equal(found, red_ink(images))
    assert batches == [MEASURED_AT_ONCE, 100]
    assert 0 < found.sum() < n
