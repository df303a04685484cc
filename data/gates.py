"""The quality of complements: whether each one is what it promises, and the gates that it has to pass.

A complement promises the labels of its original with the attributes in `flips` flipped. The classifiers say
whether its image has them (METHODS 1.6: the published label is "assumed and never checked; check it"); the
column `flipped` of its store says whether its latent has crossed the hyperplanes. The functions are pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.parameters import Gates
from pipeline.content.arrays import BoolArray
from pipeline.content.groups import protected_groups
from pipeline.content.tables import join_by_id
from pipeline.errors import UserError

# Columns of `judged_complements`: what the classifiers (gate `agreement`) and the hyperplanes find.
SAID = {
    "agreement": {"target": "target_kept", "protected": "protected_flipped"},
    "hyperplane": {"target": "hyperplane_target_kept", "protected": "hyperplane_flipped"},
}


def flip_masks(flips: pd.Series, protected: Sequence[str]) -> BoolArray:
    """Tell which protected attributes each complement was to flip.

    Args:
        flips: the attributes' names joined by "+", [n].
        protected: the names of the k protected attributes.

    Returns:
        bool [n, k].

    Raises:
        UserError: a name is none of `protected`.
    """
    kinds, which = np.unique(flips.to_numpy(dtype=str), return_inverse=True)
    unknown = [name for kind in kinds for name in kind.split("+") if name not in protected]
    if unknown:
        raise UserError(
            f"the complements flip {unknown[0]!r}, which is no protected attribute of params.yaml "
            f"({', '.join(protected)}): run `dvc repro` to make them again."
        )
    masks = np.array([[name in kind.split("+") for name in protected] for kind in kinds], dtype=bool)
    return masks.reshape(len(kinds), len(protected))[which]


def judged_complements(
    complements: pd.DataFrame,
    originals: pd.DataFrame,
    attributes: Sequence[str],
    label: str,
    labeller_accuracies: NDArray[np.float64],
) -> pd.DataFrame:
    """Label complements, and tell what the classifiers and the hyperplanes find of their promises.

    Args:
        complements: id, pair_id (the id of its original), flips, move_length, flipped (whether the latent,
            as a normalised input is rendered, changed sides), target_stayed (whether it stayed on its side of
            the target's hyperplane), and each attribute's label and score by the classifiers ("Male",
            "Male_score").
        originals: id and each attribute's label: for z by the classifiers, for real images the true one.
        attributes: the target, then the protected ones.
        label: `inherited` (what the complement promises) or `rescored` (what the classifiers say of it).
        labeller_accuracies: how often the target of originals is right, by their group: [n_groups].

    Returns:
        The complements in their order, with id, pair_id, flips, move_length, every score, and the columns

        - `target` and `protected`: the label; `protected` is the number of the protected group.
        - `group`: the group that it promises, target * n_protected + protected.
        - `NAME_as_promised`: whether this attribute's classifier says what the complement promises (bool).
        - `target_kept`, `protected_flipped`: the same for the target, and for all protected attributes
          together.
        - `hyperplane_flipped`, `hyperplane_target_kept`: the columns `flipped` and `target_stayed`.
        - `labeller_accuracy`: how often the target is right in the original's group.
        - `confidence`: the lowest score that a classifier gives the label, over the attributes, in [0, 1].
    """
    names = list(attributes)
    pairs = complements[["pair_id"]].rename(columns={"pair_id": "id"})
    of_originals = join_by_id(pairs, originals[["id", *names]], "labels of the originals")
    promised = of_originals[names].to_numpy(np.int64, copy=True)
    original_protected, n_protected = protected_groups(promised[:, 1:])
    original_groups = promised[:, 0] * n_protected + original_protected
    promised[:, 1:] ^= flip_masks(complements["flips"], names[1:])
    said = complements[names].to_numpy(np.int64)
    as_promised = said == promised
    labels = promised if label == "inherited" else said
    scores = complements[[f"{name}_score" for name in names]].to_numpy(np.float64)
    promised_protected, _ = protected_groups(promised[:, 1:])
    judged = complements[["id", "pair_id", "flips", "move_length", *(f"{name}_score" for name in names)]]
    return judged.assign(
        target=labels[:, 0],
        protected=protected_groups(labels[:, 1:])[0],
        group=promised[:, 0] * n_protected + promised_protected,
        **{f"{name}_as_promised": as_promised[:, column] for column, name in enumerate(names)},
        target_kept=as_promised[:, 0],
        protected_flipped=as_promised[:, 1:].all(axis=1),
        hyperplane_flipped=complements["flipped"].astype(bool),
        hyperplane_target_kept=complements["target_stayed"].astype(bool),
        labeller_accuracy=labeller_accuracies[original_groups],
        confidence=np.where(labels == 1, scores, 1 - scores).min(axis=1),
    )


def passed_gates(judged: pd.DataFrame, gates: Gates) -> dict[str, BoolArray]:
    """Tell which complements each gate that is on lets through: its parameter's name -> bool [n]."""
    passed: dict[str, BoolArray] = {}
    for gate, asked in (("agreement", gates.agreement), ("hyperplane", gates.hyperplane)):
        if asked != "none":
            said = [column for name, column in SAID[gate].items() if asked in (name, "both")]
            passed[gate] = judged[said].all(axis=1).to_numpy(dtype=bool)
    if gates.move_length is not None:
        passed["move_length"] = (judged["move_length"] <= gates.move_length).to_numpy(dtype=bool)
    if gates.confidence is not None:
        passed["confidence"] = (judged["confidence"] >= gates.confidence).to_numpy(dtype=bool)
    if gates.labeller_accuracy is not None:
        right = judged["labeller_accuracy"] >= gates.labeller_accuracy
        passed["labeller_accuracy"] = right.to_numpy(dtype=bool)
    return passed


def kept_by(passed: Mapping[str, BoolArray], n: int) -> BoolArray:
    """Tell which of n complements pass every gate: bool [n]."""
    kept: BoolArray = np.logical_and.reduce([np.ones(n, dtype=bool), *passed.values()])
    return kept


def dropped_counts(
    judged: pd.DataFrame, passed: Mapping[str, BoolArray], n_groups: int
) -> dict[str, dict[str, int]]:
    """Count the complements that each gate drops; one complement may fail several gates.

    Args:
        judged: as `judged_complements` returns them.
        passed: which complements each gate lets through, as `passed_gates` returns it.
        n_groups: how many groups there are.

    Returns:
        For each gate, `all` and, by the group that is promised, `group_0`, `group_1`, ...
    """
    counts = {}
    for gate, passes in passed.items():
        by_group = np.bincount(judged["group"].to_numpy()[~passes], minlength=n_groups)
        counts[gate] = {
            "all": int(by_group.sum()),
            **{f"group_{group}": int(count) for group, count in enumerate(by_group)},
        }
    return counts


def shares_of(judged: pd.DataFrame, attributes: Sequence[str]) -> dict[str, Any]:
    """Compute the shares of the complements that are as they promise.

    Args:
        judged: as `judged_complements` returns them.
        attributes: the target, then the protected ones.

    Returns:
        A share in [0, 1] for each column named in `SAID`; and `attributes`, with two shares for each
        attribute: `flipped`, of the complements that were to flip it, and `kept`, of the others. None
        replaces the share of no complements.
    """
    flips = np.zeros((len(judged), len(attributes)), dtype=bool)
    flips[:, 1:] = flip_masks(judged["flips"], attributes[1:])
    by_attribute = {
        name: {
            "flipped": _share(judged[f"{name}_as_promised"][flips[:, column]]),
            "kept": _share(judged[f"{name}_as_promised"][~flips[:, column]]),
        }
        for column, name in enumerate(attributes)
    }
    columns = [column for said in SAID.values() for column in said.values()]
    return {**{column: _share(judged[column]) for column in columns}, "attributes": by_attribute}


def _share(flags: pd.Series) -> float | None:
    return float(flags.mean()) if len(flags) else None
