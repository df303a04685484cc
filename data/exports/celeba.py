"""`celeba`: the layout of CelebA (Liu et al., ICCV 2015), for what reads that data set.

    img_align_celeba/KEY.png
    list_attr_celeba.txt, .csv       the target and the protected attributes, 1 or -1
    list_eval_partition.txt, .csv    0, 1, 2: train, validation, test
    identity_CelebA.txt, list_bbox_celeba.txt, list_landmarks_align_celeba.txt
    metadata_celeba.csv              id, filename, split, y, a
    RELEASE_v1.0.txt                 WILDS takes no folder without

The three lists are there because torchvision's `CelebA` opens them: identities and landmarks are unknown (0),
boxes are the whole image. It also compares all lists with the originals' MD5, which
`CelebA.file_list = []` switches off. The .txt files are the distributed layout, the .csv files that of the
copies which kohpangwei/group_DRO (data/celebA_dataset.py) reads, metadata_celeba.csv what
facebookresearch/BalancingGroups and YyzHarry/SubpopBench do (datasets.py). In attributes' names a character
that a list with spaces between its columns cannot have is `_`.
"""

from pathlib import Path

import pandas as pd

from data.exports.base import SPLIT_NUMBERS, ImageFiles, safe_name
from pipeline.stores import Store

LANDMARKS = [f"{place}_{axis}" for place in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
             for axis in "xy"]  # fmt: skip


class CelebA(ImageFiles):
    """image_id is the file's name."""

    def paths(self, rows: pd.DataFrame) -> pd.Series:
        return "img_align_celeba/" + rows["file"]

    def write_tables(self, folder: Path) -> None:
        rows, manifest = self.table, self.manifest
        names = rows["file"]
        height, width, _ = Store(manifest.root / rows["store"].iloc[0]).item_shape
        attributes = pd.DataFrame(
            {
                "image_id": names,
                safe_name(manifest.target): 2 * rows["y"] - 1,
                **{safe_name(name): 2 * rows[name] - 1 for name in manifest.protected},
            }
        )
        splits = rows["split"].map(SPLIT_NUMBERS)
        partition = pd.DataFrame({"image_id": names, "partition": splits})
        metadata = pd.DataFrame(
            {"id": rows["id"], "filename": names, "split": splits, "y": rows["y"], "a": rows["a"]}
        )
        metadata.to_csv(folder / "metadata_celeba.csv", index=False)
        (folder / "RELEASE_v1.0.txt").write_text("exported by zprime\n")
        boxes = pd.DataFrame({"image_id": names, "x_1": 0, "y_1": 0, "width": width, "height": height})
        landmarks = pd.DataFrame({"image_id": names, **dict.fromkeys(LANDMARKS, 0)})
        attributes.to_csv(folder / "list_attr_celeba.csv", index=False)
        partition.to_csv(folder / "list_eval_partition.csv", index=False)
        _write_list(folder / "list_attr_celeba.txt", attributes, " ".join(attributes.columns[1:]))
        _write_list(folder / "list_bbox_celeba.txt", boxes, " ".join(boxes.columns))
        _write_list(folder / "list_landmarks_align_celeba.txt", landmarks, " ".join(LANDMARKS))
        _write_list(folder / "list_eval_partition.txt", partition)
        _write_list(folder / "identity_CelebA.txt", pd.DataFrame({"image_id": names, "identity": 0}))


def _write_list(path: Path, table: pd.DataFrame, header: str | None = None) -> None:
    """Write a list as distributed: where it has a header, the number of images comes before it."""
    with path.open("w") as file:
        if header is not None:
            file.write(f"{len(table)}\n{header}\n")
        table.to_csv(file, sep=" ", header=False, index=False)
