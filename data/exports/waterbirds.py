"""`waterbirds`: the layout of Waterbirds (Sagawa et al., ICLR 2020), for what reads that data set.

    waterbird_complete95_forest2water2/metadata.csv    img_id, img_filename, y, split, place, place_filename
    waterbird_complete95_forest2water2/RELEASE_v1.0.txt    WILDS takes no folder without
    waterbird_complete95_forest2water2/images/KEY.png
    metadata_waterbirds.csv                            id, filename, split, y, a

The first table is what kohpangwei/group_DRO (data/cub_dataset.py), WILDS (waterbirds_dataset.py) and
PolinaKirichenko/deep_feature_reweighting (wb_data.py) read; the second, beside the folder, what
facebookresearch/BalancingGroups and YyzHarry/SubpopBench do (datasets.py). `place` and `a` are the
protected attribute, of several the number of their combination; `split` is 0, 1, 2 for train, validation,
test.
"""

from pathlib import Path

import pandas as pd

from data.exports.base import SPLIT_NUMBERS, ImageFiles

FOLDER = "waterbird_complete95_forest2water2"


class Waterbirds(ImageFiles):
    """img_id counts from 1, as there; id is the manifest's."""

    def paths(self, rows: pd.DataFrame) -> pd.Series:
        return FOLDER + "/images/" + rows["file"]

    def tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        files, splits = "images/" + rows["file"], rows["split"].map(SPLIT_NUMBERS)
        metadata = {
            "img_id": rows.index + 1,
            "img_filename": files,
            "y": rows["y"],
            "split": splits,
            "place": rows["a"],
            "place_filename": "",  # of the background's photograph: there is none
        }
        table = {"id": rows["id"], "filename": files, "split": splits, "y": rows["y"], "a": rows["a"]}
        return {
            f"{FOLDER}/metadata.csv": pd.DataFrame(metadata),
            "metadata_waterbirds.csv": pd.DataFrame(table),
        }

    def write_tables(self, folder: Path) -> None:
        super().write_tables(folder)
        (folder / FOLDER / "RELEASE_v1.0.txt").write_text("exported by zprime\n")
