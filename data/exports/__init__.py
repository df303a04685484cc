"""The export formats by name. A new one is a module here and a line in `EXPORTS`."""

from pathlib import Path

from data.exports.base import ExportFormat, ImageFiles, Piece
from data.exports.celeba import CelebALayout
from data.exports.hf_parquet import HFParquet
from data.exports.imagefolder import ImageFolder
from data.exports.images import ImageReader
from data.exports.stylegan import StyleGANZip
from data.exports.waterbirds import WaterbirdsLayout
from data.exports.webdataset import WebDataset
from data.manifest import read_manifest
from data.parameters import Export
from pipeline.errors import UserError

EXPORTS: dict[str, type[ExportFormat]] = {
    "hf-parquet": HFParquet,
    "webdataset": WebDataset,
    "imagefolder": ImageFolder,
    "waterbirds": WaterbirdsLayout,
    "celeba": CelebALayout,
    "stylegan-zip": StyleGANZip,
}

__all__ = ["EXPORTS", "ExportFormat", "ImageFiles", "ImageReader", "Piece", "export_of"]


def export_of(format: str, balanced: Path, section: Export, verdict: str = "") -> ExportFormat:
    """Create the export of a manifest in a format.

    Args:
        format: a key of `EXPORTS`.
        balanced: the folder of the manifest.
        section: the section `export`.
        verdict: one sentence for a data card on what to train with which data; empty if there is none.

    Returns:
        The export, ready to be written.

    Raises:
        UserError: there is no such format.
    """
    if format not in EXPORTS:
        raise UserError(f"params.yaml: export.formats has {format!r}; expected {', '.join(EXPORTS)}.")
    return EXPORTS[format](read_manifest(balanced), section, verdict)
