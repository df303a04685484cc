"""What an export format is: how a block of the manifest's rows becomes files, and which tables go with them.

A new format is one module beside this one with a subclass of `ExportFormat` (or of `ImageFiles`, where it
has a file per image), and one line in ``data/exports/__init__.py``.
"""

import copy
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.manifest import Manifest
from data.sources.base import SPLITS
from pipeline.errors import UserError
from pipeline.parameters import Export
from pipeline.seeds import generator_for
from pipeline.stores import RECORDS, committed, finish_store

LOCATED = f"{RECORDS}/rows.parquet"  # in the folder of an unfinished export
NAME = "balanced"  # of the data set, where a format's file names have one
SPLIT_NUMBERS = {split: number for number, split in enumerate(SPLITS)}  # CelebA's and Waterbirds'
LONGEST_KEY = 80  # characters: a file name in a tar has 100


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

    Attributes:
        table: the rows, train first, then validation, then test; each with its image's `key` (a name
            without a dot or a slash) and `file` (the key with the encoding's suffix).
        stores: the names of the stores that have the images.
    """

    has_splits: ClassVar[bool] = True  # false: of a layout that cannot tell splits apart
    png_only: ClassVar[bool] = False
    shuffled: ClassVar[bool] = False  # true: of a layout that is read from first to last

    def __init__(self, manifest: Manifest, section: Export) -> None:
        self.manifest, self.section = manifest, section
        self.encoding = "png" if self.png_only else section.encoding
        self.suffix = ".png" if self.encoding == "png" else ".jpg"
        rows = self._selected()
        if self.shuffled:
            rows = rows.iloc[generator_for("export").permutation(len(rows))]
        rows = rows.iloc[rows["split"].map(SPLIT_NUMBERS).argsort(kind="stable")].reset_index(drop=True)
        # Of all ids, so that an image is called the same whatever else is exported.
        keys = rows["id"].map(keys_of(manifest.table.set_index("id", drop=False)["id"]))
        self.table = rows.assign(key=keys, file=keys + self.suffix)
        self.stores = sorted(rows["store"].unique())

    def _selected(self) -> pd.DataFrame:
        """The rows that `export.rows` names, of one split where the layout cannot tell splits apart."""
        asked = self.section.rows
        try:
            if asked in SPLITS:
                return self.manifest.rows(split=asked)
            split = None if self.has_splits else "train"
            return self.manifest.rows(split, None if asked == "all" else asked)
        except UserError as error:
            raise UserError(f"export.rows is {asked}, but {error}") from error

    @cached_property
    def pieces(self) -> list[Piece]:
        """The table in blocks of `export.images_per_file` rows, none of two splits."""
        pieces: list[Piece] = []
        size, start = self.section.images_per_file, 0
        for split, count in self.table["split"].value_counts(sort=False).items():
            starts = range(start, start + count, size)
            start += count
            for index, first in enumerate(starts):
                last = min(first + size, start)
                pieces.append(Piece(len(pieces), str(split), index, len(starts), first, last))
        return pieces

    def write_rows(self, folder: Path) -> None:
        """Write the table, each image's place in its store with it: a row group for every piece."""
        located = self.manifest.located(self.table)
        schema = pa.Schema.from_pandas(located, preserve_index=False)
        with committed(folder / LOCATED) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for piece in self.pieces:
                rows = located.iloc[piece.start : piece.stop]
                writer.write_table(pa.Table.from_pandas(rows, schema, preserve_index=False), len(rows))

    def rows_of(self, folder: Path, piece: Piece) -> pd.DataFrame:
        """A piece's rows, of those that `write_rows` wrote, with the `position` of each image."""
        rows = pq.ParquetFile(folder / LOCATED).read_row_group(piece.number).to_pandas()
        return rows.set_index(pd.RangeIndex(piece.start, piece.stop))

    def without_rows(self) -> Self:
        """What a worker needs, who reads the rows of a piece when it makes that: memory for no more."""
        light = copy.copy(self)
        light.pieces = self.pieces
        light.table = pd.DataFrame(columns=self.table.columns)
        light.manifest = replace(self.manifest, table=pd.DataFrame(columns=self.manifest.table.columns))
        return light

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
            rows: the piece's, of `table`.
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
    """A format with a file per image."""

    @abstractmethod
    def paths(self, rows: pd.DataFrame) -> pd.Series:
        """Where the image of each row goes in the export: [n]."""

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


def safe_name(name: str) -> str:
    """A name that is safe as a file name, in a tar, in a URL and in a list with spaces between columns."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def keys_of(ids: pd.Series) -> pd.Series:
    """A name for each id that is safe (`safe_name`).

    An image's suffix is left out. Where two ids would get the same name, or a very long one, each gets a
    digest of its id.
    """
    keys = ids.str.replace(r"\.(png|jpe?g|bmp|webp|tiff?)$", "", case=False, regex=True)
    keys = keys.map(safe_name)
    # Some file systems take letters for the same in either case.
    ambiguous = keys.str.lower().duplicated(keep=False) | (keys.str.len() > LONGEST_KEY)
    digests = ids[ambiguous].map(lambda id: hashlib.sha256(id.encode()).hexdigest()[:16])
    return keys.where(~ambiguous, keys.str[: LONGEST_KEY - 17] + "-" + digests.reindex(ids.index))


def records_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Each row's id and columns as JSON has them: null where a real image has no pair and no scores."""
    plain = rows[["id", *columns]].astype(object)
    records: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")  # type: ignore[assignment]
    return records
