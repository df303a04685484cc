"""The second built-in benchmark: real handwritten digits of scikit-learn, in red or in green ink.

The images are the 1,797 of `sklearn.datasets.load_digits`, 8 x 8 px, without the names of the 13 people who
wrote them: one person's digits are on both sides of every split. The ink is added here: it is the protected
attribute, and how often it agrees with the target in training is a parameter. The truth is known exactly: the
complement of a real image is the same picture in the other ink, and an image's ink can be computed from its
pixels.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from data.names import JUDGE_SPLIT, ORACLE_SPLIT
from data.sources.base import Measure, Source
from pipeline.content.arrays import IntArray
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError

DIGITS = 1_797
TRAIN, VALIDATION = 1_100, 297  # digits, in the seeded order; the other 400 are for testing
DARKEST = 16  # scikit-learn's value of a pixel covered with ink

INKS = {0: "green", 1: "red"}  # by Red
COLOURS = {0: (45.0, 160.0, 45.0), 1: (200.0, 45.0, 45.0)}  # by Red; RGB, of 255
STRENGTH = (0.75, 1.0)  # of an image's ink, uniform: its coverage is multiplied by it
PAPER = (215.0, 250.0)  # brightness of an image's paper, the same in every channel, uniform; of 255
NOISE = 4.0  # standard deviation of a pixel's value in each channel; of 255


@cache
def _digits() -> tuple[NDArray[np.float32], IntArray]:
    """Load the coverage with ink [1797, 8, 8] in [0, 1], and which digit it is [1797] in 0..9."""
    from sklearn.datasets import load_digits  # lazy: slow import

    content = load_digits()
    return (content.images / DARKEST).astype(np.float32), content.target.astype(np.int64)


def attributes_of(digits: IntArray) -> dict[str, IntArray]:
    """Compute the attributes of digits [n] in 0..9 but the ink: `Five_or_more` and `Even`, [n] in {0, 1}."""
    return {
        "Five_or_more": (digits >= 5).astype(np.int64),
        "Even": (digits % 2 == 0).astype(np.int64),
    }


def correlated_inks(target: IntArray, correlation: float) -> IntArray:
    """Choose the images with red ink so that the ink agrees with the target in a share of them.

    Of the n_t images of a target value, round(correlation n_t) have the ink that goes with it: red with 1,
    green with 0; if this leaves none, one image has the other ink. The same holds for the first k images, for
    every k, so that fewer images are a subset of more.

    Args:
        target: [n] in {0, 1}, in random order: the position among the images of the same value decides.
        correlation: in [0.5, 1]; 0.5: the inks are balanced within each value, up to one image.

    Returns:
        Whether each image has red ink, [n] in {0, 1}.
    """
    red = target.copy()
    for value in (0, 1):
        positions = np.flatnonzero(target == value)
        counts = np.arange(len(positions) + 1)
        others = np.maximum(counts - np.rint(correlation * counts).astype(np.int64), np.minimum(counts, 1))
        red[positions[np.diff(others) > 0]] = 1 - value
    return red


def red_ink(images: NDArray[np.uint8]) -> IntArray:
    """Find the images with red ink from their pixels.

    An image has red ink if red outweighs green in the sum of all pixels. Paper and noise are neutral, so that
    the difference is the ink's: the answer is right for every image of `Digits`.

    Args:
        images: RGB, uint8 [n, H, W, 3].

    Returns:
        [n] in {0, 1}.
    """
    red, green = (images[..., channel].sum(axis=(1, 2), dtype=np.int64) for channel in (0, 1))
    has_red_ink: NDArray[np.int64] = (red > green).astype(np.int64)
    return has_red_ink


class Digits(Source):
    """Draws handwritten digits in red or green ink, correlated with the target as strongly as asked.

    The binary attributes are `Five_or_more` and `Even`, of the digit, and `Red`: red ink, else green. A
    seeded order of the 1,797 digits gives 1,100 for training, 297 for validation and 400 for testing.

    The splits are

    - train: each of the first `train` training digits once, its ink by the correlation.
    - validation, test: every digit in both inks. So the inks are balanced within each target value, target
      values are as frequent as digits have them, and within a group no digit occurs twice; but the two images
      of a digit are not independent of one another.
    - oracle: the digits of train once each, inks balanced within each target value.
    - judge: all 1,100 training and 297 validation digits in both inks, for networks that serve evaluation
      alone: they may be trained on the same images as others, but not on digits of the test set, on which
      they are measured.

    A digit in an ink is the same picture in every split, and differs from its picture in the other ink by the
    colour of the ink alone: same strength, same paper, same noise.

    Attributes:
        train: images, up to 1,100; fewer are a subset of the same.
        correlation: the share of training images whose ink is red exactly if the target is 1; 0.5: no bias.
            Every group has at least one image. See `correlated_inks`.
        target: the attribute that the ink goes with.
    """

    name: Literal["digits"] = "digits"
    train: int = Field(TRAIN, ge=4, le=TRAIN)
    correlation: float = Field(0.95, ge=0.5, le=1)
    target: Literal["Five_or_more", "Even"] = "Five_or_more"
    seed: int = 0

    def table(self) -> pd.DataFrame:
        """List the digits of all splits, with their attributes."""
        order = generator_for(self.seed, "digits", "order").permutation(DIGITS)
        train, known = order[: self.train], order[: TRAIN + VALIDATION]
        return pd.concat(
            [
                self._once("train", train, self.correlation),
                self._in_both_inks("validation", known[TRAIN:]),
                self._in_both_inks("test", order[len(known) :]),
                self._once(ORACLE_SPLIT, train, 0.5),
                self._in_both_inks(JUDGE_SPLIT, known),
            ],
            ignore_index=True,
        )

    def _once(self, split: str, numbers: IntArray, correlation: float) -> pd.DataFrame:
        """List each digit once; the numbers [n] are positions among scikit-learn's digits."""
        target = attributes_of(_digits()[1][numbers])[self.target]
        for value, images in enumerate(np.bincount(target, minlength=2)):
            if images < 2:
                raise UserError(
                    f"params.yaml: prepare.source.train is {self.train}, and {images} of these digits have "
                    f"{self.target}={value}: expected two or more, one in each ink; raise it, or use "
                    "another seed."
                )
        return _rows(split, numbers, correlated_inks(target, correlation))

    def _in_both_inks(self, split: str, numbers: IntArray) -> pd.DataFrame:
        return _rows(split, np.repeat(numbers, 2), np.tile([1, 0], len(numbers)))

    def image(self, row: Mapping[str, Any], resolution: int) -> NDArray[np.uint8]:
        """Draw the digit of one row in its ink."""
        number = int(row["_number"])
        coverage = Image.fromarray(_digits()[0][number])  # mode F: floating point, not rounded to 8 bits
        enlarged = coverage.resize((resolution, resolution), Image.Resampling.BICUBIC)
        share = np.clip(np.asarray(enlarged, dtype=np.float64), 0.0, 1.0)[..., None]
        # The seeds do not depend on the ink: the picture is the same in both inks.
        share *= generator_for(self.seed, "digits", "strength", number).uniform(*STRENGTH)
        paper = generator_for(self.seed, "digits", "paper", number).uniform(*PAPER)
        noise = generator_for(self.seed, "digits", "noise", number).normal(0.0, NOISE, (*share.shape[:2], 3))
        pixels = paper * (1.0 - share) + np.array(COLOURS[int(row["Red"])]) * share + noise
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    def measured(self, attribute: str) -> Measure | None:
        """Return `red_ink` for the attribute `Red`."""
        return red_ink if attribute == "Red" else None


def _rows(split: str, numbers: IntArray, red: IntArray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"{split}-{n:04d}-{INKS[r]}" for n, r in zip(numbers, red.tolist(), strict=True)],
            "split": split,
            **attributes_of(_digits()[1][numbers]),
            "Red": red,
            "_number": numbers,
        }
    )
