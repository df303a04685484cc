"""Balancing: which synthetic images join the real ones, and with which labels.

Pure functions of tables. A pair is an original and its complement: z and z', or a real image and the
complement of its inversion. The sides that may be added are candidates; a policy chooses among them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.controls import sampled_rows
from data.gates import BoolArray
from data.sources.base import SPLITS
from pipeline.errors import UserError
from pipeline.groups import protected_groups
from pipeline.seeds import generator_for

BASE_COLUMNS = ("id", "store", "target", "protected", "split", "source", "pair_id")
SYNTHETIC_SOURCES = ("z", "z_prime", "real_prime")


def manifest_columns(attributes: Sequence[str]) -> list[str]:
    """The manifest's columns: `BASE_COLUMNS`, and each attribute's score (NaN in the rows of real images)."""
    return [*BASE_COLUMNS, *(f"{name}_score" for name in attributes)]


def real_rows(labels: pd.DataFrame, attributes: Sequence[str], store: str) -> pd.DataFrame:
    """The manifest's rows of the real images of `SPLITS`: the oracle's and the judges' are no user's.

    Args:
        labels: id, split and the attributes of every real image.
        attributes: the target, then the protected ones.
        store: the path of their image store.
    """
    kept = with_groups(labels[labels["split"].isin(SPLITS)], attributes)
    scores = {f"{name}_score": np.nan for name in attributes}
    rows = kept.assign(store=store, source="real", pair_id=None, **scores)
    return rows[manifest_columns(attributes)].reset_index(drop=True)


def with_groups(labels: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The table with columns `target` and `protected`, the number of the protected group."""
    target, *protected = attributes
    numbers, _ = protected_groups(labels[protected].to_numpy(np.int64))
    return labels.assign(target=labels[target].to_numpy(np.int64), protected=numbers)


def synthetic_rows(table: pd.DataFrame, attributes: Sequence[str], source: str, store: str) -> pd.DataFrame:
    """The manifest's rows of synthetic images.

    Args:
        table: id, pair_id, target, protected, and each attribute's score.
        source: one of `SYNTHETIC_SOURCES`.
    """
    rows = table.assign(store=store, split="train", source=source)
    return rows[manifest_columns(attributes)].reset_index(drop=True)


def candidates_of(
    z: pd.DataFrame,
    complements: Mapping[str, pd.DataFrame],
    kept: Mapping[str, BoolArray],
    attributes: Sequence[str],
    sources: Sequence[str],
    dropped: str,
    stores: Mapping[str, str],
) -> pd.DataFrame:
    """The manifest's rows of all synthetic images that may be used, an original before its complements.

    Args:
        z: id, and each attribute's label and score by the classifiers.
        complements: of each source of complements, what `data.gates.judged_complements` gives.
        kept: of each such source, which complements passed the gates: [n].
        attributes: the target, then the protected ones.
        sources: those of `SYNTHETIC_SOURCES` that may be used; "z" goes with "z_prime".
        dropped: what a gate drops: `pair` (a z without a complement that passed goes too), `complement`.
        stores: the path of each source's image store.
    """
    tables = []
    if "z" in sources:
        pairs = complements["z_prime"]["pair_id"]
        partners = z[z["id"].isin(pairs[kept["z_prime"]] if dropped == "pair" else pairs)]
        partners = with_groups(partners, attributes).assign(pair_id=partners["id"])
        tables.append(synthetic_rows(partners, attributes, "z", stores["z"]))
    for source, judged in complements.items():
        tables.append(synthetic_rows(judged[kept[source]], attributes, source, stores[source]))
    return pd.concat(tables).sort_values(["pair_id", "source", "id"]).reset_index(drop=True)


def groups_of(rows: pd.DataFrame, n_protected: int) -> NDArray[np.int64]:
    """The group target * n_protected + protected of each row: [n]."""
    return (rows["target"] * n_protected + rows["protected"]).to_numpy(np.int64)


def counts_of(rows: pd.DataFrame, n_protected: int) -> "np.ndarray[Any, np.dtype[np.int_]]":
    """How many rows each group has: [2 n_protected]."""
    return np.bincount(groups_of(rows, n_protected), minlength=2 * n_protected)


def take_all(real: pd.DataFrame, candidates: pd.DataFrame, n_protected: int, seed: int) -> pd.DataFrame:
    """The paper's policy, `pairs`: every candidate."""
    return candidates


def fill_groups(real: pd.DataFrame, candidates: pd.DataFrame, n_protected: int, seed: int) -> pd.DataFrame:
    """Just what makes every group of the training images as large as the largest.

    The candidates of a group are taken in a random order from `seed`; where a group has too few of
    them all are taken, and the datasheet shows what is missing.
    """
    counts = counts_of(real[real["split"] == "train"], n_protected)
    groups = groups_of(candidates, n_protected)
    order = generator_for(seed, "fill").permutation(len(candidates))
    chosen: list[int] = []
    for group, missing in enumerate(counts.max() - counts):
        members = order[groups[order] == group]
        chosen += members[:missing].tolist()
    return candidates.iloc[sorted(chosen)].reset_index(drop=True)


Policy = Callable[[pd.DataFrame, pd.DataFrame, int, int], pd.DataFrame]

POLICIES: dict[str, Policy] = {"pairs": take_all, "fill": fill_groups}


def manifest_of(
    real: pd.DataFrame, candidates: pd.DataFrame, policy: str, n_protected: int, seed: int
) -> pd.DataFrame:
    """The balanced manifest: the real rows, then the synthetic ones that the policy takes.

    Raises `UserError` where it takes none.
    """
    chosen = POLICIES[policy](real, candidates, n_protected, seed)
    if chosen.empty:
        why = (
            "no complement passed all gates: loosen balance.gates, or train the generator for longer"
            if candidates.empty
            else "no candidate belongs to a group that policy fill has to fill: use policy pairs"
        )
        raise UserError(f"balance: no synthetic image is left to add; {why}.")
    return _joined(real, chosen)


def sampled_manifest_of(
    real: pd.DataFrame, z: pd.DataFrame, quota: NDArray[np.int_], n_protected: int, seed: int
) -> pd.DataFrame:
    """The manifest of the control `sampled`: the real rows, then each group's quota of z rows.

    Args:
        z: the manifest's rows of all plain images G(z).
        quota: the synthetic images of the balanced manifest by group: [2 n_protected].

    See `data.controls.sampled_rows`; a z that is repeated has as many rows.
    """
    return _joined(real, z.iloc[sampled_rows(groups_of(z, n_protected), quota, seed)])


def _joined(real: pd.DataFrame, synthetic: pd.DataFrame) -> pd.DataFrame:
    joined = pd.concat([real, synthetic], ignore_index=True)
    return joined.astype({"target": "int64", "protected": "int64", "pair_id": "string"})
