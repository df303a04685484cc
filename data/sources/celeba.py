"""CelebA: 202,599 aligned faces of 178 x 218 px with 40 binary attributes (Liu et al., ICCV 2015).

The module reads the folder as distributed, or the variant with CSV lists. The images are not part of zprime.
"""

from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from data.sources.files import FileSource, binary, check_ids, check_inside, read_image_list, splits
from pipeline.errors import UserError

IMAGES = "img_align_celeba"
PARTITIONS = {"0": "train", "1": "validation", "2": "test"}


class CelebA(FileSource):
    """Reads a folder with img_align_celeba/*.jpg, list_attr_celeba and list_eval_partition (.txt or .csv).

    The ids are the file names, and every column of list_attr_celeba is an attribute.
    """

    name: Literal["celeba"]
    crop: int | None = Field(178, ge=1)  # px; the paper: the centre 178 x 178 of 178 x 218

    def image_folder(self) -> Path:
        """Return the folder of the images; the CSV variant's archive nests it in another of its name."""
        nested = self.folder / IMAGES / IMAGES  # as the CSV variant's archive unpacks
        return nested if nested.is_dir() else self.folder / IMAGES

    def table(self) -> pd.DataFrame:
        """Join the two lists.

        Returns:
            The items, in the order of list_attr_celeba.

        Raises:
            UserError: a list or the folder is missing, or the lists name different files.
        """
        if not self.image_folder().is_dir():
            raise UserError(f"{self.image_folder()} is missing: expected the folder of CelebA's images.")
        attributes = self._attributes()
        partition = self._partition()
        for frame in (attributes, partition):
            check_ids(frame, "image_id")
            check_inside(frame, "image_id", self.image_folder())
        for frame, other in ((attributes, partition), (partition, attributes)):
            alone = frame[~frame["image_id"].isin(other["image_id"])]
            if not alone.empty:
                raise UserError(
                    f"{alone['_where'].iloc[0]}: {alone['image_id'].iloc[0]} is not in the other list; "
                    "expected list_attr_celeba and list_eval_partition to name the same files."
                )
        split_of = dict(zip(partition["image_id"], splits(partition, "partition", PARTITIONS), strict=True))
        names = [name for name in attributes.columns if name not in ("image_id", "_where")]
        return pd.DataFrame(
            {
                "id": attributes["image_id"],
                "split": attributes["image_id"].map(split_of),
                **{name: binary(attributes, name, negative=-1) for name in names},
                "_file": attributes["image_id"],
                "_where": attributes["_where"],
            }
        )

    def _list(self, name: str) -> Path:
        for path in (self.folder / f"{name}.txt", self.folder / f"{name}.csv"):
            if path.is_file():
                return path
        raise UserError(f"{self.folder / name}.txt is missing: expected CelebA's list, or {name}.csv.")

    def _attributes(self) -> pd.DataFrame:
        """Read list_attr_celeba: the .csv, or the .txt with the number of images before its header."""
        path = self._list("list_attr_celeba")
        if path.suffix == ".csv":
            return read_image_list(path, ["image_id"], ["image_id"])
        with path.open(encoding="utf-8", errors="replace") as lines:
            head = [line.strip() for line in islice(lines, 2)]
        if len(head) < 2 or not head[0].isdecimal():
            raise UserError(
                f"row 1 of {path.name}: expected the number of images, and in row 2 the attributes' names; "
                f"it is {''.join(head[:1])!r}."
            )
        names = ["image_id", *head[1].split()]
        frame = read_image_list(path, names, ["image_id"], names, skip=2)
        if len(frame) != int(head[0]):
            raise UserError(
                f"row 1 of {path.name}: expected the number of images; it is {head[0]}, and "
                f"{len(frame)} follow: the file is not complete."
            )
        return frame

    def _partition(self) -> pd.DataFrame:
        path = self._list("list_eval_partition")
        columns = ["image_id", "partition"]
        return read_image_list(path, columns, columns, columns if path.suffix == ".txt" else None)
