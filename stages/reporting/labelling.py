"""Puts names beside the marks of a scatter plot so that they overlap neither marks nor each other."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from pipeline.content.arrays import FloatArray

DISTANCES = (7, 14, 22, 32, 44, 58)  # points from the mark to the name, the nearest first
DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
WITH_LINE = 14  # points: from this distance on a line leads to the mark
MARK = 4  # points: half the width of a mark
SIZE = 8.0  # of the font, in points


@dataclass(frozen=True)
class Label:
    """A name and the mark that it belongs to.

    Attributes:
        x, y: of the mark.
        text: the name.
        colour: of the name.
        is_bold: whether it is emphasised.
        is_first: whether it is placed before those that are not.
    """

    x: float
    y: float
    text: str
    colour: str
    is_bold: bool = False
    is_first: bool = False


def place_labels(axes: Axes, marks: FloatArray, labels: Sequence[Label]) -> None:
    """Draw names, each at the first place near its mark that is free, or where it covers least.

    Args:
        axes: drawn once, so that its layout is final.
        marks: all marks of the plot, [n, 2]; names are not to cover them.
        labels: in the order in which they are placed.
    """
    per_point = axes.figure.dpi / 72
    inside = axes.get_window_extent()
    known = marks[~np.isnan(marks).any(axis=1)]
    half = MARK * per_point
    taken = [Bbox([[x - half, y - half], [x + half, y + half]]) for x, y in axes.transData.transform(known)]
    for label in labels:
        width, height = _size(axes, label)
        mark = axes.transData.transform((label.x, label.y))
        places = [
            (distance * along, distance * up)
            for distance, (along, up) in itertools.product(DISTANCES, DIRECTIONS)
        ]
        boxes = [_box(mark, place, per_point, width, height) for place in places]
        cost = [_covered(box, taken, inside) for box in boxes]
        best = int(np.argmin(cost))
        taken.append(boxes[best])
        _draw_label(axes, label, places[best])


def _size(axes: Axes, label: Label) -> tuple[float, float]:
    """Measure a name in pixels."""
    text = axes.text(0, 0, label.text, fontsize=SIZE, fontweight="bold" if label.is_bold else "normal")
    extent = text.get_window_extent()
    text.remove()
    return extent.width, extent.height


def _box(mark: FloatArray, place: tuple[float, float], per_point: float, width: float, height: float) -> Bbox:
    """Return the pixels of a name whose nearest side or corner is at `place`, in points from its mark."""
    along, up = place
    x, y = mark[0] + along * per_point, mark[1] + up * per_point
    left = x - width * (1 - np.sign(along)) / 2
    bottom = y - height * (1 - np.sign(up)) / 2
    return Bbox([[left, bottom], [left + width, bottom + height]])


def _covered(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Count the pixels that a name covers of others, and those that stand out of the plot."""

    def shared(other: Bbox) -> float:
        common = Bbox.intersection(box, other)
        return 0.0 if common is None else float(common.width * common.height)

    outside = box.width * box.height - shared(inside)
    return sum(shared(other) for other in taken) + outside


def _draw_label(axes: Axes, label: Label, place: tuple[float, float]) -> None:
    along, up = place
    far = max(abs(along), abs(up)) >= WITH_LINE
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    axes.annotate(
        label.text,
        (label.x, label.y),
        (along, up),
        textcoords="offset points",
        ha=("right", "center", "left")[int(np.sign(along)) + 1],
        va=("top", "center", "bottom")[int(np.sign(up)) + 1],
        fontsize=SIZE,
        fontweight="bold" if label.is_bold else "normal",
        color=label.colour,
        arrowprops=line if far else None,
        zorder=5,
    )
