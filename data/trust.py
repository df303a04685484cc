"""Whether the balanced data may be trusted: judgements of the complements and of the balanced set.

The functions are pure: tables and summaries in, judgements out. Complements are judged by classifiers that
did not label them. Besides its networks that label, every labeller has checkers, each trained on one half of
the images. The labels of z by the checkers of one half are the promise; the labels of z' by the checkers of
the other half are the check; and the other way round. So no mistake confirms itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from data.balancing import Added
from data.gates import flip_masks
from pipeline.content.arrays import BoolArray
from pipeline.content.groups import protected_groups
from pipeline.content.tables import join_by_id
from pipeline.content.trust import Judgement, Level

HALVES = (0, 1)  # of the images; the labels by their checkers are in the columns NAME_0 and NAME_1
# Shares of the complements whose target stays, and whose protected attributes flip.
USELESS_SHARE = 0.6  # at most this: a coin gives 0.5
DOUBTFUL_SHARE = 0.85  # below this: if both shares are as low, more than a quarter of the labels may be wrong
DOUBTFUL_GROUP_SHARE = 0.5  # below this: most complements that promise a group belong to another one
# If a checker's accuracy in its worst group of real images is below this, it may reject right complements.
FIT_TO_CHECK = 0.6
DOUBTFUL_RATIO = 0.1  # of the smallest group to the largest; below this
KL_TOLERANCE = 1e-9  # nats: smaller differences are rounding

SAID_BY = {
    "checkers": "By classifiers that did not label them",
    "labeller": "By the labeller itself, which has no checkers",
}


def has_halves(labels: pd.DataFrame, attributes: Sequence[str]) -> bool:
    """Tell whether a table of labels has, for every attribute, the labels by the checkers of both halves."""
    return all(_column(name, half) in labels for name in attributes for half in HALVES)


def _column(attribute: str, half: int | None) -> str:
    """Name the column of an attribute's labels by the checkers of a half (None: by the labeller, or true)."""
    return attribute if half is None else f"{attribute}_{half}"


def cross_checks(
    complements: pd.DataFrame, originals: pd.DataFrame, attributes: Sequence[str], true_originals: bool
) -> tuple[pd.DataFrame, bool]:
    """Check every complement's promise by classifiers that did not make it.

    Every complement is checked twice: half 0 promises and half 1 checks, and the other way round. True labels
    are promised to both. If there are no labels by checkers, the labeller checks its own promise, once.

    Args:
        complements: pair_id (the id of the original), flips, and each attribute's labels: by the labeller
            (NAME), and by the checkers of each half (NAME_0 and NAME_1), if there are any.
        originals: id and each attribute's labels.
        attributes: the target, then the protected ones.
        true_originals: whether the originals' labels NAME are the truth, as those of real images are.

    Returns:
        A table of checks, and whether they are by checkers. The table's columns are

        - `complement`: the complement's position in `complements`.
        - `group`: the group that is promised, target * n_protected + protected.
        - `kept`: whether the target is as promised.
        - `flipped`: whether all protected attributes are as promised.
    """
    names = list(attributes)
    by_checkers = has_halves(complements, names) and (true_originals or has_halves(originals, names))
    sides: list[tuple[int | None, int | None]] = [(None, None)]  # who promises, who checks
    if by_checkers:
        sides = [(None if true_originals else half, 1 - half) for half in HALVES]
    ids = complements[["pair_id"]].rename(columns={"pair_id": "id"})
    flips = flip_masks(complements["flips"], names[1:])
    checks = []
    for promising, checking in sides:
        columns = [_column(name, promising) for name in names]
        told = join_by_id(ids, originals[["id", *columns]], "labels of the originals")
        promised = told[columns].to_numpy(np.int64, copy=True)
        promised[:, 1:] ^= flips
        said = complements[[_column(name, checking) for name in names]].to_numpy(np.int64)
        protected, n_protected = protected_groups(promised[:, 1:])
        as_promised = said == promised
        checks.append(
            pd.DataFrame(
                {
                    "complement": np.arange(len(complements)),
                    "group": promised[:, 0] * n_protected + protected,
                    "kept": as_promised[:, 0],
                    "flipped": as_promised[:, 1:].all(axis=1),
                }
            )
        )
    return pd.concat(checks, ignore_index=True), by_checkers


def complements_judgement(
    step: str,
    checks: pd.DataFrame,
    by_checkers: bool,
    passed: BoolArray,
    groups: Sequence[str],
    inherited: bool,
    checker_accuracy: float | None = None,
) -> Judgement:
    """Judge whether the complements are what they promise: the same target, other protected attributes.

    The judgement is by the complements that passed the gates. Checkers have seen the same images as the
    networks that the gates ask, and share some mistakes with them: what passed looks a little better than it
    is.

    Args:
        step: the judgement's heading.
        checks: the table that `cross_checks` returns.
        by_checkers: whether the checks are by checkers, as `cross_checks` returns it.
        passed: which complements passed the gates, and may be used: [n].
        groups: the names of the groups, [2 n_protected].
        inherited: whether the complements' labels are what they promise. Otherwise they are the classifiers'
            own, which a broken promise does not make wrong: the judgement is doubtful at worst.
        checker_accuracy: of the checkers on real validation images, in the group, of the attribute and the
            half where it is the lowest; None if it is not known. If a group is rare, half of its images may
            be too few to learn from: checkers that are unfit in it call nothing useless.

    Returns:
        The judgement, with the figures it rests on.
    """
    used = checks[passed[checks["complement"].to_numpy(dtype=np.int64)]]
    kept, flipped = _share(used["kept"]), _share(used["flipped"])
    all_kept, all_flipped = _share(checks["kept"]), _share(checks["flipped"])
    both = (used["kept"] & used["flipped"]).groupby(used["group"]).mean()
    figures: dict[str, float | None] = {
        "complements": float(len(passed)),
        "used": float(passed.sum()),
        "kept": kept,
        "flipped": flipped,
        "kept_before_gates": all_kept,
        "flipped_before_gates": all_flipped,
        **{f"group_{k}_as_promised": _number(both.get(k)) for k in range(len(groups))},
        "by_checkers": float(by_checkers),
        "checker_accuracy": checker_accuracy,
    }
    if kept is None or flipped is None:
        return Judgement(
            step,
            "doubtful",
            f"None of {len(passed):,} passed the gates, so that none is used.",
            "Loosen balance.gates, or train the generator for longer.",
            figures,
        )
    worst = int(both.idxmin())
    level = _level_of_shares(min(kept, flipped), float(both[worst]))
    unfit = by_checkers and checker_accuracy is not None and checker_accuracy < FIT_TO_CHECK
    if unfit or (level == "useless" and not inherited):
        level = "doubtful"
    sentence = (
        f"{SAID_BY['checkers' if by_checkers else 'labeller']}, the target stays in {_tenths(kept)} and the "
        f"protected attributes are as promised in {_tenths(flipped)} of the {int(passed.sum()):,} that "
        f"passed the gates ({_tenths(all_kept)} and {_tenths(all_flipped)} of all {len(passed):,}); worst "
        f"of the groups promised is {groups[worst]}, where both hold for {_tenths(float(both[worst]))}"
    )
    if not inherited:
        sentence += "; their labels are the classifiers' own, and do not rest on that"
    if unfit:
        sentence += (
            f"; the checkers themselves are right for only {_tenths(checker_accuracy)} of the real "
            "validation images of a group, so that this says little"
        )
    remedy = (
        "Gate them (balance.gates.agreement: both), refine them (complement.refine.steps), or see to better "
        "labellers (train_attribute)."
    )
    return Judgement(step, level, f"{sentence}.", "" if level == "fine" else remedy, figures)


def _level_of_shares(lower: float, worst_group: float) -> Level:
    """Choose the level by the lower one of the shares kept and flipped, and by the worst group's share."""
    if lower <= USELESS_SHARE:
        return "useless"
    return "doubtful" if lower < DOUBTFUL_SHARE or worst_group < DOUBTFUL_GROUP_SHARE else "fine"


def balance_judgement(
    before: Mapping[str, Any], after: Mapping[str, Any], added: Added, target: str
) -> Judgement:
    """Judge whether the training data are better balanced than the real images alone.

    Args:
        before: of the real training images: images, group_counts (group_0, ... -> images), and the KL
            divergences in nats, as the datasheet has them: kl_joint, kl_uniform, kl_target, and kl_protected
            (attribute -> KL).
        after: the same with the synthetic images.
        added: the synthetic images, and what limits their number.
        target: the target's name.

    Returns:
        The judgement, with the figures it rests on.
    """
    sizes = {name: list(of["group_counts"].values()) for name, of in (("before", before), ("after", after))}
    figures: dict[str, float | None] = {"cap": float(added.cap), "synthetic": float(len(added.rows))}
    for name, of in (("before", before), ("after", after)):
        figures |= {f"{group}_{name}": float(count) for group, count in of["group_counts"].items()}
        figures |= {f"{kl}_{name}": float(of[kl]) for kl in ("kl_joint", "kl_uniform", "kl_target")}
        figures |= {
            f"kl_protected_{attribute}_{name}": float(kl) for attribute, kl in of["kl_protected"].items()
        }
    step = "balanced data"
    if added.rows.empty:
        sentence = f"No synthetic image can join the {before['images']:,} real ones: {added.why_none}."
        return Judgement(step, "useless", sentence, _as_sentence(added.remedy), figures)
    changes = {
        "the groups": (before["kl_uniform"], after["kl_uniform"]),
        f"the marginal of {target}": (before["kl_target"], after["kl_target"]),
        **{
            f"the marginal of {name}": (kl, after["kl_protected"][name])
            for name, kl in before["kl_protected"].items()
        },
    }
    worse = [
        f"{name} from {old:.4f} to {new:.4f}"
        for name, (old, new) in changes.items()
        if new > old + KL_TOLERANCE
    ]
    became = (
        f"Groups of {_listed(sizes['before'])} real images became {_listed(sizes['after'])}; in nats, the KL "
        f"divergence from equal groups goes from {before['kl_uniform']:.4f} to {after['kl_uniform']:.4f}, "
        f"that from independent attributes from {before['kl_joint']:.4f} to {after['kl_joint']:.4f}"
    )
    if worse:
        return Judgement(
            step,
            "useless",
            f"{became}; further from balance than the real images alone are {', '.join(worse)}.",
            "Train on real images (duplicated), or see to the labellers and to candidates of every group.",
            figures,
        )
    doubtful = min(sizes["after"]) < DOUBTFUL_RATIO * max(sizes["after"])
    few = f"; the smallest group has less than {_tenths(DOUBTFUL_RATIO)} of the largest" if doubtful else ""
    more = (
        "Raise balance.synthetic_per_real."
        if added.cut_by == "limit"
        else "See to more candidates of the smallest groups (sample.pair, complement.per_group, gates)."
    )
    level: Level = "doubtful" if doubtful else "fine"
    return Judgement(step, level, f"{became}{_cut(added)}{few}.", more if doubtful else "", figures)


def _cut(added: Added) -> str:
    """Write the clause on what the cap dropped, and why; empty if it dropped nothing."""
    why = {
        "nothing": "",
        "limit": "as balance.synthetic_per_real says",
        "marginals": "as more would leave a group or an attribute less balanced",
    }[added.cut_by]
    dropped = int(added.dropped.sum())
    return f"; {dropped:,} candidates beyond {added.cap:,} of a group were left out, {why}" if dropped else ""


def _share(flags: "pd.Series[Any]") -> float | None:
    return float(flags.mean()) if len(flags) else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _tenths(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _listed(counts: Sequence[int]) -> str:
    """Write counts as '507 / 35 / 27 / 531'."""
    return " / ".join(f"{count:,}" for count in counts)


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
