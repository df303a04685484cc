"""The balanced manifest as others read it: labels named y, a and group, and where each image stands."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.balancing import MANIFEST_COLUMNS, SYNTHETIC_SOURCES
from data.sources.base import SPLITS
from pipeline.errors import UserError
from pipeline.stores import Store, read_table

# What may be asked for by origin: the name, and the values of the column `source` that it stands for.
ORIGINS = {
    "real": ("real",),
    "synthetic": SYNTHETIC_SOURCES,
    **{source: (source,) for source in SYNTHETIC_SOURCES},
}


@dataclass(frozen=True)
class Manifest:
    """The rows of out/balanced, and what their numbers mean.

    Attributes:
        table: one row per image: id, store, y (target), a (protected attribute), group = y * n_a + a,
            split, source, pair_id (missing for real images), target_score, protected_score (NaN for those).
        target, protected: the attributes' names.
        n_a: how many values the protected attribute has.
        root: the folder that the column `store` is relative to.
    """

    table: pd.DataFrame
    target: str
    protected: str
    n_a: int
    root: Path

    def rows(self, split: str | None = None, origin: str | None = None) -> pd.DataFrame:
        """The rows of a split and of an origin (a key of `ORIGINS`); `UserError` where there is none."""
        for name, value, known in (("split", split, SPLITS), ("source", origin, tuple(ORIGINS))):
            if value is not None and value not in known:
                raise UserError(f"there is no {name} {value!r}; expected one of {', '.join(known)}.")
        table = self.table
        if split is not None:
            table = table[table["split"] == split]
        if origin is not None:
            table = table[table["source"].isin(ORIGINS[origin])]
        if table.empty:
            asked = " and ".join(f"{value!r}" for value in (split, origin) if value is not None)
            raise UserError(f"the balanced manifest has no rows for {asked}.")
        return table.reset_index(drop=True)

    def located(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows, with the `position` of each image in its store."""
        positions = pd.Series(0, index=rows.index, name="position")
        for name, members in rows.groupby("store"):
            positions.loc[members.index] = Store(self.root / str(name)).positions(members["id"])
        return rows.assign(position=positions)


def read_manifest(folder: Path) -> Manifest:
    """Read out/balanced, wherever the project's folder is; `UserError` where it is not one."""
    table = read_table(folder / "manifest.parquet", MANIFEST_COLUMNS)
    if not (folder / "datasheet.json").is_file():
        raise UserError(f"{folder}/datasheet.json is missing: run `dvc repro` to make it.")
    datasheet = json.loads((folder / "datasheet.json").read_text())
    n_a = len(datasheet["groups"]) // 2  # the target is binary
    table = table.rename(columns={"target": "y", "protected": "a"})
    return Manifest(
        table=table.assign(group=table["y"] * n_a + table["a"]),
        target=datasheet["attributes"]["target"],
        protected=datasheet["attributes"]["protected"],
        n_a=n_a,
        root=folder.absolute().parents[1],  # stages name stores as seen from the folder that has out/
    )
