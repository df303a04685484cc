"""What an export format is: how a block of the manifest's rows becomes files, and which tables go with them.

A new format is one module beside this one with a subclass of `ExportFormat` (or of `ImageFiles`, where it
has a file per image), and one line in ``data/exports/__init__.py``.
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
from pipeline.content.stores import RECORDS, finish_store
from pipeline.errors import UserError

ROWS = f"{RECORDS}/rows.parquet"  # in the folder of an unfinished export
NAME = "balanced"  # of the data set, where a format's file names have one
SPLIT_NUMBERS = {split: number for number, split in enumerate(SPLITS)}  # CelebA's and Waterbirds'


@dataclass(frozen=True)
class Piece:
    """A block of rows of one split: what one worker writes at a time.

    Attributes:
        number: among all pieces.
        index, of: among the split's pieces, and how many those are.
        start, stop: its rows.
    """

    number: int
    split: str
    index: int
    of: int
    start: int
    stop: int


class ExportFormat(ABC):
    """A format, with what is to be exported in it.

    The rows are in the order train, validation, test. No process holds more of them than a piece has, and
    what is read at once with those.

    Args:
        verdict: one sentence on what to train with which data; empty where there is none.

    Attributes:
        counts: how many `images` there are of each split, source, store and group.
        stores: the names of the stores that have the images.
        pieces: the rows in blocks of `export.images_per_file`, none of two splits.
    """

    has_splits: ClassVar[bool] = True  # false: of a layout that cannot tell splits apart
    png_only: ClassVar[bool] = False
    shuffled: ClassVar[bool] = False  # true: of a layout that is read from first to last

    def __init__(self, manifest: Manifest, section: Export, verdict: str = "") -> None:
        self.manifest, self.section, self.verdict = manifest, section, verdict
        self.encoding = "png" if self.png_only else section.encoding
        self.suffix = ".png" if self.encoding == "png" else ".jpg"
        counts = image_counts(manifest)
        self.counts = self._selected(counts.assign(group=manifest.labelled(counts)["group"]))
        self.stores = sorted(self.counts["store"].unique())
        self.pieces = self._pieces()

    def _selected(self, counts: pd.DataFrame) -> pd.DataFrame:
        """Those of `export.rows`, and of one split where the layout cannot tell splits apart."""
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
        """How many images there are of each split that has any, in the rows' order."""
        images = self.counts.groupby("split")["images"].sum()
        return {split: int(images[split]) for split in SPLITS if split in images}

    def write_rows(self, folder: Path) -> None:
        """Write all rows, where `rows_of` finds a piece's."""
        places = self.counts[["split", "source"]].drop_duplicates()
        places = places.assign(place=places["split"].map(SPLIT_NUMBERS))
        write_rows(folder / ROWS, self.manifest, self.stores, places, self.shuffled)

    def rows_of(self, folder: Path, piece: Piece) -> pd.DataFrame:
        """A piece's rows: the manifest's columns, and of each image `key`, a name without a dot or a slash,
        `file`, that name with the encoding's suffix, and `position`, its place in its store.
        """
        rows = self.manifest.labelled(read_rows(folder / ROWS, self.manifest, piece.start, piece.stop))
        return rows.assign(file=rows["key"] + self.suffix).set_index(pd.RangeIndex(piece.start, piece.stop))

    @property
    def columns(self) -> list[str]:
        """What is told of every image: labels, where it comes from, scores."""
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
        """Write a piece's files to disk; gives their names in `folder`.

        Args:
            rows: the piece's (`rows_of`).
            images: the encoded image of each row, made as they are asked for.
        """

    @abstractmethod
    def write_tables(self, folder: Path) -> None:
        """Write what goes beside all pieces, when those are there."""

    def finish(self, folder: Path, records: Mapping[int, dict[str, Any]]) -> Path:
        """Complete the export; gives the folder to publish, `folder` or one in it.

        Args:
            records: the pieces', by number, from those who made them.
        """
        self.write_tables(folder)
        finish_store(folder, len(self.pieces), records=records)
        return folder


class ImageFiles(ExportFormat):
    """A format with a file per image, and tables beside them."""

    @abstractmethod
    def paths(self, rows: pd.DataFrame) -> pd.Series:
        """Where the image of each row goes in the export: [n]. In those folders there are images alone."""

    @abstractmethod
    def tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """What a piece's rows add to each table, by the table's file in the export."""

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        names = [str(name) for name in self.paths(rows)]
        for parent in {(folder / name).parent for name in names}:
            parent.mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, images, strict=True):
            (folder / name).write_bytes(image)
        os.sync()  # once: syncing every file takes longer than making it
        return names

    def write_tables(self, folder: Path) -> None:
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
        """Add rows to the file of a table; `is_new`: before which nothing has been written."""
        table.to_csv(file, header=is_new, index=False)


def safe_name(name: str) -> str:
    """A name that is safe as a file name, in a tar, in a URL and in a list with spaces between columns."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def records_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Each row's id and columns as JSON has them: null where a real image has no pair and no scores."""
    plain = rows[["id", *columns]].astype(object)
    records: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")  # type: ignore[assignment]
    return records
