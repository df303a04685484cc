"""Protected labels that are missing, hidden or turned over: which ones, how many, and where they may be."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.names import UNKNOWN
from data.parameters import ProtectedLabels
from data.protected_labels import check_known, weakened
from data.sources import check_groups
from data.sources.table import TableSource
from pipeline.errors import UserError

NAMES = ["hat", "beard"]  # the protected attributes; the target is `happy`
SPLITS = ("train", "validation", "test", "oracle")


def labels_of(count: int = 4000) -> pd.DataFrame:
    """Labels of so many images in each split, drawn with equal probability."""
    random = np.random.default_rng(0)
    splits = np.repeat(SPLITS, count)
    columns = {name: random.integers(0, 2, len(splits)) for name in ("happy", *NAMES)}
    return pd.DataFrame({"id": [f"{k}.png" for k in range(len(splits))], "split": splits, **columns})


def changes(labels: pd.DataFrame, name: str, **shares: float) -> tuple[set[str], set[str]]:
    """The ids whose label of an attribute is hidden, and those whose label is turned over."""
    new = weakened(labels, NAMES, ProtectedLabels(**shares))[name]
    hidden, flipped = new == UNKNOWN, new == 1 - labels[name]
    return set(labels["id"][hidden]), set(labels["id"][flipped])


@pytest.mark.parametrize("name", NAMES)
def test_the_shares_are_those_that_are_asked_for(name):
    """Binomial deviations: √(0.3 · 0.7 / 4000) = 0.007 and √(0.1 · 0.9 / 4000) = 0.005; four of each."""
    hidden, _ = changes(labels_of(), name, hidden=0.3)
    assert len(hidden) / 4000 == pytest.approx(0.3, abs=0.03)
    nothing, flipped = changes(labels_of(), name, flipped=0.1)
    assert not nothing
    assert len(flipped) / 4000 == pytest.approx(0.1, abs=0.02)
    # Both: of the labels that are left, as many are turned over.
    hidden, flipped = changes(labels_of(), name, hidden=0.3, flipped=0.1)
    assert len(flipped) / (4000 - len(hidden)) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("what", ["hidden", "flipped"])
def test_a_larger_share_takes_in_what_a_smaller_one_has(what):
    labels, place = labels_of(500), ["hidden", "flipped"].index(what)
    sets = [changes(labels, "hat", **{what: share})[place] for share in (0.05, 0.2, 0.5)]
    for small, large in itertools.pairwise(sets):
        assert small < large


def test_only_protected_labels_of_training_images_change():
    labels = labels_of(200)
    new = weakened(labels, NAMES, ProtectedLabels(hidden=0.5, flipped=0.5))
    changed = new != labels
    assert set(new["split"][changed.any(axis=1)]) == {"train"}
    assert list(changed.columns[changed.any()]) == NAMES
    assert UNKNOWN not in labels[NAMES].to_numpy()  # the given table is as it was


def test_attributes_are_hidden_and_turned_over_by_themselves():
    """Independent halves have a quarter in common: 4000 / 4 ± 4 · 27."""
    (hats, _), (beards, _) = (changes(labels_of(), name, hidden=0.5) for name in NAMES)
    assert len(hats & beards) == pytest.approx(1000, abs=110)
    hidden, _ = changes(labels_of(), "hat", hidden=0.5)
    _, flipped = changes(labels_of(), "hat", flipped=0.5)
    assert len(hidden & flipped) == pytest.approx(1000, abs=110)


def test_what_changes_depends_on_ids_and_seed_not_on_the_order():
    labels = labels_of(100)
    settings = ProtectedLabels(hidden=0.4, flipped=0.2)
    new = weakened(labels, NAMES, settings)
    shuffled = weakened(labels.sample(frac=1, random_state=0), NAMES, settings)
    pd.testing.assert_frame_equal(shuffled.sort_index(), new)
    other = weakened(labels, NAMES, ProtectedLabels(hidden=0.4, flipped=0.2, seed=1))
    assert (other != new).to_numpy().any()


def test_labels_that_a_source_lacks_stay_unknown():
    labels = labels_of(50)
    gaps = (labels["split"] == "train") & (np.arange(200) % 3 == 0)
    labels.loc[gaps, "hat"] = UNKNOWN
    new = weakened(labels, NAMES, ProtectedLabels(flipped=0.5))
    assert (new["hat"][gaps] == UNKNOWN).all()
    assert set(new["hat"][~gaps]) == {0, 1}
    pd.testing.assert_frame_equal(weakened(labels, NAMES, ProtectedLabels()), labels)


# Where gaps may be


def four() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "split": ["train", "train", "validation", "test"],
            "happy": [0, 1, 0, 1],
            "hat": [UNKNOWN, 1, 0, 1],
        }
    )


@pytest.mark.parametrize(
    ("row", "name", "split"),
    [(0, "happy", "train"), (3, "happy", "test"), (2, "hat", "validation"), (3, "hat", "test")],
)
def test_a_gap_where_something_is_measured_is_named(row, name, split):
    check_known(four(), ["happy", "hat"], "prepare")  # that of a training image may be
    labels = four()
    labels.loc[row, name] = UNKNOWN
    with pytest.raises(UserError) as caught:
        check_known(labels, ["happy", "hat"], "prepare")
    assert str(caught.value) == (
        f"prepare: {name} is empty for the image {'abcd'[row]!r} of the split {split}: only protected "
        "attributes of training images may be, as nothing could be measured otherwise."
    )


def test_a_gap_in_an_attribute_that_is_not_used_is_none():
    labels = four().assign(glasses=UNKNOWN)
    check_known(labels, ["happy", "hat"], "prepare")


def test_a_group_that_only_unlabelled_images_may_have_is_named():
    rows = [
        {"split": split, "happy": happy, "hat": hat}
        for split in SPLITS[:3]
        for happy, hat in itertools.product((0, 1), repeat=2)
    ]
    table = pd.DataFrame(rows)
    check_groups(table, ["happy", "hat"], "prepare")
    table.loc[3, "hat"] = UNKNOWN
    with pytest.raises(
        UserError, match="train split has no image that is known to be of the group happy=1, hat=1"
    ):
        check_groups(table, ["happy", "hat"], "prepare")


def test_images_with_gaps_are_for_training_where_fractions_make_the_splits(tmp_path: Path):
    frame = labels_of(100)[["id", "happy", "hat"]].astype({"hat": "Int64"})
    gaps = np.random.default_rng(1).random(len(frame)) < 0.3

    def split_of(rows: pd.DataFrame) -> "pd.Series[str]":
        rows.to_csv(tmp_path / "list.csv", index=False)
        source = TableSource(
            name="table", folder=tmp_path, table="list.csv", path_column="id",
            attribute_columns=["happy", "hat"], fractions={"validation": 0.1, "test": 0.2},
        )  # fmt: skip
        table = source.table()
        assert list(table["hat"] == UNKNOWN) == list(rows["hat"].isna())
        return table.set_index("id")["split"]

    split = split_of(frame.assign(hat=frame["hat"].mask(gaps)))
    assert set(split[gaps]) == {"train"}
    # The others are split as if there were no more.
    pd.testing.assert_series_equal(split[~gaps], split_of(frame[~gaps]))
    shares = split[~gaps].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.01)
