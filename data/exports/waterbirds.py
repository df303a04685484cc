"""`waterbirds`: the layout of Waterbirds (Sagawa et al., ICLR 2020), for programs that read that data set.

    waterbird_complete95_forest2water2/metadata.csv    img_id, img_filename, y, split, place, place_filename
    waterbird_complete95_forest2water2/RELEASE_v1.0.txt    without it, WILDS refuses the folder
    waterbird_complete95_forest2water2/images/KEY.png
    metadata_waterbirds.csv                            id, filename, split, y, a

kohpangwei/group_DRO (data/cub_dataset.py), WILDS (waterbirds_dataset.py) and
PolinaKirichenko/deep_feature_reweighting (wb_data.py) read the first table;
facebookresearch/BalancingGroups and YyzHarry/SubpopBench (datasets.py) read the second, beside the folder.
`place` and `a` are the protected attribute, or the number of the combination of several; `split` is 0, 1, 2
for train, validation, test.
"""

from pathlib import Path

import pandas as pd

from data.exports.base import SPLIT_NUMBERS, ImageFiles

FOLDER = "waterbird_complete95_forest2water2"


class WaterbirdsLayout(ImageFiles):
    """Writes the layout of Waterbirds; img_id counts from 1, as there, and id is the manifest's."""

    def paths(self, rows: pd.DataFrame) -> pd.Series:
        """Return the path of each row's image in the export: [n]."""
        return FOLDER + "/images/" + rows["file"]

    def tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return what a piece's rows add to both tables."""
        files, splits = "images/" + rows["file"], rows["split"].map(SPLIT_NUMBERS)
        metadata = {
            "img_id": rows.index + 1,
            "img_filename": files,
            "y": rows["y"],
            "split": splits,
            "place": rows["a"],
            "place_filename": "",  # there is no photograph of the background
        }
        table = {"id": rows["id"], "filename": files, "split": splits, "y": rows["y"], "a": rows["a"]}
        return {
            f"{FOLDER}/metadata.csv": pd.DataFrame(metadata),
            "metadata_waterbirds.csv": pd.DataFrame(table),
        }

    def write_tables(self, folder: Path) -> None:
        """Write the tables, and the file that WILDS asks for."""
        super().write_tables(folder)
        (folder / FOLDER / "RELEASE_v1.0.txt").write_text("exported by zprime\n")
