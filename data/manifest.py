"""The balanced manifest for readers outside the pipeline: labels y, a and group, and each image's place."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from data.attributes import AttributesOfDatasheet
from data.names import BASE_COLUMNS, SPLITS, SYNTHETIC_SOURCES, manifest_columns
from pipeline.content.groups import protected_columns
from pipeline.content.stores import Store
from pipeline.content.tables import check_table, read_table
from pipeline.errors import UserError

# Origin that may be asked for -> the values of the column `source` that it stands for.
ORIGINS = {
    "real": ("real",),
    "synthetic": SYNTHETIC_SOURCES,
    **{source: (source,) for source in SYNTHETIC_SOURCES},
}

# Columns of the balanced data: no protected attribute can have one of these names.
RESERVED = {
    "id", "image", "store", "position", "key", "file", "y", "a", "group", "split", "source", "pair_id",
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """Describes out/balanced: where its table is, and what its numbers mean.

    Attributes:
        path: of the table, manifest.parquet.
        columns: the names of its columns.
        target: the target's name.
        protected: the protected attributes' names; with several, `a` is their values as a binary number, the
            first attribute its highest digit.
        root: the folder that the column `store` is relative to.
    """

    path: Path
    columns: list[str]
    target: str
    protected: list[str]
    root: Path

    @property
    def n_a(self) -> int:
        """The number of protected groups."""
        return int(2 ** len(self.protected))

    @property
    def scores(self) -> list[str]:
        """The names of the columns with scores."""
        return [f"{name}_score" for name in (self.target, *self.protected)]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The table, one row per image.

        Its columns are id, store, y (target), a (number of the protected group), the protected attributes by
        name (0 or 1), group = y * n_a + a, split, source, pair_id (missing for real images), and every
        attribute's score, as in "Male_score" (NaN for real images).
        """
        return self.labelled(read_table(self.path))

    def labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rename and add to rows of manifest.parquet the labels that `table` has."""
        table = table.rename(columns={"target": "y", "protected": "a"})
        values = protected_columns(table["a"].to_numpy(), len(self.protected))
        return table.assign(
            **{name: values[:, column] for column, name in enumerate(self.protected)},
            group=table["y"] * self.n_a + table["a"],
        )

    def rows(self, split: str | None = None, origin: str | None = None) -> pd.DataFrame:
        """Select the rows of a split and of an origin (a key of `ORIGINS`); `UserError` if there is none."""
        return selected(self.table, split, origin)

    def located(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Add to rows the `position` of each image in its store."""
        positions = pd.Series(0, index=rows.index, name="position")
        for name, members in rows.groupby("store"):
            positions.loc[members.index] = Store(self.root / str(name)).positions(members["id"])
        return rows.assign(position=positions)


def selected(table: pd.DataFrame, split: str | None, origin: str | None) -> pd.DataFrame:
    """Select the rows of a split and of an origin.

    Args:
        table: with columns split and source.
        split: one of `SPLITS`; None: all.
        origin: a key of `ORIGINS`; None: all.

    Returns:
        The rows, numbered from 0.

    Raises:
        UserError: there is no such split or origin, or no such row.
    """
    for name, value, known in (("split", split, SPLITS), ("source", origin, tuple(ORIGINS))):
        if value is not None and value not in known:
            raise UserError(f"there is no {name} {value!r}; expected one of {', '.join(known)}.")
    if split is not None:
        table = table[table["split"] == split]
    if origin is not None:
        table = table[table["source"].isin(ORIGINS[origin])]
    if table.empty:
        asked = " and ".join(f"{value!r}" for value in (split, origin) if value is not None)
        raise UserError(f"the balanced manifest has no rows for {asked}.")
    return table.reset_index(drop=True)


def read_manifest(folder: Path) -> Manifest:
    """Describe out/balanced, wherever the project's folder is; rows are read when they are asked for.

    Args:
        folder: out/balanced.

    Returns:
        The manifest.

    Raises:
        UserError: the folder is none with a balanced manifest, or a protected attribute has a reserved name.
    """
    path = folder / "manifest.parquet"
    columns = check_table(path, BASE_COLUMNS)
    attributes = AttributesOfDatasheet.read(folder / "datasheet.json").attributes
    target, protected = attributes.target, attributes.protected
    # With one protected attribute, `a` is that attribute, so that it may be called "a".
    taken = sorted(set(protected) & (RESERVED - ({"a"} if len(protected) == 1 else set())))
    if taken:
        raise UserError(
            f"{folder}: a protected attribute is called {taken[0]!r}, as is another column of the balanced "
            "data: rename it in the source and in params.yaml's attributes."
        )
    missing = [name for name in manifest_columns([target, *protected]) if name not in columns]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}, which its datasheet names.")
    root = folder.absolute().parents[1]  # the manifest names stores relative to the folder that has out/
    return Manifest(path, columns, target, protected, root)
