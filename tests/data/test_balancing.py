"""Balancing: each policy's counts, what gates take with them, sources, the control `sampled`."""

import numpy as np
import pandas as pd
import pytest

from data.balancing import (
    candidates_of,
    counts_of,
    manifest_columns,
    manifest_of,
    real_rows,
    sampled_manifest_of,
    synthetic_rows,
    with_groups,
)
from data.gates import judged_complements
from pipeline.errors import UserError

STORES = {source: f"out/synthetic/{source}" for source in ("z", "z_prime", "real_prime")}
ONE = ["Blond", "Male"]
TWO = ["Blond", "Male", "Eyeglasses"]
PAIRS = ["z", "z_prime"]


def labelled(ids: list[str], names: list[str], labels: list[tuple[int, ...]]) -> pd.DataFrame:
    scores = {f"{name}_score": np.linspace(0.1, 0.9, len(ids)) + k for k, name in enumerate(names)}
    return pd.DataFrame(labels, columns=names).assign(id=ids, **scores)


def complements(
    names: list[str], pair_ids: list[str], flips: list[str], label: str = "inherited"
) -> pd.DataFrame:
    """The complements of z (or real images) with these ids, all as promised by classifiers that say 0."""
    ids = [f"{pair_id}'{flip}" for pair_id, flip in zip(pair_ids, flips, strict=True)]
    table = labelled(ids, names, [(0,) * len(names)] * len(ids))
    table = table.assign(pair_id=pair_ids, flips=flips, move_length=1.0, flipped=True, target_stayed=True)
    return judged_complements(table, originals(names), names, label, np.ones(2 ** len(names)))


def originals(names: list[str]) -> pd.DataFrame:
    if names == ONE:
        return labelled(["a", "b", "c", "d"], names, [(0, 0), (0, 1), (1, 0), (1, 0)])
    return labelled(["a", "b"], names, [(1, 0, 0), (0, 1, 1)])


@pytest.fixture
def z_prime() -> pd.DataFrame:
    return complements(ONE, ["a", "b", "c", "d"], ["Male"] * 4)


ALL = np.ones(4, dtype=bool)


def candidates(z_prime: pd.DataFrame, kept=ALL, sources=PAIRS, dropped="pair") -> pd.DataFrame:
    return candidates_of(
        originals(ONE), {"z_prime": z_prime}, {"z_prime": np.asarray(kept)}, ONE, sources, dropped, STORES
    )


@pytest.fixture
def real() -> pd.DataFrame:
    labels = pd.DataFrame(
        {
            "id": [f"r{k}" for k in range(10)],
            "split": ["train"] * 6 + ["validation", "test", "oracle", "judge"],
            "Blond": [0, 0, 0, 0, 1, 1, 1, 0, 1, 1],
            "Male": [0, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        }
    )
    return real_rows(labels, ONE, "out/real")


def labels_by_id(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    return {r["id"]: (r["target"], r["protected"]) for r in rows.to_dict("records")}


def test_candidates_have_their_labels_scores_and_stores(z_prime) -> None:
    rows = candidates(z_prime)
    assert labels_by_id(rows) == {
        "a": (0, 0), "b": (0, 1), "c": (1, 0), "d": (1, 0),
        "a'Male": (0, 1), "b'Male": (0, 0), "c'Male": (1, 1), "d'Male": (1, 1),
    }  # fmt: skip
    assert rows["id"].tolist()[:4] == ["a", "a'Male", "b", "b'Male"]
    assert rows.columns.tolist() == manifest_columns(ONE)
    assert (rows["store"] == "out/synthetic/" + rows["source"]).all()
    of_c = rows.set_index("id").loc["c'Male"]
    assert of_c["Blond_score"] == pytest.approx(0.1 + 2 * 0.8 / 3)
    assert of_c["Male_score"] == pytest.approx(1.1 + 2 * 0.8 / 3)


def test_inherited_pairs_are_balanced_in_every_target(z_prime) -> None:
    assert counts_of(candidates(z_prime), 2).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("sources", "dropped", "ids"),
    [
        (["z", "z_prime"], "pair", {"a", "d", "a'Male", "d'Male"}),
        (["z", "z_prime"], "complement", {"a", "b", "c", "d", "a'Male", "d'Male"}),
        (["z_prime"], "pair", {"a'Male", "d'Male"}),
    ],
)
def test_what_goes_with_a_dropped_complement(z_prime, sources, dropped, ids) -> None:
    rows = candidates(z_prime, [True, False, False, True], sources, dropped)
    assert set(rows["id"]) == ids


def test_latents_that_were_not_complemented_are_no_candidates(z_prime) -> None:
    assert set(candidates(z_prime[:2], ALL[:2])["pair_id"]) == {"a", "b"}


def test_fill_takes_just_what_makes_groups_equal(real, z_prime) -> None:
    manifest = manifest_of(real, candidates(z_prime), "fill", 2, seed=0)
    training = manifest[manifest["split"] == "train"]
    # Real: 3, 1, 2, 0. Group 1 lacks two and has two, group 2 lacks one of two, group 3 lacks three of two.
    assert counts_of(training, 2).tolist() == [3, 3, 3, 2]
    assert manifest_of(real, candidates(z_prime), "fill", 2, seed=0).equals(manifest)


def test_fill_from_confirmed_complements_alone(real, z_prime) -> None:
    rows = candidates(z_prime, [True, True, False, True], ["z_prime"])
    training = manifest_of(real, rows, "fill", 2, seed=0)
    # Group 0, the largest, gets nothing: b' is left out. Group 1 gets a', group 3 d'.
    assert set(training[training["source"] != "real"]["id"]) == {"a'Male", "d'Male"}


def test_pairs_take_all_and_leave_real_rows_as_they_are(real, z_prime) -> None:
    manifest = manifest_of(real, candidates(z_prime), "pairs", 2, seed=0)
    assert manifest.columns.tolist() == manifest_columns(ONE)
    assert len(manifest) == 8 + 8  # the oracle's row is no part of it
    assert set(manifest[manifest["source"] != "real"]["split"]) == {"train"}
    assert manifest["split"].value_counts()["validation"] == 1
    assert manifest["id"].is_unique
    assert manifest[manifest["source"] == "real"]["Male_score"].isna().all()


def test_nothing_left_is_one_sentence(real, z_prime) -> None:
    with pytest.raises(UserError, match="no synthetic image is left to add; no complement passed all gates"):
        manifest_of(real, candidates(z_prime, ~ALL), "pairs", 2, seed=0)
    largest = candidates(z_prime, [False, True, False, False], ["z_prime"])
    with pytest.raises(UserError, match="no candidate belongs to a group that policy fill has to fill"):
        manifest_of(real, largest, "fill", 2, seed=0)


# Several protected attributes


def test_every_latent_and_its_complements_are_one_of_each_protected_group() -> None:
    flips = ["Male", "Eyeglasses", "Male+Eyeglasses"]
    judged = complements(TWO, ["a"] * 3 + ["b"] * 3, flips * 2)
    rows = candidates_of(
        originals(TWO), {"z_prime": judged}, {"z_prime": np.ones(6, dtype=bool)}, TWO, PAIRS, "pair", STORES
    )
    assert counts_of(rows, 4).tolist() == [1] * 8
    assert labels_by_id(rows)["a"] == (1, 0)
    assert labels_by_id(rows)["b"] == (0, 3)
    assert labels_by_id(rows)["b'Eyeglasses"] == (0, 2)


def test_a_latent_goes_with_its_last_complement() -> None:
    judged = complements(TWO, ["a", "a", "b", "b"], ["Male", "Eyeglasses"] * 2)
    kept = {"z_prime": np.array([False, True, False, False])}
    rows = candidates_of(originals(TWO), {"z_prime": judged}, kept, TWO, PAIRS, "pair", STORES)
    assert set(rows["id"]) == {"a", "a'Eyeglasses"}


def test_fill_of_eight_groups() -> None:
    labels = pd.DataFrame(
        [(0, 0, 0)] * 2 + [(0, 1, 1)] + [(1, 0, 0)], columns=TWO, index=pd.RangeIndex(4)
    ).assign(id=[f"r{k}" for k in range(4)], split="train")
    real = real_rows(labels, TWO, "out/real")
    assert counts_of(real, 4).tolist() == [2, 0, 0, 1, 1, 0, 0, 0]
    flips = ["Male", "Eyeglasses", "Male+Eyeglasses"]
    judged = complements(TWO, ["a"] * 3 + ["b"] * 3, flips * 2)
    rows = candidates_of(
        originals(TWO), {"z_prime": judged}, {"z_prime": np.ones(6, dtype=bool)}, TWO, PAIRS, "pair", STORES
    )
    filled = manifest_of(real, rows, "fill", 4, seed=0)
    assert counts_of(filled, 4).tolist() == [2, 1, 1, 2, 2, 1, 1, 1]  # the largest group takes none


# Complements of real images


def test_complements_of_real_images_have_the_true_labels_flipped(real, z_prime) -> None:
    true = pd.DataFrame({"id": ["r3", "r4"], "Blond": [0, 1], "Male": [1, 0]})
    inverted = labelled(["real_prime-r3", "real_prime-r4"], ONE, [(1, 1), (1, 1)])
    inverted = inverted.assign(
        pair_id=["r3", "r4"], flips="Male", move_length=1.0, flipped=True, target_stayed=True
    )
    judged = judged_complements(inverted, true, ONE, "inherited", np.ones(4))
    kept = {"real_prime": np.array([True, True])}
    rows = candidates_of(originals(ONE), {"real_prime": judged}, kept, ONE, ["real_prime"], "pair", STORES)
    assert labels_by_id(rows) == {"real_prime-r3": (0, 0), "real_prime-r4": (1, 1)}
    assert set(rows["source"]) == {"real_prime"}
    assert rows["pair_id"].tolist() == ["r3", "r4"]
    kept |= {"z_prime": np.array([True, False, False, False])}
    judged_of = {"z_prime": z_prime, "real_prime": judged}
    rows = candidates_of(originals(ONE), judged_of, kept, ONE, ["z", "z_prime", "real_prime"], "pair", STORES)
    assert set(rows["id"]) == {"a", "a'Male", "real_prime-r3", "real_prime-r4"}
    manifest = manifest_of(real, rows, "pairs", 2, seed=0)
    assert manifest["source"].value_counts().to_dict() == {"real": 8, "real_prime": 2, "z": 1, "z_prime": 1}


# The control


def test_the_control_has_the_quota_from_plain_images(real, z_prime) -> None:
    z = with_groups(originals(ONE), ONE).assign(pair_id=originals(ONE)["id"])
    plain = synthetic_rows(z, ONE, "z", STORES["z"])
    quota = np.array([0, 3, 1, 2])  # z: one image of group 0, one of 1, two of 2, none of 3
    manifest = sampled_manifest_of(real, plain, quota, 2, seed=0)
    assert manifest.columns.tolist() == manifest_columns(ONE)
    pd.testing.assert_frame_equal(manifest[:8][["id", "target"]], real[["id", "target"]])
    sampled = manifest[8:]
    assert counts_of(sampled, 2).tolist() == [0, 3, 1, 0]
    assert sampled["id"].tolist()[:3] == ["b"] * 3
    assert set(sampled["source"]) == {"z"}
    assert sampled.equals(sampled_manifest_of(real, plain, quota, 2, seed=0)[8:])
