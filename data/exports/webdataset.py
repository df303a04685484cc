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

from data.exports.base import NAME, ExportFormat, Piece, records_of
from pipeline.content.files import committed

BLANK = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)


class WebDataset(ExportFormat):
    """Writes tar shards; KEY.json has the id and the columns.

    A split's rows are in random order, the same each time: readers shuffle no more than a buffer of them, and
    in the manifest all real images come before the synthetic ones.
    """

    shuffled = True

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        """Write a piece as one tar."""
        name = f"{NAME}-{piece.split}-{piece.index:06d}.tar"
        with committed(folder / name) as temporary, temporary.open("wb") as file:
            for key, record, image in zip(rows["key"], records_of(rows, self.columns), images, strict=True):
                _add(file, f"{key}{self.suffix}", image)
                _add(file, f"{key}.cls", str(record["y"]).encode())
                _add(file, f"{key}.json", json.dumps(record).encode())
            file.write(bytes(2 * tarfile.BLOCKSIZE))  # two zero blocks end a tar
        return [name]

    def write_tables(self, folder: Path) -> None:
        """Write nothing: every sample has its own labels."""


def _add(file: IO[bytes], name: str, content: bytes) -> None:
    """Append a member whose name has at most 100 bytes.

    Its header is a blank one with the name, the size and the checksum filled in (POSIX ustar): with three
    small members per image, `TarFile.addfile` takes as long as encoding the images.

    Args:
        file: the tar, open for writing.
        name: of the member.
        content: of the member.
    """
    header = bytearray(BLANK)
    header[: len(name)] = name.encode()
    header[124:135] = b"%011o" % len(content)
    header[148:156] = b" " * 8  # by definition, the checksum counts its own field as blanks
    header[148:156] = b"%06o\0 " % sum(header)
    file.write(header)
    file.write(content)
    file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
