"""Leakage analysis: where the rarest group loses images on the way from data to a fair classifier.

Pure functions of out/quality/quality.json and of the evaluation's table of runs. A group is t * n_g + a
everywhere (`pipeline.content.groups`). None stands for a figure that is undefined because the group is empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.reporting.choices import SELECTION
from stages.reporting.steps import set_name
from stages.reporting.tables import Table
from stages.reporting.text import cell, difference, plus_minus, points, share
from stages.shared.datasheet import Summary
from stages.shared.quality import FlipRates, Judged, JudgedSource, LabelNoise, Quality

SOURCE_BALANCED, GROUP_BALANCED = "source_balanced", "erm_balanced"  # groups with and without the source


@dataclass(frozen=True)
class Leak:
    """One place where the rarest group may lose images.

    Attributes:
        place, figure, beside: what is measured, its value, and the value to compare it with, as text.
        lost: share of the images that are lost there, in [0, 1]; None if the figure is no such share.
    """

    place: str
    figure: str
    beside: str
    lost: float | None = None


@dataclass(frozen=True)
class Moves:
    """The complements that were moved into a group, as the judges see them.

    Attributes:
        pairs: how many complements had originals in the groups that they should come from, by the judges.
        flipped: share of the attributes to flip that did flip, in [0, 1].
        kept: share of the pairs whose target stayed, in [0, 1].
        as_asked: share of the pairs in which both hold and no other attribute changed, in [0, 1].
    """

    pairs: int
    flipped: float
    kept: float
    as_asked: float


def rarest_group(group_counts: Mapping[str, int]) -> int:
    """Return the group with the fewest images; of equal ones the first.

    Args:
        group_counts: of a summary, as in datasheet.json: group_0, group_1, ... -> images.

    Returns:
        its number.
    """
    return min(range(len(group_counts)), key=lambda group: group_counts[f"group_{group}"])


def coverage(source: JudgedSource, group: int) -> float:
    """Return the share of a group among the images of a source, by the judges.

    Args:
        source: `judge.sources.SOURCE` of quality.json.
        group: its number.

    Returns:
        in [0, 1].
    """
    return float(source.group_n[group] / sum(source.group_n))


def moves_into(by_flips: Mapping[str, FlipRates], group: int, attributes: Sequence[str]) -> Moves | None:
    """Summarise the complements that were moved into a group.

    Complements that flip one attribute come from the group that differs from it by that attribute alone.

    Args:
        by_flips: `judge.complements.SOURCE` of quality.json.
        group: its number.
        attributes: the target, then the protected ones.

    Returns:
        the figures by the judges; None if no complement was moved into the group.
    """
    target, *protected = attributes
    pairs, flipped, kept, as_asked = 0, 0.0, 0.0, 0.0
    for flips, of in by_flips.items():
        asked = flips.split("+")
        mask = sum(1 << place for place, name in enumerate(reversed(protected)) if name in asked)
        start = group ^ mask
        n = of.group_n[start]
        if not n:
            continue
        changed = of.group_changed
        pairs += n
        flipped += n * sum(changed[name][start] or 0.0 for name in asked) / len(asked)
        kept += n * (1 - (changed[target][start] or 0.0))
        as_asked += n * (of.group_as_asked[start] or 0.0)
    return Moves(pairs, flipped / pairs, kept / pairs, as_asked / pairs) if pairs else None


def wrongly_labelled_share(labels: Mapping[str, LabelNoise], group: int) -> float | None:
    """Return the share of the synthetic images labelled as a group that the judges see in another group.

    Args:
        labels: `judge.labels.DATA` of quality.json, of all sources together.
        group: its number.

    Returns:
        in [0, 1]; None if no image is labelled as this group.
    """
    judged = [of.confusion[group] for of in labels.values()]
    images = sum(map(sum, judged))
    return 1 - sum(row[group] for row in judged) / images if images else None


def leaks(quality: Quality, before: Summary, runs: pd.DataFrame, attributes: Sequence[str]) -> list[Leak]:
    """Measure each place where the rarest group may lose images.

    Args:
        quality: out/quality/quality.json.
        before: of the datasheet: the real training images.
        runs: out/evaluation/runs.parquet.
        attributes: the target, then the protected ones.

    Returns:
        the places in the order of the steps; without judges only the last ones.
    """
    group = rarest_group(before.group_counts)
    judge = quality.judge
    found = _judged_leaks(judge, before, group, attributes) if judge else []
    for source, of in quality.probe.items():
        name = set_name(source)
        found.append(Leak(f"Shortcut: {name} told from real images", f"AUC {share(of.auc)}", "50 % is ideal"))
    return found + _shortcut(runs)


def _judged_leaks(judge: Judged, before: Summary, group: int, attributes: Sequence[str]) -> list[Leak]:
    made = judge.sources["z"]
    trained = before.group_counts[f"group_{group}"] / before.images
    found = [
        Leak(
            "Coverage: the group among G(z)",
            share(coverage(made, group)),
            f"{share(trained)} of training images",
        )
    ]
    for kind, name in ((made.classifiers, "f"), (made.hyperplanes, "h")):
        for attribute in attributes:
            of = kind[attribute]
            accuracy = of.group_accuracies[group]
            found.append(
                Leak(
                    f"Accuracy of {name} for {attribute}, on its G(z)",
                    share(accuracy),
                    f"{share(of.balanced_accuracy)} balanced, over all G(z)",
                    None if accuracy is None else 1 - accuracy,
                )
            )
    for source, by_flips in judge.complements.items():
        moves, name = moves_into(by_flips, group, attributes), set_name(source)
        if moves is None:
            continue
        of_pairs = f"of {moves.pairs:,} pairs moved into the group"
        found += [
            Leak(f"Edit: what was to flip did, {name}", share(moves.flipped), of_pairs, 1 - moves.flipped),
            Leak(f"Leakage: {attributes[0]} stayed, {name}", share(moves.kept), of_pairs, 1 - moves.kept),
            Leak(
                f"Both, and nothing else changed, {name}",
                share(moves.as_asked),
                of_pairs,
                1 - moves.as_asked,
            ),
        ]
    for data, labels in judge.labels.items():
        noise = wrongly_labelled_share(labels, group)
        average = np.average(
            [of.group_noise_average or 0.0 for of in labels.values()],
            weights=[of.images for of in labels.values()],
        )
        found.append(
            Leak(
                f"Wrong labels among its images, {data}",
                share(noise),
                f"{share(float(average))} over the groups",
                noise,
            )
        )
    return found


def _shortcut(runs: pd.DataFrame) -> list[Leak]:
    """Compare balancing real and synthetic images within every group with balancing the groups alone."""
    plain, sources = (cell(runs, "augmented", r, SELECTION) for r in (GROUP_BALANCED, SOURCE_BALANCED))
    if plain is None or sources is None:
        return []
    gain, deviation = difference(plain, sources)
    beside = f"{plus_minus(plain)} % with {GROUP_BALANCED}: {points(gain)} ± {100 * deviation:.1f}"
    return [Leak(f"Shortcut: worst group with {SOURCE_BALANCED}", f"{plus_minus(sources)} %", beside)]


def leak_table(found: Sequence[Leak]) -> Table:
    """Show every place where the rarest group may lose images."""
    return Table(
        "Where it is lost",
        "of the rarest group, step by step.",
        ["place", "figure", "beside"],
        [[loss.place, loss.figure, loss.beside] for loss in found],
        labels=3,
    )


def largest_leak(found: Sequence[Leak]) -> Leak | None:
    """Return the place where the largest share of the rarest group is lost; None if no figure is a share."""
    shares = [loss for loss in found if loss.lost is not None]
    return max(shares, key=lambda loss: loss.lost or 0.0, default=None)
