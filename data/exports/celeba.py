"""`celeba`: the layout of CelebA (Liu et al., ICCV 2015), for programs that read that data set.

    img_align_celeba/KEY.png
    list_attr_celeba.txt, .csv       the target and the protected attributes, 1 or -1
    list_eval_partition.txt, .csv    0, 1, 2: train, validation, test
    identity_CelebA.txt, list_bbox_celeba.txt, list_landmarks_align_celeba.txt
    metadata_celeba.csv              id, filename, split, y, a
    RELEASE_v1.0.txt                 without it, WILDS refuses the folder

The three lists are there because torchvision's `CelebA` opens them: identities and landmarks are unknown (0),
boxes are the whole image. It also compares all lists with the originals' MD5, which
`CelebA.file_list = []` switches off. The .txt files have the distributed layout; the .csv files have the
layout of the copies that kohpangwei/group_DRO (data/celebA_dataset.py) reads; metadata_celeba.csv is what
facebookresearch/BalancingGroups and YyzHarry/SubpopBench read (datasets.py). In the names of attributes, a
character that a list with spaces between its columns cannot have becomes `_`.
"""

from functools import cached_property
from pathlib import Path
from typing import IO

import pandas as pd

from data.exports.base import SPLIT_NUMBERS, ImageFiles, safe_name
from pipeline.content.stores import Store

LANDMARKS = [f"{place}_{axis}" for place in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
             for axis in "xy"]  # fmt: skip


# List -> the first column that its header names. The line before the header has the number of images.
HEADED = {"list_attr_celeba.txt": 1, "list_bbox_celeba.txt": 0, "list_landmarks_align_celeba.txt": 1}


class CelebALayout(ImageFiles):
    """Writes the layout of CelebA; image_id is the file's name."""

    def paths(self, rows: pd.DataFrame) -> pd.Series:
        """Return the path of each row's image in the export: [n]."""
        return "img_align_celeba/" + rows["file"]

    def tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return what a piece's rows add to each list."""
        height, width, _ = self.item_shape
        files, splits = rows["file"], rows["split"].map(SPLIT_NUMBERS)
        labels = {self.manifest.target: rows["y"], **{name: rows[name] for name in self.manifest.protected}}
        signs = {safe_name(name): 2 * values - 1 for name, values in labels.items()}
        attributes = pd.DataFrame({"image_id": files, **signs})
        partition = pd.DataFrame({"image_id": files, "partition": splits})
        metadata = {"id": rows["id"], "filename": files, "split": splits, "y": rows["y"], "a": rows["a"]}
        box = {"x_1": 0, "y_1": 0, "width": width, "height": height}
        landmarks = dict.fromkeys(LANDMARKS, 0)
        return {
            "metadata_celeba.csv": pd.DataFrame(metadata),
            "list_attr_celeba.csv": attributes,
            "list_attr_celeba.txt": attributes,
            "list_eval_partition.csv": partition,
            "list_eval_partition.txt": partition,
            "list_bbox_celeba.txt": pd.DataFrame({"image_id": files, **box}),
            "list_landmarks_align_celeba.txt": pd.DataFrame({"image_id": files, **landmarks}),
            "identity_CelebA.txt": pd.DataFrame({"image_id": files, "identity": 0}),
        }

    @cached_property
    def item_shape(self) -> tuple[int, ...]:
        """The shape (H, W, 3) of every image."""
        return Store(self.manifest.root / self.stores[0]).item_shape

    def write_tables(self, folder: Path) -> None:
        """Write the lists, and the file that WILDS asks for."""
        super().write_tables(folder)
        (folder / "RELEASE_v1.0.txt").write_text("exported by zprime\n")

    def write_lines(self, file: IO[str], table: pd.DataFrame, is_new: bool) -> None:
        """Append rows to a list, as CSV or with spaces between columns, after a header like CelebA's."""
        name = Path(file.name).name
        if name.endswith(".csv"):
            super().write_lines(file, table, is_new)
            return
        if is_new and name in HEADED:
            header = " ".join(table.columns[HEADED[name] :])
            file.write(f"{sum(self.images_by_split.values())}\n{header}\n")
        table.to_csv(file, sep=" ", header=False, index=False)
