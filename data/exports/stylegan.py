"""`stylegan-zip`: one uncompressed zip of PNGs with dataset.json, as NVlabs' trainers read it.

    balanced.zip: 00000/KEY.png, ..., dataset.json = {"labels": [["00000/KEY.png", y], ...]}

(NVlabs/stylegan2-ada-pytorch, stylegan3 and edm: training/dataset.py, ImageFolderDataset.)
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from data.exports.base import NAME, ExportFormat, Piece
from pipeline.stores import committed

PARTS = Path("parts")
FINISHED = Path("finished")


class StyleGANZip(ExportFormat):
    """The pieces are zips of their own, joined at the end.

    A trainer takes all images that it finds for training data: so the zip has those of the training split
    alone, unless `export.rows` names another.
    """

    has_splits = False
    png_only = True

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        part = str(PARTS / f"{piece.number:05d}.zip")
        with committed(folder / part) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, image in zip(_names(piece, rows), images, strict=True):
                archive.writestr(zipfile.ZipInfo(name), image)  # at a fixed date: the same bytes each time
        return [part]

    def write_tables(self, folder: Path) -> None:
        """Join the parts, one image in memory at a time, and add the labels."""
        names = pd.concat([_names(p, self.table.iloc[p.start : p.stop]) for p in self.pieces])
        labels = [[name, int(y)] for name, y in zip(names, self.table["y"], strict=True)]
        with (
            committed(folder / FINISHED / f"{NAME}.zip") as temporary,
            zipfile.ZipFile(temporary, "w") as whole,
        ):
            for piece in self.pieces:
                with zipfile.ZipFile(folder / PARTS / f"{piece.number:05d}.zip") as part:
                    for member in part.infolist():
                        whole.writestr(member, part.read(member))
            whole.writestr(zipfile.ZipInfo("dataset.json"), json.dumps({"labels": labels}))

    def finish(self, folder: Path, records: Mapping[int, dict[str, Any]]) -> Path:
        """The zip alone is published: its parts are no shards of it that could be mended one by one."""
        self.write_tables(folder)
        return folder / FINISHED


def _names(piece: Piece, rows: pd.DataFrame) -> pd.Series:
    """Where a piece's images go in the zip: [n]."""
    return f"{piece.number:05d}/" + rows["file"]
