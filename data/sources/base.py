"""The base of all sources of images: a table of the source's items, and the image of each.

A new data set is one module beside this one with a subclass of `Source`, and one line in
``data/sources/__init__.py``. The subclass is also the schema of its part of params.yaml.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.names import SPLITS, UNKNOWN
from pipeline.errors import UserError
from pipeline.parameters import Parameters

# Computes an attribute from pixels: RGB images uint8 [n, H, W, 3] to int64 [n] in {0, 1}.
Measure = Callable[[NDArray[np.uint8]], NDArray[np.int64]]
MEASURED_AT_ONCE = 512  # images that `measured_in_batches` reads at once


class BadImage(Exception):
    """Says in one sentence that an image cannot be used: it names the file, the row and what is wrong."""


class Source(Parameters):
    """Describes a data set, with its parameters as fields."""

    name: str

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """List all items, in a fixed order.

        If a file or column is missing, or a value is not binary, a `UserError` says so.

        Returns:
            The columns `id`, a unique string; `split`, one of `SPLITS`, `ORACLE_SPLIT` or `JUDGE_SPLIT`
            (`data.names`); every binary attribute as integers in {0, 1}; and what `image` needs of a row, in
            columns that start with "_".
        """

    @abstractmethod
    def image(self, row: Mapping[str, Any], resolution: int) -> NDArray[np.uint8]:
        """Return the image of one row.

        If the image cannot be used, a `BadImage` says why.

        Args:
            row: of `table`.
            resolution: the side of the image, px.

        Returns:
            RGB, uint8 [resolution, resolution, 3].
        """

    def measured(self, attribute: str) -> Measure | None:
        """Return the function that computes an attribute exactly from an image's pixels, if there is one.

        It is also used for synthetic images: evaluation takes its answer as the truth, and no network judges
        the attribute.

        Args:
            attribute: the name of an attribute.

        Returns:
            The function; None if there is none.
        """
        return None


def measured_in_batches(
    measure: Measure,
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    count: int,
    on_batch: Callable[[int], object] = lambda images: None,
) -> NDArray[np.int64]:
    """Compute an attribute from the pixels of images 0 to count - 1.

    Args:
        measure: computes it for images uint8 [n, H, W, 3].
        read: returns the images at some positions [n], uint8 [n, H, W, 3].
        count: how many images there are.
        on_batch: called with the number of images that were just measured.

    Returns:
        The attribute's values, [count] in {0, 1}.
    """
    values = np.empty(count, dtype=np.int64)
    for start in range(0, count, MEASURED_AT_ONCE):
        positions = np.arange(start, min(start + MEASURED_AT_ONCE, count))
        values[positions] = measure(read(positions))
        on_batch(len(positions))
    return values


def check_groups(table: pd.DataFrame, attributes: Sequence[str], where: str) -> None:
    """Check that every split has images of every group of some attributes.

    Args:
        table: of the source.
        attributes: the target, then the protected ones.
        where: what error sentences call the table.

    Raises:
        UserError: an attribute does not exist, or a split or a group has no images.
    """
    for name in attributes:
        if name not in table.columns or name.startswith("_") or name in ("id", "split"):
            known = [c for c in table.columns if not c.startswith("_") and c not in ("id", "split")]
            raise UserError(f"{where}: there is no attribute {name!r}; it has {', '.join(known)}.")
    for split in SPLITS:
        part = table[table["split"] == split]
        if part.empty:
            raise UserError(f"{where}: the {split} split has no images.")
        for group in np.ndindex(*(2,) * len(attributes)):
            if not (part[list(attributes)] == group).all(axis=1).any():
                values = ", ".join(f"{name}={value}" for name, value in zip(attributes, group, strict=True))
                gaps = (part[list(attributes)] == UNKNOWN).to_numpy().any()
                raise UserError(
                    f"{where}: the {split} split has no image {'that is known to be ' if gaps else ''}of the "
                    f"group {values}: every group needs at least one, or neither its accuracy nor a "
                    "direction can be measured."
                )
