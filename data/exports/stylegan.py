"""`stylegan-zip`: one uncompressed zip of PNGs with dataset.json, as NVlabs' trainers read it.

    balanced.zip: 00000/KEY.png, ..., dataset.json = {"labels": [["00000/KEY.png", y], ...]}

(NVlabs/stylegan2-ada-pytorch, stylegan3 and edm: training/dataset.py, ImageFolderDataset.)
"""

import json
import pickle
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import pandas as pd

from data.exports.base import NAME, ExportFormat, Piece
from pipeline.content.files import committed
from pipeline.content.index import ShardRecord

PARTS = Path("parts")
FINISHED = Path("finished")


class StyleGANZip(ExportFormat):
    """Writes one zip; the pieces are zips of their own, joined at the end.

    A trainer takes all images that it finds as training data: so the zip has the images of the training split
    alone, unless `export.rows` names another.
    """

    has_splits = False
    png_only = True

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        """Write a piece as a zip of its own."""
        part = str(PARTS / f"{piece.number:05d}.zip")
        with committed(folder / part) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, image in zip(_names(piece, rows), images, strict=True):
                archive.writestr(zipfile.ZipInfo(name), image)  # its date is fixed: the same bytes each time
        return [part]

    def write_tables(self, folder: Path) -> None:
        """Join the parts, one image in memory at a time, and add the labels."""
        with (
            committed(folder / FINISHED / f"{NAME}.zip") as temporary,
            tempfile.TemporaryFile(dir=folder) as members,
            zipfile.ZipFile(temporary, "w") as whole,
        ):
            whole.filelist, whole.NameToInfo = MembersOnDisk(members), Forgotten()
            for piece in self.pieces:
                with zipfile.ZipFile(folder / PARTS / f"{piece.number:05d}.zip") as part:
                    for member in part.infolist():
                        whole.writestr(member, part.read(member))
            with whole.open(zipfile.ZipInfo("dataset.json"), "w", force_zip64=True) as file:
                self._write_labels(folder, file)

    def _write_labels(self, folder: Path, file: IO[bytes]) -> None:
        file.write(b'{"labels": [')
        for piece in self.pieces:
            rows = self.rows_of(folder, piece)
            labels = [[name, int(y)] for name, y in zip(_names(piece, rows), rows["y"], strict=True)]
            file.write((", " * (piece.number > 0) + json.dumps(labels)[1:-1]).encode())
        file.write(b"]}")

    def finish(self, folder: Path, records: Mapping[int, ShardRecord]) -> Path:
        """Publish the zip alone: its parts are no shards of it that could be mended one by one."""
        self.write_tables(folder)
        return folder / FINISHED


def _names(piece: Piece, rows: pd.DataFrame) -> pd.Series:
    """Return the path of each of a piece's images in the zip: [n]."""
    return f"{piece.number:05d}/" + rows["file"]


class MembersOnDisk(list[zipfile.ZipInfo]):
    """Keeps in a file what `ZipFile` remembers of each member until it writes the directory at the end.

    In memory it would take 0.5 KB for every image.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._count = file, 0

    def append(self, member: zipfile.ZipInfo) -> None:
        """Append a member to the file."""
        pickle.dump(member, self._file)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        self._file.seek(0)
        return (pickle.load(self._file) for _ in range(self._count))


class Forgotten(dict[str, zipfile.ZipInfo]):
    """Forgets members by name, which only reading needs."""

    def __setitem__(self, name: str, member: zipfile.ZipInfo) -> None: ...
