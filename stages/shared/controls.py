"""The data sets that a classifier may be trained on: `TRAINING_DATA`, one entry each, in the tables' order.

An entry says which rows the set has, what it is in a sentence, and how figures draw it; schema, training,
evaluation and reports read it here. A new control is an entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.controls import duplicated_rows
from stages.shared.paths import ATTRIBUTES, BALANCED, GENERATOR, HYPERPLANES, LABELS

ELSEWHERE = "elsewhere"  # the data that a classifier from elsewhere was trained on
SEED_ELSEWHERE = 0  # of its one run, and of what finishes it

Rows = Callable[[NDArray[np.integer[Any]], int, int], NDArray[np.int64]]


@dataclass(frozen=True)
class TrainingData:
    """Describes a data set that classifiers are trained on.

    Attributes:
        name: as params.yaml, tables and folders use it.
        sentence: what it is.
        colour, marker: of the figures; Okabe and Ito's colours can be told apart by the colour-blind.
        split: the split of the real images that it is made of.
        repeat: chooses the rows to train on, [m], from the groups [n] of these images, the number of groups
            and the run's seed; None takes each image once.
        manifest: the table with its rows, synthetic ones among them; None for real images alone.
        made_by: the folders of the steps that made its synthetic images; their judgements count for it.
        is_control: whether `augmented` is compared with it.
        is_usable: whether a user has such data to train on; what is not is measured, but never recommended.
    """

    name: str
    sentence: str
    colour: str
    marker: str
    split: str = "train"
    repeat: Rows | None = None
    manifest: Path | None = None
    made_by: tuple[Path, ...] = ()
    is_control: bool = False
    is_usable: bool = True


TRAINING_DATA = {
    entry.name: entry
    for entry in (
        TrainingData("original", "real training images, as biased as they are", "#4D4D4D", "o"),
        TrainingData(
            "duplicated",
            "control: the real images, each group’s repeated until it is as large as the largest",
            "#E69F00",
            "D",
            repeat=duplicated_rows,
            is_control=True,
        ),
        TrainingData(
            "sampled",
            "control: real images and, of each group as many as in augmented, plain synthetic ones, G(z)",
            "#0072B2",
            "v",
            manifest=BALANCED / "sampled.parquet",
            made_by=(GENERATOR, ATTRIBUTES, LABELS / "z", BALANCED),
            is_control=True,
        ),
        TrainingData(
            "augmented",
            "real images, and synthetic pairs: G(z) with the complements G(z′)",
            "#009E73",
            "s",
            manifest=BALANCED / "manifest.parquet",
            made_by=(GENERATOR, ATTRIBUTES, LABELS / "z", HYPERPLANES, BALANCED),
        ),
        TrainingData(
            "oracle",
            "the aim: real images that no user has, all groups of one size",
            "#CC79A7",
            "^",
            split="oracle",
            is_usable=False,
        ),
        # Which images these are is not known, validation images perhaps among them. A finish that takes
        # training images gets the real ones.
        TrainingData(
            ELSEWHERE,
            "not trained here: a classifier of one’s own, in one run; its images, labels and cost are not "
            "known, and it is never recommended",
            "#D55E00",
            "X",
            is_usable=False,
        ),
    )
}
MANIFESTS = {name: entry.manifest for name, entry in TRAINING_DATA.items() if entry.manifest is not None}
REAL = tuple(name for name in TRAINING_DATA if name not in (*MANIFESTS, ELSEWHERE))
USABLE = tuple(name for name, entry in TRAINING_DATA.items() if entry.is_usable)
