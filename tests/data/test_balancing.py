"""Balancing: labels follow ids, not positions; each policy's counts; each way to label z'."""

import numpy as np
import pandas as pd
import pytest

from data.balancing import MANIFEST_COLUMNS, candidates_of, counts_of, manifest_of, real_rows
from pipeline.errors import UserError

STORES = {"z": "out/synthetic/z", "z_prime": "out/synthetic/z_prime"}


def scored(ids: list[str], targets: list[int], protected: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ids,
            "Blond": targets,
            "Male": protected,
            "Blond_score": np.linspace(0.1, 0.9, len(ids)),
            "Male_score": np.linspace(0.9, 0.1, len(ids)),
        }
    )


@pytest.fixture
def z() -> pd.DataFrame:
    return scored(["a", "b", "c", "d"], [0, 0, 1, 1], [0, 1, 0, 0])


@pytest.fixture
def z_prime() -> pd.DataFrame:
    # The complement of c lost its target, that of d kept its protected attribute.
    table = scored(["a'", "b'", "c'", "d'"], [0, 0, 0, 1], [1, 0, 1, 0])
    return table.assign(pair_id=["a", "b", "c", "d"])


@pytest.fixture
def real() -> pd.DataFrame:
    labels = pd.DataFrame(
        {
            "id": [f"r{k}" for k in range(9)],
            "split": ["train"] * 6 + ["validation", "test", "oracle"],
            "Blond": [0, 0, 0, 0, 1, 1, 1, 0, 1],
            "Male": [0, 0, 0, 1, 0, 0, 1, 0, 1],
        }
    )
    return real_rows(labels, "Blond", "Male", "out/real")


def labels_by_id(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    return {r["id"]: (r["target"], r["protected"]) for r in rows.to_dict("records")}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("inherited", {"a'": (0, 1), "b'": (0, 0), "c'": (1, 1), "d'": (1, 1)}),
        ("rescored", {"a'": (0, 1), "b'": (0, 0), "c'": (0, 1), "d'": (1, 0)}),
        ("agreed", {"a'": (0, 1), "b'": (0, 0)}),
    ],
)
def test_labels_of_complements(z, z_prime, label, expected) -> None:
    rows = candidates_of(z, z_prime, "Blond", "Male", label, STORES)
    primes = rows[rows["source"] == "z_prime"]
    assert labels_by_id(primes) == expected
    # A pair is used whole or not at all.
    assert set(rows[rows["source"] == "z"]["id"]) == set(primes["pair_id"])


def test_inherited_pairs_are_balanced_in_every_target(z, z_prime) -> None:
    counts = counts_of(candidates_of(z, z_prime, "Blond", "Male", "inherited", STORES))
    assert counts.tolist() == [2, 2, 2, 2]


def test_shuffled_tables_give_the_same_labels(z, z_prime) -> None:
    straight = candidates_of(z, z_prime, "Blond", "Male", "inherited", STORES)
    shuffled = candidates_of(
        z.sample(frac=1, random_state=1), z_prime.sample(frac=1, random_state=2), "Blond", "Male",
        "inherited", STORES,
    )  # fmt: skip
    pd.testing.assert_frame_equal(straight, shuffled)


def test_a_complement_without_its_latent_is_named(z, z_prime) -> None:
    with pytest.raises(UserError, match="no row for id 'd'"):
        candidates_of(z[z["id"] != "d"], z_prime, "Blond", "Male", "inherited", STORES)


def test_fill_takes_just_what_makes_groups_equal(real, z, z_prime) -> None:
    candidates = candidates_of(z, z_prime, "Blond", "Male", "inherited", STORES)
    manifest = manifest_of(real, candidates, "fill", seed=0)
    training = manifest[manifest["split"] == "train"]
    # Real: 3, 1, 2, 0. Group 1 lacks two and has two, group 2 lacks one of two, group 3 lacks three of two.
    assert counts_of(training).tolist() == [3, 3, 3, 2]
    assert manifest_of(real, candidates, "fill", seed=0).equals(manifest)


def test_pairs_take_all_and_leave_real_rows_as_they_are(real, z, z_prime) -> None:
    candidates = candidates_of(z, z_prime, "Blond", "Male", "inherited", STORES)
    manifest = manifest_of(real, candidates, "pairs", seed=0)
    assert tuple(manifest.columns) == MANIFEST_COLUMNS
    assert len(manifest) == 8 + 8  # the oracle's row is no part of it
    assert set(manifest[manifest["source"] != "real"]["split"]) == {"train"}
    assert manifest["split"].value_counts()["validation"] == 1
    assert manifest["id"].is_unique


def test_nothing_agreed_is_one_sentence(real, z, z_prime) -> None:
    wrong = z_prime.assign(Male=1 - z_prime["Male"], Blond=1 - z_prime["Blond"])
    candidates = candidates_of(z, wrong[:1], "Blond", "Male", "agreed", STORES)
    with pytest.raises(UserError, match="no synthetic image is left"):
        manifest_of(real, candidates, "pairs", seed=0)
