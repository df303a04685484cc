"""Balancing: each policy's counts, the cap, the pairs that gates drop, sources, the control `sampled`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.balancing import (
    added_rows,
    candidates_of,
    capped_rows,
    counts_of,
    manifest_of,
    real_rows,
    sampled_manifest_of,
    synthetic_rows,
    with_groups,
)
from data.capping import is_less_balanced, largest_cap, marginal_counts
from data.gates import judged_complements
from data.names import manifest_columns
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
    """Make the complements of z (or real images) with these ids, all as promised; classifiers say 0."""
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


def balanced(
    real: pd.DataFrame, candidates: pd.DataFrame, policy: str, n_protected: int, seed: int = 0
) -> pd.DataFrame:
    """Make the balanced manifest, with any number of synthetic images."""
    return manifest_of(real, added_rows(real, candidates, policy, None, n_protected, seed))


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
    manifest = balanced(real, candidates(z_prime), "fill", 2)
    training = manifest[manifest["split"] == "train"]
    # Real: 3, 1, 2, 0. Group 1 lacks two and has two, group 2 lacks one of two, group 3 lacks three of two.
    assert counts_of(training, 2).tolist() == [3, 3, 3, 2]
    assert balanced(real, candidates(z_prime), "fill", 2).equals(manifest)


def test_fill_from_confirmed_complements_alone(real, z_prime) -> None:
    rows = candidates(z_prime, [True, True, False, True], ["z_prime"])
    training = balanced(real, rows, "fill", 2)
    # Group 0, the largest, gets nothing: b' is left out. Group 1 gets a', group 3 d'.
    assert set(training[training["source"] != "real"]["id"]) == {"a'Male", "d'Male"}


def test_pairs_take_all_and_leave_real_rows_as_they_are(real, z_prime) -> None:
    manifest = balanced(real, candidates(z_prime), "pairs", 2)
    assert manifest.columns.tolist() == manifest_columns(ONE)
    assert len(manifest) == 8 + 8  # the oracle's row is no part of it
    assert set(manifest[manifest["source"] != "real"]["split"]) == {"train"}
    assert manifest["split"].value_counts()["validation"] == 1
    assert manifest["id"].is_unique
    assert manifest[manifest["source"] == "real"]["Male_score"].isna().all()


def test_nothing_left_is_one_sentence(real, z_prime) -> None:
    with pytest.raises(UserError, match="no synthetic image is left to add; no complement passed all gates"):
        balanced(real, candidates(z_prime, ~ALL), "pairs", 2)
    largest = candidates(z_prime, [False, True, False, False], ["z_prime"])
    with pytest.raises(UserError, match="no candidate belongs to a group that policy fill has to fill"):
        balanced(real, largest, "fill", 2)
    # Group 0 is the largest already: by any other policy, too, nothing of it joins.
    with pytest.raises(UserError, match=r"by group 1 / 0 / 0 / 0, any number would make the data less bal"):
        balanced(real, largest, "pairs", 2)
    few = added_rows(real, candidates(z_prime), "pairs", 0.5, 2, seed=0)  # 3 images of 4 groups
    with pytest.raises(
        UserError, match=r"balance.synthetic_per_real 0.5 is less than one of each group: rai"
    ):
        manifest_of(real, few)


# The cap

# Digits of 5 or more in red or green ink: a labeller as biased as the data calls nearly all G(z) positive.
DIGITS = np.array([507, 35, 27, 531])
DIGITS_FOUND = np.array([175, 175, 9345, 9825])


def divergences(counts: Sequence[int]) -> list[float]:
    """Compute the KL to uniform, in nats, of the groups and each attribute, without the module's code."""

    def to_uniform(values: list[int]) -> float:
        shares = [value / sum(values) for value in values if value]
        return sum(share * np.log(share * len(values)) for share in shares)

    n_attributes = len(counts).bit_length() - 1
    binary = [f"{group:0{n_attributes}b}" for group in range(len(counts))]
    marginals = [
        [sum(n for n, bits in zip(counts, binary, strict=True) if bits[k] == value) for value in "01"]
        for k in range(n_attributes)
    ]
    return [to_uniform(list(counts)), *map(to_uniform, marginals)]


def allowed_caps(real: Sequence[int], found: Sequence[int], synthetic_per_real: float | None) -> list[int]:
    """List all caps that leave no divergence larger and are within the limit, by trying each."""
    limit = np.inf if synthetic_per_real is None else synthetic_per_real * sum(real) + 1e-6
    caps = []
    for cap in range(max(found) + 1):
        added = [min(n, cap) for n in found]
        after = divergences([a + b for a, b in zip(real, added, strict=True)])
        no_worse = all(new <= old + 1e-9 for old, new in zip(divergences(real), after, strict=True))
        if no_worse and sum(added) <= limit:
            caps.append(cap)
    return caps


def test_marginals_by_hand() -> None:
    assert marginal_counts(DIGITS).tolist() == [[542, 558], [534, 566]]
    eight = np.arange(8)  # 0 = 000, 1 = 001, ...: 6 of 0-3 and 22 of 4-7; 10 and 18; 12 and 16
    assert marginal_counts(np.stack([eight, 10 * eight])).tolist() == [
        [[6, 22], [10, 18], [12, 16]],
        [[60, 220], [100, 180], [120, 160]],
    ]


def test_one_target_is_found_far_more_often_than_the_other() -> None:
    # With all of them Male is nearly independent of the target, whose classes have 892 and 19,728 images.
    before, with_all = divergences(DIGITS.tolist()), divergences((DIGITS + DIGITS_FOUND).tolist())
    np.testing.assert_allclose(before, [0.477028, 0.000106, 0.000423], atol=1e-6)
    np.testing.assert_allclose(with_all, [0.522548, 0.514981, 0.000308], atol=1e-6)
    # The target's gap is 16 of 1,100 = 0.01455. With 180 of a group 892 and 918: 26 of 1,810 = 0.01436; with
    # 181 892 and 920: 28 of 1,812 = 0.01545.
    assert largest_cap(DIGITS, DIGITS_FOUND, None) == 180
    assert largest_cap(DIGITS, DIGITS_FOUND, 2.0) == 180  # 710 of 2,200
    assert largest_cap(DIGITS, DIGITS_FOUND, 0.5) == 137  # 4 * 137 = 548 of 550
    after = DIGITS + np.minimum(DIGITS_FOUND, 180)
    assert after.tolist() == [682, 210, 207, 711]
    assert all(new <= old for old, new in zip(before, divergences(after.tolist()), strict=True))
    assert is_less_balanced(DIGITS, np.stack([after, DIGITS + DIGITS_FOUND])).tolist() == [False, True]


def test_a_larger_cap_may_be_allowed_where_a_smaller_one_is_not() -> None:
    real, found = [6, 4, 11, 2], [11, 1, 7, 6]
    assert allowed_caps(real, found, None) == [0, 1, 9, 10, 11]
    assert largest_cap(np.array(real), np.array(found), None) == 11
    assert allowed_caps(real, found, 23 / 23) == [
        0,
        1,
        9,
    ]  # with 9 of a group 23 images, with 10 there are 24
    assert largest_cap(np.array(real), np.array(found), 1.0) == 9
    assert largest_cap(np.array(real), np.array(found), 22 / 23) == 1


def test_nothing_can_be_added_to_balanced_groups_where_one_has_no_candidate() -> None:
    assert largest_cap(np.full(4, 10), np.array([9, 9, 9, 0]), None) == 0
    assert largest_cap(np.full(4, 10), np.array([9, 9, 9, 2]), None) == 2
    # All candidates are of one target class, and that is the class with more real images already.
    assert largest_cap(DIGITS, np.array([0, 0, 9_000, 11_000]), None) == 0
    # Of the rarer class: with 16 of a group 574 and 558, a gap of 16 of 1,132; with 17 one of 18 of 1,134.
    assert largest_cap(DIGITS, np.array([9_000, 11_000, 0, 0]), None) == 16


def test_a_million_caps_are_searched() -> None:
    found = np.array([0, 10**6, 10**6, 10**6])
    assert largest_cap(np.full(4, 10), found, None) == 0  # each of them is tried
    # 700,000 real images in all; the search is over blocks of caps, and ends in the middle of one.
    real = np.array([300_000, 50_000, 50_000, 300_000])
    assert largest_cap(real, np.full(4, 10**6), 2.0) == 350_000
    assert largest_cap(real, np.array([10**6, 10**6, 10**6, 654_321]), None) == 654_321


groups_of_counts = st.sampled_from([4, 8]).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 30), min_size=n, max_size=n).filter(any),
        st.lists(st.integers(0, 40), min_size=n, max_size=n),
    )
)


@given(groups_of_counts, st.one_of(st.none(), st.floats(0.01, 5)))
@example(([6, 4, 11, 2], [11, 1, 7, 6]), None)
@example(([4, 3, 1, 0], [3, 3, 2, 0]), None)
@example(([5, 0, 0, 0], [3, 3, 0, 0]), 0.1)
def test_the_cap_is_the_largest_that_is_allowed(counts, synthetic_per_real) -> None:
    real, found = counts
    cap = largest_cap(np.array(real), np.array(found), synthetic_per_real)
    assert cap == allowed_caps(real, found, synthetic_per_real)[-1]
    assert cap >= min(found) or synthetic_per_real is not None  # as many of every group are always allowed


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4).filter(any), st.data())
def test_no_divergence_goes_up_however_many_images_there_are(real, data) -> None:
    found = data.draw(st.lists(st.integers(0, 10**6), min_size=4, max_size=4))
    limit = data.draw(st.one_of(st.none(), st.floats(0.01, 5)))
    added = np.minimum(found, largest_cap(np.array(real), np.array(found), limit))
    after = divergences((real + added).tolist())
    assert all(new <= old + 1e-9 for old, new in zip(divergences(real), after, strict=True))
    assert limit is None or added.sum() <= limit * sum(real) + 1e-6


def pairs_of(counts: Sequence[int]) -> pd.DataFrame:
    """Make candidates in pairs: counts[t] of target t, each one of protected group 0 and one of 1."""
    rows = [
        {"id": f"{side}-{target}-{k:04d}", "pair_id": f"z-{target}-{k:04d}", "target": target, "protected": g}
        for target, count in enumerate(counts)
        for k in range(count)
        for g, side in enumerate(("z", "z_prime"))
    ]
    return pd.DataFrame(rows).assign(split="train").sort_values(["pair_id", "id"], ignore_index=True)


def test_pairs_stay_together_under_a_cap() -> None:
    rows = pairs_of([30, 50])
    kept = capped_rows(rows, 20, 2, seed=0)
    assert counts_of(kept, 2).tolist() == [20] * 4
    assert set(kept["pair_id"].value_counts()) == {2}
    # In the order of the candidates, and a random choice among them: not the first, not always the same.
    assert kept["id"].tolist() == [id for id in rows["id"] if id in set(kept["id"])]
    assert kept.equals(capped_rows(rows, 20, 2, seed=0))
    assert set(kept["id"]) != set(capped_rows(rows, 20, 2, seed=1)["id"])
    chosen = kept["pair_id"].str[-4:].astype(int)[kept["target"] == 1]
    assert chosen.max() > 40  # the first 20 of 50 would end at 19
    pd.testing.assert_frame_equal(capped_rows(rows, 50, 2, seed=0), rows)
    assert capped_rows(rows, 30, 2, seed=0)["target"].value_counts().to_dict() == {0: 60, 1: 60}
    assert capped_rows(rows, 0, 2, seed=0).empty


def test_under_a_cap_a_pair_is_broken_only_where_a_group_is_full() -> None:
    rows = pairs_of([0, 10])
    odd = rows[~rows["id"].isin([f"z-1-{k:04d}" for k in range(4)])]  # four complements without their z
    kept = capped_rows(odd, 6, 2, seed=0)
    assert counts_of(kept, 2).tolist() == [0, 0, 6, 6]  # all six z
    whole = kept["pair_id"].value_counts().eq(2).sum()
    alone = set(kept["pair_id"].value_counts().loc[lambda n: n == 1].index)
    taken = kept[kept["protected"] == 1]["pair_id"].isin([f"z-1-{k:04d}" for k in range(4)]).sum()
    assert whole == 6 - taken and len(alone) == 2 * taken > 0


def test_what_the_cap_drops_is_told(real, z_prime) -> None:
    def added(real: pd.DataFrame, kept: Sequence[bool], limit: float | None, policy: str = "pairs"):
        return added_rows(real, candidates(z_prime, kept), policy, limit, 2, seed=0)

    # Real: 3, 1, 2, 0. All four pairs: two of every group.
    everything = added(real, ALL, None)
    assert (everything.cap, everything.cut_by, everything.dropped.tolist()) == (2, "nothing", [0] * 4)
    limited = added(real, ALL, 1.0)  # 6 of 8
    assert (limited.cap, limited.cut_by, limited.dropped.tolist()) == (1, "limit", [1] * 4)
    assert set(limited.rows["pair_id"].value_counts()) == {2}
    # Only a and b, of target 0 as 4 of 6 real images are.
    with_one = added(real, [True, True, False, False], None)
    assert (with_one.cap, with_one.cut_by, with_one.dropped.tolist()) == (0, "marginals", [2, 2, 0, 0])
    # fill would take two of group 1, one of 2 and two of 3; with the limit one of each: 3 images.
    filled = added(real, ALL, 0.5, "fill")
    assert counts_of(filled.rows, 2).tolist() == [0, 1, 1, 1]
    assert (filled.cap, filled.cut_by, filled.dropped.tolist()) == (1, "limit", [0, 1, 0, 1])


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
    filled = balanced(real, rows, "fill", 4)
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
    kept |= {"z_prime": np.array([False, False, True, False])}
    judged_of = {"z_prime": z_prime, "real_prime": judged}
    rows = candidates_of(originals(ONE), judged_of, kept, ONE, ["z", "z_prime", "real_prime"], "pair", STORES)
    assert set(rows["id"]) == {"c", "c'Male", "real_prime-r3", "real_prime-r4"}
    manifest = balanced(real, rows, "pairs", 2)
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
