"""Stores: folders of HDF5 shards with a Parquet table of rows beside them.

    index.json            what the store holds, and every file's size and sha256
    rows.parquet          id, shard, row (and what else a stage keeps of each item)
    shard-00000.h5        one contiguous, uncompressed array [n, ...]: a reader maps it into memory

Images are uint8 [n, H, W, 3] under the name "images"; latents float32 [n, D] under "latents". Items
are found by id, never by position. A file is written under a temporary name, synced, renamed and only
then recorded in the index: what the index names is whole.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UserError

INDEX = "index.json"
ROWS = "rows.parquet"


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit_file(temporary: Path, path: Path) -> None:
    """Sync `temporary` to disk, then give it its name `path`: after a crash it is whole or not there."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, committed as `commit_file` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    commit_file(temporary, path)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, committed as `commit_file` does. Row order is kept, the index is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    table.to_parquet(temporary, index=False)
    commit_file(temporary, path)


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a Parquet table that must have `columns`; `UserError` names what is missing."""
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro` to make it.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise UserError(f"{path} is no Parquet table ({error}): remove it and run `dvc repro`.") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}.")
    return table


def join_by_id(left: pd.DataFrame, right: pd.DataFrame, what: str) -> pd.DataFrame:
    """Join two tables on `id`: one row of `right` for each row of `left`, in the order of `left`.

    Raises `UserError` where an id of `left` is missing in `right` or stands there twice.
    """
    doubled = right["id"][right["id"].duplicated()]
    if len(doubled):
        raise UserError(f"{what}: id {doubled.iloc[0]!r} stands in the table more than once.")
    missing = left["id"][~left["id"].isin(right["id"])]
    if len(missing):
        raise UserError(f"{what}: no row for id {missing.iloc[0]!r} ({len(missing)} ids are missing).")
    return left.merge(right, on="id", how="left", validate="many_to_one")


class StoreWriter:
    """Writes a store shard by shard; a shard that the index names is never written again.

    Args:
        folder: where the store lives. What an interrupted run left there is kept.
        array: the name of the array in each shard ("images" or "latents").
        item_shape: the shape of one item.
        dtype: of the array.
        rows: the table of all items: a column `id` of unique strings, and further columns to keep.
        shard_size: items in a shard; the last one may be smaller.
    """

    def __init__(
        self,
        folder: Path,
        array: str,
        item_shape: tuple[int, ...],
        dtype: str,
        rows: pd.DataFrame,
        shard_size: int,
    ) -> None:
        if rows["id"].duplicated().any():
            raise UserError(f"id {rows['id'][rows['id'].duplicated()].iloc[0]!r} stands more than once.")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.array = array
        self.item_shape = item_shape
        self.dtype = dtype
        numbers = np.arange(len(rows))
        self.rows = rows.assign(shard=numbers // shard_size, row=numbers % shard_size)
        self.shards = int(-(-len(rows) // shard_size))
        index = folder / INDEX
        self._records: dict[str, Any] = json.loads(index.read_text())["files"] if index.exists() else {}

    def is_committed(self, shard: int) -> bool:
        return _shard_name(shard) in self._records

    def missing(self) -> list[int]:
        """The numbers of the shards that are not committed yet."""
        return [shard for shard in range(self.shards) if not self.is_committed(shard)]

    def rows_of(self, shard: int) -> pd.DataFrame:
        """The rows of one shard, in the order of its items."""
        return self.rows[self.rows["shard"] == shard].reset_index(drop=True)

    def record(self, shard: int, record: dict[str, Any]) -> None:
        """Take a shard that `write_shard` made into the index.

        The record may name ids under "left_out": rows of the shard that are not in it.
        """
        self._records[_shard_name(shard)] = record
        self._write_index()

    def left_out(self) -> dict[str, str]:
        """The ids that are in no shard, and why."""
        return {
            id: why for record in self._records.values() for id, why in record.get("left_out", {}).items()
        }

    def finish(self) -> None:
        """Write the table of rows and complete the index; every shard must be there."""
        if self.missing():
            raise RuntimeError(f"shards {self.missing()} of {self.folder} were not written")
        self.rows = self.rows[~self.rows["id"].isin(self.left_out())].reset_index(drop=True)
        self.rows["row"] = self.rows.groupby("shard").cumcount()
        write_table(self.folder / ROWS, self.rows)
        self._records[ROWS] = _record(self.folder / ROWS)
        self._write_index()

    def _write_index(self) -> None:
        content = {
            "array": self.array,
            "item_shape": list(self.item_shape),
            "dtype": self.dtype,
            "items": len(self.rows),
            "files": self._records,
        }
        write_json(self.folder / INDEX, content)


def _shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.h5"


def _record(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def write_shard(folder: Path, shard: int, array: str, items: NDArray[Any]) -> dict[str, Any]:
    """Commit one shard and return its record (bytes, sha256) for `StoreWriter.record`."""
    path = folder / _shard_name(shard)
    temporary = path.with_name(path.name + ".tmp")
    with h5py.File(temporary, "w", libver="latest") as file:
        file.create_dataset(array, data=items, track_times=False)
    record = _record(temporary)
    commit_file(temporary, path)
    return record


class Store:
    """A finished store, read-only, its shards mapped into memory as they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / INDEX).is_file():
            raise UserError(f"{folder} is not a store: {INDEX} is missing. Run `dvc repro` to make it.")
        try:
            self._index = json.loads((folder / INDEX).read_text())
        except ValueError as error:
            raise UserError(f"{folder / INDEX} is not an index of a store ({error}).") from error
        self.item_shape: tuple[int, ...] = tuple(self._index["item_shape"])
        self.rows = read_table(folder / ROWS, ("id", "shard", "row"))
        self._positions = pd.Index(self.rows["id"])
        self._shard = self.rows["shard"].to_numpy()
        self._row = self.rows["row"].to_numpy()
        self._maps: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> NDArray[np.object_]:
        return self.rows["id"].to_numpy(dtype=object)

    def positions(self, ids: Sequence[str] | NDArray[Any] | pd.Series) -> NDArray[np.int64]:
        """Where the items with these ids stand in the store; `UserError` names an id it has not."""
        positions = self._positions.get_indexer(pd.Index(ids))
        if (positions < 0).any():
            absent = list(ids)[int(np.flatnonzero(positions < 0)[0])]
            raise UserError(f"{self.folder} has no item with id {absent!r}.")
        return positions.astype(np.int64)

    def read(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The items at these positions: [len(positions), *item_shape], a copy in the order asked for."""
        items = np.empty((len(positions), *self.item_shape), dtype=self._index["dtype"])
        shards = self._shard[positions]
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            items[here] = self._map(int(shard))[self._row[positions[here]]]
        return items

    def _map(self, shard: int) -> NDArray[Any]:
        if shard not in self._maps:
            path = self.folder / _shard_name(shard)
            try:
                with h5py.File(path, "r") as file:
                    dataset = file[self._index["array"]]
                    offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
                self._maps[shard] = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path} cannot be read ({error}): `python -m pipeline.verify {self.folder}` says what "
                    "is wrong with the store."
                ) from error
        return self._maps[shard]


def faults_of_store(folder: Path) -> list[str]:
    """Every file of a store that is missing, of another size, or of other content: one line each."""
    index = folder / INDEX
    if not index.is_file():
        return [f"{index}: missing"]
    try:
        files = json.loads(index.read_text())["files"]
    except (ValueError, KeyError) as error:
        return [f"{index}: not an index of a store ({error})"]
    faults = [] if ROWS in files else [f"{index}: the store was never finished, {ROWS} is not recorded"]
    for name, record in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: missing")
        elif path.stat().st_size != record["bytes"]:
            faults.append(f"{path}: {path.stat().st_size} bytes, {record['bytes']} recorded")
        elif sha256_of_file(path) != record["sha256"]:
            faults.append(f"{path}: its sha256 differs from the recorded one")
    return faults
