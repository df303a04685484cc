"""Waterbirds: birds of CUB cut out and put on land or water (Sagawa et al., ICLR 2020)."""

from typing import Literal

import pandas as pd

from data.sources.files import FileSource, binary, check_ids, check_inside, read_image_list, splits

SPLIT_VALUES = {"0": "train", "1": "validation", "2": "test"}


class Waterbirds(FileSource):
    """Reads a folder with metadata.csv and the images that its column img_filename names.

    Attributes of the images: `y` (1: a waterbird; the target) and `place` (1: on water; the protected one).
    """

    name: Literal["waterbirds"]

    def table(self) -> pd.DataFrame:
        """Read metadata.csv."""
        texts = ["img_id", "img_filename", "split"]
        frame = read_image_list(self.folder / "metadata.csv", [*texts, "y", "place"], texts)
        check_ids(frame, "img_id")
        check_inside(frame, "img_filename", self.folder)
        return pd.DataFrame(
            {
                "id": frame["img_id"],
                "split": splits(frame, "split", SPLIT_VALUES),
                "y": binary(frame, "y", negative=0),
                "place": binary(frame, "place", negative=0),
                "_file": frame["img_filename"],
                "_where": frame["_where"],
            }
        )
