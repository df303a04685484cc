"""The built-in benchmark: group counts, determinism, and that the drawing shows what the labels say."""

import numpy as np
import pandas as pd
import pytest

from data.sources.avatars import Avatars, apportion, group_proportions, tone
from pipeline.errors import UserError


@pytest.fixture(scope="module")
def small() -> Avatars:
    return Avatars(train=200, validation=80, validation_minimum=15, test_per_group=10, oracle=80, seed=3)


def groups(table: pd.DataFrame, split: str) -> list[int]:
    part = table[table["split"] == split]
    return np.bincount(part["Blond_Hair"] * 2 + part["Male"], minlength=4).tolist()


def test_default_group_counts_are_celebas() -> None:
    table = Avatars().table()
    # 10,000 times 71,629, 66,874, 22,880 and 1,387 of 162,770.
    assert groups(table, "train") == [4401, 4108, 1406, 85]
    validation = groups(table, "validation")
    assert sum(validation) == 2000
    assert validation[3] == 150
    assert groups(table, "test") == [1000] * 4
    assert groups(table, "oracle") == [2500] * 4
    assert table["id"].is_unique


def test_without_correlation_hair_and_gender_are_independent() -> None:
    proportions = group_proportions("train", 0.0).reshape(2, 2)
    np.testing.assert_allclose(proportions, np.outer(proportions.sum(1), proportions.sum(0)), atol=1e-12)
    celeba = group_proportions("train", 1.0).reshape(2, 2)
    np.testing.assert_allclose(proportions.sum(1), celeba.sum(1))


def test_apportion_keeps_the_total_and_the_minimum() -> None:
    assert apportion(10, np.array([0.5, 0.25, 0.15, 0.1])).tolist() == [5, 3, 1, 1]
    assert apportion(10, np.array([0.7, 0.2, 0.1, 0.0]), minimum=2).tolist() == [4, 2, 2, 2]


def test_same_seed_same_faces_and_another_seed_others(small: Avatars) -> None:
    row = small.table().iloc[7].to_dict()
    first, again = small.image(row, 32), Avatars(**small.model_dump()).image(row, 32)
    np.testing.assert_array_equal(first, again)
    other = Avatars(**{**small.model_dump(), "seed": 4}).image(row, 32)
    assert np.abs(first.astype(int) - other).mean() > 5


def test_the_table_is_the_same_twice_and_its_extra_attributes_are_as_frequent_as_meant(
    small: Avatars,
) -> None:
    pd.testing.assert_frame_equal(small.table(), small.table())
    table = Avatars().table()
    assert table["Smiling"].mean() == pytest.approx(0.5, abs=0.02)
    assert table["Eyeglasses"].mean() == pytest.approx(0.25, abs=0.02)


def test_blond_hair_is_drawn_lighter_where_it_stands(small: Avatars) -> None:
    table = small.table()
    women = table[(table["split"] == "oracle") & (table["Male"] == 0)]
    means = {
        blond: np.mean([small.image(r, 32)[4:8, 12:20].mean() for r in rows.to_dict("records")])
        for blond, rows in women.groupby("Blond_Hair")
    }
    assert means[1] > means[0] + 20


def test_the_judges_images_are_balanced_and_no_other_splits() -> None:
    source = Avatars(train=40, validation=20, validation_minimum=2, test_per_group=4, oracle=8, judge=4000)
    table, without = source.table(), source.model_copy(update={"judge": 0}).table()
    assert groups(table, "judge") == [1000] * 4
    judged = table[table["split"] == "judge"]
    for name, share in (("Smiling", 0.5), ("Eyeglasses", 0.25)):  # at random, within each group too
        by_group = judged.groupby(["Blond_Hair", "Male"])[name].mean()
        np.testing.assert_allclose(by_group, share, atol=0.06)
    assert table["id"].is_unique
    assert judged["id"].iloc[0] == "judge-000000"
    # It is drawn on its own: with or without it, all other splits are the same.
    pd.testing.assert_frame_equal(table[table["split"] != "judge"], without)
    assert not (without["split"] == "judge").any()
    oracle = table[table["split"] == "oracle"].iloc[0].to_dict()
    twin = {**oracle, "id": "judge-000000"}
    assert np.abs(source.image(oracle, 32).astype(int) - source.image(twin, 32)).mean() > 5


def test_by_default_there_are_no_images_for_judges() -> None:
    assert not (Avatars().table()["split"] == "judge").any()


def test_tones_run_from_dark_to_light_and_stay_in_range() -> None:
    brightness = [int(tone(value)[1:3], 16) for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert brightness == sorted(brightness)
    assert tone(-3.0) == tone(0.0) == "#2c1b18"
    assert tone(7.0) == tone(1.0) == "#ecdcbf"


def test_a_misspelt_key_is_named() -> None:
    from data.sources import source_of

    with pytest.raises(UserError, match=r"prepare\.source: trian is not a parameter"):
        source_of({"name": "avatars", "trian": 5})
    with pytest.raises(UserError, match=r"name is 'avatar'; expected avatars, celeba"):
        source_of({"name": "avatar"})
