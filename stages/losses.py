"""What the judges say of one group of the synthetic images: pure functions of out/quality/quality.json.

A group is t * n_g + a everywhere (`pipeline.groups`). None stands for what cannot be told: nobody is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIGURES = Mapping[str, Any]


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
