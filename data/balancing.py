"""Balancing: which synthetic images join the real ones, and with which labels.

The functions are pure: tables in, tables out. A pair is an original and its complement: z and z', or a real
image and the complement of its inversion. The images of pairs that may be added are candidates. A policy
chooses among them, and a cap on the rows of every group keeps the data from becoming less balanced than the
real images are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.capping import cap_of_limit, largest_cap
from data.controls import sampled_rows
from data.names import SPLITS, manifest_columns
from pipeline.content.arrays import AnyIntArray, BoolArray
from pipeline.content.groups import protected_groups
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError

CutBy = Literal["nothing", "limit", "marginals"]


def real_rows(labels: pd.DataFrame, attributes: Sequence[str], store: str) -> pd.DataFrame:
    """Make the manifest's rows of the real images in `SPLITS`; the splits of oracle and judges are left out.

    Args:
        labels: id, split and the attributes of every real image.
        attributes: the target, then the protected ones.
        store: the path of their image store.

    Returns:
        The rows, with the columns of the manifest.
    """
    kept = with_groups(labels[labels["split"].isin(SPLITS)], attributes)
    scores = {f"{name}_score": np.nan for name in attributes}
    rows = kept.assign(store=store, source="real", pair_id=None, **scores)
    return rows[manifest_columns(attributes)].reset_index(drop=True)


def with_groups(labels: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Add the columns `target` and `protected`, the number of the protected group, to a table of labels."""
    target, *protected = attributes
    numbers, _ = protected_groups(labels[protected].to_numpy(np.int64))
    return labels.assign(target=labels[target].to_numpy(np.int64), protected=numbers)


def synthetic_rows(table: pd.DataFrame, attributes: Sequence[str], source: str, store: str) -> pd.DataFrame:
    """Make the manifest's rows of synthetic images.

    Args:
        table: id, pair_id, target, protected, and each attribute's score.
        attributes: the target, then the protected ones.
        source: one of `SYNTHETIC_SOURCES`.
        store: the path of their image store.

    Returns:
        The rows, with the columns of the manifest.
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
    """Make the manifest's rows of all synthetic images that may be used.

    Args:
        z: id, and each attribute's label and score by the classifiers.
        complements: what `data.gates.judged_complements` returns, for each source of complements.
        kept: which complements passed the gates, for each such source: [n].
        attributes: the target, then the protected ones.
        sources: the sources of `SYNTHETIC_SOURCES` that may be used; "z" goes with "z_prime".
        dropped: what a gate drops: `pair` (a z without a complement that passed is dropped, too) or
            `complement`.
        stores: the path of each source's image store.

    Returns:
        The rows, an original before its complements.
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


def manifest_groups(rows: pd.DataFrame, n_protected: int) -> NDArray[np.int64]:
    """Return the group target * n_protected + protected of each row: [n]."""
    return (rows["target"] * n_protected + rows["protected"]).to_numpy(np.int64)


def counts_of(rows: pd.DataFrame, n_protected: int) -> "np.ndarray[Any, np.dtype[np.int_]]":
    """Count the rows of each group: [2 n_protected]."""
    return np.bincount(manifest_groups(rows, n_protected), minlength=2 * n_protected)


def take_all(real: pd.DataFrame, candidates: pd.DataFrame, n_protected: int, seed: int) -> pd.DataFrame:
    """Take every candidate: the paper's policy, `pairs`."""
    return candidates


def fill_groups(real: pd.DataFrame, candidates: pd.DataFrame, n_protected: int, seed: int) -> pd.DataFrame:
    """Take just as many candidates as make every group of the training images as large as the largest.

    The candidates of a group are taken in a random order. If a group has too few of them, all are taken, and
    the datasheet shows how many are missing.

    Args:
        real: the manifest's rows of real images.
        candidates: the manifest's rows of synthetic images.
        n_protected: how many protected groups there are.
        seed: of the random order.

    Returns:
        The rows taken, in the order of the candidates.
    """
    counts = counts_of(real[real["split"] == "train"], n_protected)
    groups = manifest_groups(candidates, n_protected)
    order = generator_for(seed, "fill").permutation(len(candidates))
    chosen: list[int] = []
    for group, missing in enumerate(counts.max() - counts):
        members = order[groups[order] == group]
        chosen += members[:missing].tolist()
    return candidates.iloc[sorted(chosen)].reset_index(drop=True)


Policy = Callable[[pd.DataFrame, pd.DataFrame, int, int], pd.DataFrame]

POLICIES: dict[str, Policy] = {"pairs": take_all, "fill": fill_groups}


def capped_rows(rows: pd.DataFrame, cap: int, n_protected: int, seed: int) -> pd.DataFrame:
    """Keep at most `cap` rows of each group.

    The rows are taken in a random order of the pairs, all rows of a pair one after another: a pair stays
    whole unless one of its groups is full before the other.

    Args:
        rows: the manifest's rows of synthetic images.
        cap: rows of a group, at most.
        n_protected: how many protected groups there are.
        seed: of the random order.

    Returns:
        The rows that are kept, in the order that they had.
    """
    _, pairs = np.unique(rows["pair_id"].to_numpy(dtype=str), return_inverse=True)
    places = generator_for(seed, "cap").permutation(pairs.max(initial=-1) + 1)
    order = np.argsort(places[pairs], kind="stable")
    groups = manifest_groups(rows, n_protected)[order]
    kept = [order[groups == group][:cap] for group in range(2 * n_protected)]
    return rows.iloc[np.sort(np.concatenate(kept))].reset_index(drop=True)


@dataclass(frozen=True)
class Added:
    """Holds the synthetic rows that join the real ones.

    Attributes:
        rows: of the manifest.
        cap: how many rows a group may have, at most.
        dropped: rows of each group that the policy chose and the cap dropped: [2 n_protected].
        cut_by: what keeps the cap from being larger: nothing (no row is dropped), limit
            (balance.synthetic_per_real), marginals (with a larger one the groups, or an attribute's marginal,
            would be less balanced).
        why_none: the reason if there are no rows; else empty.
        remedy: what to do if there are no rows; else empty.
    """

    rows: pd.DataFrame
    cap: int
    dropped: AnyIntArray
    cut_by: CutBy
    why_none: str = ""
    remedy: str = ""


def added_rows(
    real: pd.DataFrame,
    candidates: pd.DataFrame,
    policy: str,
    synthetic_per_real: float | None,
    n_protected: int,
    seed: int,
) -> Added:
    """Choose synthetic rows by the policy, and cap every group.

    Args:
        real: the manifest's rows of real images, of all splits; some are of train.
        candidates: the manifest's rows of synthetic images.
        policy: one of `POLICIES`.
        synthetic_per_real: synthetic rows for each real training image, at most; None for any number.
        n_protected: how many protected groups there are.
        seed: of what is drawn.

    Returns:
        The rows that the policy chose and the cap left, and what limits their number.
    """
    chosen = POLICIES[policy](real, candidates, n_protected, seed)
    counts, found = (counts_of(r, n_protected) for r in (real[real["split"] == "train"], chosen))
    cap = largest_cap(counts, found, synthetic_per_real)
    rows = capped_rows(chosen, cap, n_protected, seed)
    cut_by: CutBy = "nothing"
    if cap < found.max():
        cut_by = "limit" if cap == cap_of_limit(counts, found, synthetic_per_real) else "marginals"
    why, remedy = "", ""
    if candidates.empty:
        why = "no complement passed all gates"
        remedy = "loosen balance.gates, or train the generator for longer"
    elif chosen.empty:
        why, remedy = "no candidate belongs to a group that policy fill has to fill", "use policy pairs"
    elif rows.empty and cut_by == "limit":
        why = f"balance.synthetic_per_real {synthetic_per_real} is less than one of each group"
        remedy = "raise it"
    elif rows.empty:
        sizes = " / ".join(f"{count:,}" for count in found)
        why = (
            f"of the candidates, by group {sizes}, any number would make the data less balanced than the "
            "real images are"
        )
        remedy = (
            "see to candidates of every group: with labellers that are right in each of them "
            "(train_attribute), and a generator that makes each of them (train_gan.group_balance)"
        )
    return Added(rows, cap, found - counts_of(rows, n_protected), cut_by, why, remedy)


def manifest_of(real: pd.DataFrame, added: Added) -> pd.DataFrame:
    """Make the balanced manifest: the real rows, then the synthetic ones.

    Args:
        real: the manifest's rows of real images.
        added: the synthetic rows that join them.

    Returns:
        The manifest.

    Raises:
        UserError: there are no synthetic rows.
    """
    if added.rows.empty:
        raise UserError(f"balance: no synthetic image is left to add; {added.why_none}: {added.remedy}.")
    return _joined(real, added.rows)


def sampled_manifest_of(
    real: pd.DataFrame, z: pd.DataFrame, quota: NDArray[np.int_], n_protected: int, seed: int
) -> pd.DataFrame:
    """Make the manifest of the control `sampled`: the real rows, then each group's quota of z rows.

    See `data.controls.sampled_rows`; a z that is repeated has as many rows.

    Args:
        real: the manifest's rows of real images.
        z: the manifest's rows of all plain images G(z).
        quota: the synthetic images of the balanced manifest by group: [2 n_protected].
        n_protected: how many protected groups there are.
        seed: of the draw.

    Returns:
        The manifest.
    """
    return _joined(real, z.iloc[sampled_rows(manifest_groups(z, n_protected), quota, seed)])


def _joined(real: pd.DataFrame, synthetic: pd.DataFrame) -> pd.DataFrame:
    joined = pd.concat([real, synthetic], ignore_index=True)
    return joined.astype({"target": "int64", "protected": "int64", "pair_id": "string"})
