"""`imagefolder`: SPLIT/CLASS/KEY.png and SPLIT/metadata.csv.

torchvision's `ImageFolder("imagefolder/train")` takes the classes' folders for 0, 1, ... in alphabetical
order; Hugging Face's `load_dataset("imagefolder", data_dir="imagefolder")` takes the columns of metadata.csv.
"""

import pandas as pd

from data.exports.base import ImageFiles, safe_name

NO_PAIR = "-"  # Hugging Face refuses a column that is text in one split and empty in another


class ImageFolder(ImageFiles):
    """Writes a folder per class, 0_not_TARGET and 1_TARGET: in alphabetical order, whatever TARGET is."""

    def _files(self, rows: pd.DataFrame) -> pd.Series:
        """Return each image's path in its split's folder: [n]."""
        folders = rows["y"].map({y: f"{y}_{safe_name(name)}/" for y, name in enumerate(self.classes)})
        return folders + rows["file"]

    def paths(self, rows: pd.DataFrame) -> pd.Series:
        """Return the path of each row's image in the export: [n]."""
        return rows["split"] + "/" + self._files(rows)

    def tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return what a piece's rows add to their split's metadata.csv."""
        metadata = rows[["id", *self.columns]].fillna({"pair_id": NO_PAIR})
        metadata.insert(0, "file_name", self._files(rows))
        return {f"{rows['split'].iloc[0]}/metadata.csv": metadata}
