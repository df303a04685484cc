"""Where one group is lost on the way from data to a fair classifier, as the judges and the runs see it.

Pure functions of out/quality/quality.json and of the evaluation's table of runs. A group is t * n_g + a
everywhere (`pipeline.content.groups`). None stands for what cannot be told: nobody is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.reporting.choices import SELECTION
from stages.reporting.steps import set_name
from stages.reporting.tables import Table
from stages.reporting.text import cell, difference, points, share, spread

FIGURES = Mapping[str, Any]
SOURCE_BALANCED, GROUP_BALANCED = "source_balanced", "erm_balanced"  # with the source in the groups, without


@dataclass(frozen=True)
class Loss:
    """One place where the way from data to a fair classifier may leak, of the rarest group.

    Attributes:
        place, figure, beside: what is measured, its value, and what to hold it against, as text.
        lost: share of the images that are lost there, in [0, 1]; None where it is no such share.
    """

    place: str
    figure: str
    beside: str
    lost: float | None = None


@dataclass(frozen=True)
class Moves:
    """The complements that were moved into a group, as the judges see them.

    Attributes:
        pairs: how many came from the judged groups that they were to come from.
        flipped: share of the attributes to flip that did, in [0, 1].
        kept: share of the pairs whose target stayed, in [0, 1].
        as_asked: share of the pairs where both is so and no other attribute changed, in [0, 1].
    """

    pairs: int
    flipped: float
    kept: float
    as_asked: float


def rarest_group(group_counts: Mapping[str, int]) -> int:
    """The group with the fewest images; of equal ones the first.

    Args:
        group_counts: of a summary, as in datasheet.json: group_0, group_1, ... -> images.
    """
    return min(range(len(group_counts)), key=lambda group: group_counts[f"group_{group}"])


def coverage(source: FIGURES, group: int) -> float:
    """The share of a group among the images of a source, by the judges, in [0, 1].

    Args:
        source: `judge.sources.SOURCE` of quality.json.
    """
    return float(source["group_n"][group] / sum(source["group_n"]))


def moves_into(by_flips: Mapping[str, FIGURES], group: int, attributes: Sequence[str]) -> Moves | None:
    """What became of the complements that were moved into a group.

    Those that flip an attribute come from the group that differs from it by that attribute alone.

    Args:
        by_flips: `judge.complements.SOURCE` of quality.json.
        attributes: the target, then the protected ones.
    """
    target, *protected = attributes
    pairs, flipped, kept, as_asked = 0, 0.0, 0.0, 0.0
    for flips, of in by_flips.items():
        asked = flips.split("+")
        mask = sum(1 << place for place, name in enumerate(reversed(protected)) if name in asked)
        start = group ^ mask
        n = of["group_n"][start]
        if not n:
            continue
        changed = of["group_changed"]
        pairs += n
        flipped += n * sum(changed[name][start] for name in asked) / len(asked)
        kept += n * (1 - changed[target][start])
        as_asked += n * of["group_as_asked"][start]
    return Moves(pairs, flipped / pairs, kept / pairs, as_asked / pairs) if pairs else None


def label_noise(labels: Mapping[str, FIGURES], group: int) -> float | None:
    """Of the synthetic images that were given a group, the share that the judges see in another, in [0, 1].

    Args:
        labels: `judge.labels.DATA` of quality.json, of all sources together.
    """
    judged = [of["confusion"][group] for of in labels.values()]
    images = sum(map(sum, judged))
    return 1 - sum(row[group] for row in judged) / images if images else None


def losses(
    quality: Mapping[str, Any], datasheet: Mapping[str, Any], runs: pd.DataFrame, attributes: Sequence[str]
) -> list[Loss]:
    """Each place where the rarest group may be lost, in the order of the steps; without judges the last ones.

    Args:
        quality: out/quality/quality.json.
        datasheet: out/balanced/datasheet.json.
        attributes: the target, then the protected ones.
    """
    group = rarest_group(datasheet["before"]["group_counts"])
    judge = quality["judge"]
    found = _judged_losses(judge, datasheet["before"], group, attributes) if judge else []
    for source, of in quality["probe"].items():
        name = set_name(source)
        found.append(
            Loss(f"Shortcut: {name} told from real images", f"AUC {share(of['auc'])}", "50 % is ideal")
        )
    return found + _shortcut(runs)


def _judged_losses(
    judge: Mapping[str, Any], before: Mapping[str, Any], group: int, attributes: Sequence[str]
) -> list[Loss]:
    made = judge["sources"]["z"]
    trained = before["group_counts"][f"group_{group}"] / before["images"]
    found = [
        Loss(
            "Coverage: the group among G(z)",
            share(coverage(made, group)),
            f"{share(trained)} of training images",
        )
    ]
    for kind, name in (("classifiers", "f"), ("hyperplanes", "h")):
        for attribute in attributes:
            of = made[kind][attribute]
            accuracy = of["group_accuracies"][group]
            found.append(
                Loss(
                    f"Accuracy of {name} for {attribute}, on its G(z)",
                    share(accuracy),
                    f"{share(of['balanced_accuracy'])} balanced, over all G(z)",
                    None if accuracy is None else 1 - accuracy,
                )
            )
    for source, by_flips in judge["complements"].items():
        moves, name = moves_into(by_flips, group, attributes), set_name(source)
        if moves is None:
            continue
        of_pairs = f"of {moves.pairs:,} pairs moved into the group"
        found += [
            Loss(f"Edit: what was to flip did, {name}", share(moves.flipped), of_pairs, 1 - moves.flipped),
            Loss(f"Leakage: {attributes[0]} stayed, {name}", share(moves.kept), of_pairs, 1 - moves.kept),
            Loss(
                f"Both, and nothing else changed, {name}",
                share(moves.as_asked),
                of_pairs,
                1 - moves.as_asked,
            ),
        ]
    for data, labels in judge["labels"].items():
        noise = label_noise(labels, group)
        average = np.average(
            [of["group_noise_average"] for of in labels.values()],
            weights=[of["images"] for of in labels.values()],
        )
        found.append(
            Loss(
                f"Wrong labels among its images, {data}",
                share(noise),
                f"{share(float(average))} over the groups",
                noise,
            )
        )
    return found


def _shortcut(runs: pd.DataFrame) -> list[Loss]:
    """What it brings to balance real and synthetic images within every group too."""
    plain, sources = (cell(runs, "augmented", r, SELECTION) for r in (GROUP_BALANCED, SOURCE_BALANCED))
    if plain is None or sources is None:
        return []
    gain, deviation = difference(plain, sources)
    beside = f"{spread(plain)} % with {GROUP_BALANCED}: {points(gain)} ± {100 * deviation:.1f}"
    return [Loss(f"Shortcut: worst group with {SOURCE_BALANCED}", f"{spread(sources)} %", beside)]


def loss_table(found: Sequence[Loss]) -> Table:
    """Show every place where the rarest group may be lost."""
    return Table(
        "Where it is lost",
        "of the rarest group, step by step.",
        ["place", "figure", "beside"],
        [[loss.place, loss.figure, loss.beside] for loss in found],
        labels=3,
    )


def largest_loss(found: Sequence[Loss]) -> Loss | None:
    """The place where the largest share of the rarest group's images is lost; None if nothing is a share."""
    shares = [loss for loss in found if loss.lost is not None]
    return max(shares, key=lambda loss: loss.lost or 0.0, default=None)
