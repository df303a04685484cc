"""`webdataset`: tar shards whose members KEY.png (or .jpg), KEY.cls (y) and KEY.json stand side by side.

    balanced-train-000000.tar, balanced-train-000001.tar, ...

A sample is the run of members that have one key, and a key ends at the first dot
(github.com/webdataset/webdataset, "The WebDataset Format").
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pandas as pd

from data.exports.base import NAME, ExportFormat, Piece, columns_of
from pipeline.stores import committed


class WebDataset(ExportFormat):
    """KEY.json has the id and the columns."""

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        name = f"{NAME}-{piece.split}-{piece.index:06d}.tar"
        with committed(folder / name) as temporary, temporary.open("wb") as file:
            for key, columns, image in zip(rows["key"], columns_of(rows), images, strict=True):
                _add(file, f"{key}{self.suffix}", image)
                _add(file, f"{key}.cls", str(columns["y"]).encode())
                _add(file, f"{key}.json", json.dumps(columns).encode())
            file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar
        return [name]

    def write_tables(self, folder: Path) -> None:
        """Every sample has its own."""


def _add(file: IO[bytes], name: str, content: bytes) -> None:
    """Append a member: `TarFile.addfile` without what it takes for three small ones per image."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    file.write(content)
    file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
