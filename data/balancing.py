"""Balancing: which synthetic images join the real ones, and with which labels.

Pure functions of tables. A pair is z and its complement z'; `candidates_of` puts both into one table
of candidate rows, a policy chooses among them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.seeds import generator_for
from pipeline.stores import join_by_id

MANIFEST_COLUMNS = (
    "id", "store", "target", "protected", "split", "source", "pair_id", "target_score", "protected_score",
)  # fmt: skip
SYNTHETIC_SOURCES = ("z", "z_prime")


def real_rows(labels: pd.DataFrame, target: str, protected: str, store: str) -> pd.DataFrame:
    """The manifest's rows of the real images: of every split but the oracle's.

    Args:
        labels: id, split and the attributes of every real image.
        store: the path of their image store.
    """
    kept = labels[labels["split"] != "oracle"]
    return pd.DataFrame(
        {
            "id": kept["id"],
            "store": store,
            "target": kept[target],
            "protected": kept[protected],
            "split": kept["split"],
            "source": "real",
            "pair_id": None,
            "target_score": np.nan,
            "protected_score": np.nan,
        }
    ).reset_index(drop=True)


def candidates_of(
    z: pd.DataFrame,
    z_prime: pd.DataFrame,
    target: str,
    protected: str,
    label: str,
    stores: dict[str, str],
) -> pd.DataFrame:
    """The manifest's rows of all pairs that may be used, z and z' after one another by pair.

    Args:
        z: id, and for each attribute its label and its score ("Male", "Male_score").
        z_prime: the same, and pair_id: the id of its z.
        label: of z': `inherited` (the target of z, the opposite protected attribute), `rescored` (what
            the classifiers say of G(z')), or `agreed` (inherited; pairs where the classifiers say
            otherwise are left out).
        stores: the path of each source's image store, by "z" and "z_prime".
    """
    of_z = z.rename(columns={"id": "pair_id"})[["pair_id", target, protected]]
    joined = join_by_id(
        z_prime.rename(columns={"id": "own_id", "pair_id": "id"}),
        of_z.rename(columns={"pair_id": "id", target: "z_target", protected: "z_protected"}),
        "labels of z",
    ).rename(columns={"id": "pair_id", "own_id": "id"})
    inherited_target, inherited_protected = joined["z_target"], 1 - joined["z_protected"]
    if label == "agreed":
        agrees = (joined[target] == inherited_target) & (joined[protected] == inherited_protected)
        joined = joined[agrees]
        inherited_target, inherited_protected = inherited_target[agrees], inherited_protected[agrees]
    rescored = label == "rescored"
    primes = _synthetic_rows(
        joined,
        joined[target] if rescored else inherited_target,
        joined[protected] if rescored else inherited_protected,
        "z_prime", target, protected, stores,
    )  # fmt: skip
    partners = z[z["id"].isin(primes["pair_id"])].assign(pair_id=lambda table: table["id"])
    originals = _synthetic_rows(
        partners, partners[target], partners[protected], "z", target, protected, stores
    )
    return pd.concat([originals, primes]).sort_values(["pair_id", "source"]).reset_index(drop=True)


def _synthetic_rows(
    table: pd.DataFrame,
    targets: pd.Series,
    protecteds: pd.Series,
    source: str,
    target: str,
    protected: str,
    stores: dict[str, str],
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": table["id"],
            "store": stores[source],
            "target": targets,
            "protected": protecteds,
            "split": "train",
            "source": source,
            "pair_id": table["pair_id"],
            "target_score": table[f"{target}_score"],
            "protected_score": table[f"{protected}_score"],
        }
    )


def counts_of(rows: pd.DataFrame) -> "np.ndarray[Any, np.dtype[np.int_]]":
    """How many rows each group 2 t + g has: [4]."""
    return np.bincount(rows["target"] * 2 + rows["protected"], minlength=4)


def take_pairs(real: pd.DataFrame, candidates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The paper's policy: every z and every z'."""
    return candidates


def fill_groups(real: pd.DataFrame, candidates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Just what makes every group of the training images as large as the largest.

    The candidates of a group are taken in a random order from `seed`; where a group has too few of
    them all are taken, and the datasheet shows what is missing.
    """
    counts = counts_of(real[real["split"] == "train"])
    groups = candidates["target"] * 2 + candidates["protected"]
    order = generator_for(seed, "fill").permutation(len(candidates))
    chosen: list[int] = []
    for group, missing in enumerate(counts.max() - counts):
        members = order[groups.to_numpy()[order] == group]
        chosen += members[:missing].tolist()
    return candidates.iloc[sorted(chosen)].reset_index(drop=True)


Policy = Callable[[pd.DataFrame, pd.DataFrame, int], pd.DataFrame]

POLICIES: dict[str, Policy] = {"pairs": take_pairs, "fill": fill_groups}


def manifest_of(real: pd.DataFrame, candidates: pd.DataFrame, policy: str, seed: int) -> pd.DataFrame:
    """The balanced manifest: the real rows, then the synthetic ones that the policy takes.

    Raises `UserError` where no candidate is left.
    """
    chosen = POLICIES[policy](real, candidates, seed)
    if chosen.empty:
        raise UserError(
            "balance: no synthetic image is left to add: with balance.label agreed, no complement was "
            "scored as its pair promises. Use rescored or inherited, or train the generator for longer."
        )
    manifest = pd.concat([real, chosen], ignore_index=True)
    return manifest.astype({"target": "int64", "protected": "int64", "pair_id": "string"})[
        list(MANIFEST_COLUMNS)
    ]
