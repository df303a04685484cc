"""The base of all export formats: a block of the manifest's rows becomes files, and tables go with them.

A new format is one module beside this one with a subclass of `ExportFormat` (or of `ImageFiles`, if it has a
file per image), and one line in ``data/exports/__init__.py``.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import pandas as pd

from data.exports.rows import image_counts, read_rows, write_rows
from data.manifest import Manifest, selected
from data.names import SPLITS
from data.parameters import Export
from pipeline.content.index import RECORDS, ShardRecord
from pipeline.content.stores import finish_store
from pipeline.errors import UserError

ROWS = f"{RECORDS}/rows.parquet"  # in the folder of an unfinished export
NAME = "balanced"  # of the data set, where a format's file names have one
SPLIT_NUMBERS = {split: number for number, split in enumerate(SPLITS)}  # as CelebA and Waterbirds number them


@dataclass(frozen=True)
class Piece:
    """Names a block of rows of one split, which one worker writes at a time.

    Attributes:
        number: among all pieces, from 0.
        split: of the rows.
        index: among the split's pieces, from 0.
        of: how many pieces the split has.
        start: the first row.
        stop: the row after the last one.
    """

    number: int
    split: str
    index: int
    of: int
    start: int
    stop: int


class ExportFormat(ABC):
    """Writes rows of the manifest in one format.

    The rows are in the order train, validation, test. No process holds more rows than those of a piece, and
    the row groups that are read with them.

    Args:
        manifest: what to export from.
        section: the section `export`.
        verdict: one sentence on what to train with which data; empty if there is none.

    Attributes:
        has_splits: whether the layout can tell splits apart.
        png_only: whether the layout has PNGs whatever `export.encoding` is.
        shuffled: whether the rows of a split are in random order, as a layout that is read from first to last
            needs.
        counts: how many `images` there are of each split, source, store and group.
        stores: the names of the stores that have the images.
        pieces: the rows in blocks of `export.images_per_file`, each of one split.
    """

    has_splits: ClassVar[bool] = True  # false: the layout cannot tell splits apart
    png_only: ClassVar[bool] = False
    shuffled: ClassVar[bool] = False  # true: the layout is read from first to last

    def __init__(self, manifest: Manifest, section: Export, verdict: str = "") -> None:
        self.manifest, self.section, self.verdict = manifest, section, verdict
        self.encoding = "png" if self.png_only else section.encoding
        self.suffix = ".png" if self.encoding == "png" else ".jpg"
        counts = image_counts(manifest)
        self.counts = self._selected(counts.assign(group=manifest.labelled(counts)["group"]))
        self.stores = sorted(self.counts["store"].unique())
        self.pieces = self._pieces()

    def _selected(self, counts: pd.DataFrame) -> pd.DataFrame:
        """Select the counts of `export.rows`, and of one split if the layout cannot tell splits apart."""
        asked = self.section.rows
        try:
            if asked in SPLITS:
                return selected(counts, asked, None)
            split = None if self.has_splits else "train"
            return selected(counts, split, None if asked == "all" else asked)
        except UserError as error:
            raise UserError(f"export.rows is {asked}, but {error}") from error

    def _pieces(self) -> list[Piece]:
        pieces: list[Piece] = []
        size, start = self.section.images_per_file, 0
        for split, count in self.images_by_split.items():
            starts = range(start, start + count, size)
            start += count
            for index, first in enumerate(starts):
                last = min(first + size, start)
                pieces.append(Piece(len(pieces), split, index, len(starts), first, last))
        return pieces

    @property
    def images_by_split(self) -> dict[str, int]:
        """The number of images of each split that has any, in the rows' order."""
        images = self.counts.groupby("split")["images"].sum()
        return {split: int(images[split]) for split in SPLITS if split in images}

    def write_rows(self, folder: Path) -> None:
        """Write all rows to the folder, from where `rows_of` reads those of a piece."""
        places = self.counts[["split", "source"]].drop_duplicates()
        places = places.assign(place=places["split"].map(SPLIT_NUMBERS))
        write_rows(folder / ROWS, self.manifest, self.stores, places, self.shuffled)

    def rows_of(self, folder: Path, piece: Piece) -> pd.DataFrame:
        """Read a piece's rows.

        Args:
            folder: of the unfinished export.
            piece: the piece.

        Returns:
            The manifest's columns, and for each image `key`, a name without a dot or a slash, `file`, that
            name with the encoding's suffix, and `position`, its place in its store.
        """
        rows = self.manifest.labelled(read_rows(folder / ROWS, self.manifest, piece.start, piece.stop))
        return rows.assign(file=rows["key"] + self.suffix).set_index(pd.RangeIndex(piece.start, piece.stop))

    @property
    def columns(self) -> list[str]:
        """The columns that are exported for every image: labels, where it comes from, scores."""
        manifest = self.manifest
        names = ["y", "a", *manifest.protected, "group", "source", "pair_id", *manifest.scores]
        return list(dict.fromkeys(names))  # a single protected attribute may be called "a"

    @property
    def classes(self) -> tuple[str, str]:
        """The names of y = 0 and y = 1."""
        return f"not_{self.manifest.target}", self.manifest.target

    @abstractmethod
    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        """Write a piece's files to disk.

        Args:
            folder: of the unfinished export.
            piece: the piece.
            rows: the piece's (`rows_of`).
            images: the encoded image of each row, made when it is asked for.

        Returns:
            The files' names in `folder`.
        """

    @abstractmethod
    def write_tables(self, folder: Path) -> None:
        """Write the files that go beside all pieces, when all pieces are there."""

    def finish(self, folder: Path, records: Mapping[int, ShardRecord]) -> Path:
        """Complete the export.

        Args:
            folder: of the unfinished export.
            records: what the makers of the pieces recorded, by the piece's number.

        Returns:
            The folder to publish, `folder` or one in it.
        """
        self.write_tables(folder)
        finish_store(folder, len(self.pieces), records=records)
        return folder


class ImageFiles(ExportFormat):
    """Writes a format with a file per image, and tables beside them."""

    @abstractmethod
    def paths(self, rows: pd.DataFrame) -> pd.Series:
        """Return the path of each row's image in the export, [n]; their folders hold images alone."""

    @abstractmethod
    def tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return what a piece's rows add to each table, by the table's file in the export."""

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        """Write a file for each image."""
        names = [str(name) for name in self.paths(rows)]
        for parent in {(folder / name).parent for name in names}:
            parent.mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, images, strict=True):
            (folder / name).write_bytes(image)
        os.sync()  # once: syncing every file takes longer than making it
        return names

    def write_tables(self, folder: Path) -> None:
        """Write the rows of every table, piece by piece."""
        files: dict[str, IO[str]] = {}
        with ExitStack() as opened:
            for piece in self.pieces:
                for name, table in self.tables(self.rows_of(folder, piece)).items():
                    if is_new := name not in files:
                        files[name] = opened.enter_context(
                            (folder / name).open("w", encoding="utf-8", newline="")
                        )
                    self.write_lines(files[name], table, is_new)

    def write_lines(self, file: IO[str], table: pd.DataFrame, is_new: bool) -> None:
        """Append rows to the file of a table; `is_new` says that nothing has been written to it yet."""
        table.to_csv(file, header=is_new, index=False)


def safe_name(name: str) -> str:
    """Make a name safe as a file name, in a tar, in a URL and in a list with spaces between columns."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def records_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Convert each row's id and columns to JSON values: null if a real image has no pair and no scores."""
    plain = rows[["id", *columns]].astype(object)
    records: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")  # type: ignore[assignment]
    return records
