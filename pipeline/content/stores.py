"""Stores: folders of numbered shards with an index of every file.

    index.json                   what the store holds, every file's size and sha256, and its own sha256
    shard-00000.h5               one contiguous, uncompressed array [n, ...]: a reader maps it into memory
    rows/shard-00000.parquet     the same items' table: id, shard, row, and further columns of the stage
    files/shard-00000.json       if the shard is made of many files: the size and sha256 of each

Images are uint8 [n, H, W, 3] under the name "images"; latents float32 [n, D] under "latents"; a store of
labels has rows only. Items are found by id, never by position. A file is written under a temporary name,
synced, renamed, and only then recorded: so every file that a record names is complete. Until a store is
published, each shard's record is a file of its own too, `records/shard-00000.json`: so the process that made
a shard can commit it, and an interrupted run finds the finished shards.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.content.files import committed, write_json
from pipeline.content.hdf5 import write_array
from pipeline.content.index import (
    INDEX,
    RECORDS,
    FileRecords,
    Index,
    ShardRecord,
    file_record,
    paths_in,
    read_index,
    with_notes,
    write_index,
)
from pipeline.content.tables import read_table
from pipeline.errors import UserError

ROWS = Path("rows")
FILES = Path("files")


# --- writing ---------------------------------------------------------------------------------------------


def shard_name(shard: int) -> str:
    """Return the name of a shard's files, without their extensions."""
    return f"shard-{shard:05d}"


def shard_sizes(items: int, shard_size: int) -> list[int]:
    """Return the number of items in each shard: `shard_size`, and in the last one the rest."""
    return [min(shard_size, items - start) for start in range(0, items, shard_size)]


def commit_shard(
    folder: Path,
    shard: int,
    rows: pd.DataFrame,
    array: str | None = None,
    items: NDArray[Any] | None = None,
    **notes: Any,
) -> ShardRecord:
    """Commit one shard: its rows, its array if it has one, and last the record that makes it count.

    Args:
        folder: the folder of the unfinished store.
        shard: the shard's number.
        rows: a column `id` of strings, and further columns to keep; one row per item, in their order.
        array: the name of the array, such as "images"; None for a shard of rows only.
        items: the array [n, ...]; None for a shard of rows only.
        notes: further entries of the record, as JSON.

    Returns:
        The record: items (their number), files (size and sha256 of each), notes.
    """
    name = shard_name(shard)
    files: FileRecords = {}
    if array is not None and items is not None:
        with committed(folder / f"{name}.h5") as temporary:
            write_array(temporary, array, items)
            files[f"{name}.h5"] = file_record(temporary)
    path = ROWS / f"{name}.parquet"
    with committed(folder / path) as temporary:
        rows.assign(shard=shard, row=np.arange(len(rows))).to_parquet(temporary, index=False)
        files[str(path)] = file_record(temporary)
    record = with_notes(len(rows), files, notes)
    write_json(folder / RECORDS / f"{name}.json", record)
    return record


def commit_files(folder: Path, shard: int, items: int, files: Sequence[str]) -> ShardRecord:
    """Commit one shard that is made of other files, which are on disk under their names in `folder`.

    Args:
        folder: the folder of the unfinished store.
        shard: the shard's number.
        items: how many items the files hold.
        files: one name, or several in folders that hold nothing but files of shards.

    Returns:
        The record: items, files (size and sha256 of each). For several files it names only their list, and
        the folders that they are in: so an index grows with the shards, not with the images.

    Raises:
        ValueError: one of several files lies in `folder` itself.
    """
    record: ShardRecord = {"items": items, "files": {name: file_record(folder / name) for name in files}}
    if len(files) > 1:
        name = str(FILES / f"{shard_name(shard)}.json")
        write_json(folder / name, record["files"])
        folders = sorted({str(Path(file).parent) for file in files})
        if "." in folders:
            raise ValueError(f"several files of a shard lie in {folder} itself: put them into a folder there")
        listed = file_record(folder / name)
        record = {"items": items, "files": {name: listed}, "list": name, "folders": folders}
    write_json(folder / RECORDS / f"{shard_name(shard)}.json", record)
    return record


def committed_shard(folder: Path, shard: int) -> ShardRecord | None:
    """Read the record of a finished shard in an unfinished store; None if the shard is not finished."""
    path = folder / RECORDS / f"{shard_name(shard)}.json"
    record: ShardRecord | None = json.loads(path.read_text()) if path.exists() else None
    return record


def committed_shards(folder: Path) -> dict[int, ShardRecord]:
    """Read the records of all finished shards in an unfinished store, by shard number."""
    numbers = [int(path.stem.split("-")[1]) for path in (folder / RECORDS).glob("shard-*.json")]
    return {shard: record for shard in sorted(numbers) if (record := committed_shard(folder, shard))}


def finish_store(
    folder: Path,
    shards: int,
    array: str | None = None,
    item_shape: Sequence[int] = (),
    dtype: str = "",
    records: Mapping[int, ShardRecord] | None = None,
) -> None:
    """Write the index of a store whose shards are all committed.

    Args:
        folder: the folder of the store.
        shards: how many shards the store has.
        array: the name of the array in each shard, such as "images"; None for a store of rows only.
        item_shape: the shape of one item.
        dtype: the array's dtype, such as "uint8".
        records: the shards' records by number, from the workers that made them: on a network file system a
            new file of another machine may not be visible yet. None: they are read from disk.

    Raises:
        RuntimeError: a shard is not committed.
    """
    if records is None:
        records = committed_shards(folder)
    remove_temporaries(folder, records)
    if sorted(records) != list(range(shards)):
        raise RuntimeError(f"of the {shards} shards of {folder} only {sorted(records)} are committed")
    about: Index = {"array": array, "item_shape": list(item_shape), "dtype": dtype}
    write_index(folder, {**about, "shards": [records[shard] for shard in range(shards)]})


def remove_temporaries(folder: Path, records: Mapping[int, ShardRecord]) -> None:
    """Remove the temporary files that a killed process left in an unfinished store.

    Args:
        folder: the folder of the store.
        records: the records of its finished shards, by number.
    """
    for path in paths_in(folder, records.values()):
        if path.suffix == ".tmp":
            path.unlink(missing_ok=True)  # a worker that outlived its run may have just renamed it


# --- reading ---------------------------------------------------------------------------------------------


class Store:
    """Reads a finished store: at random by position or id, or shard by shard.

    Reading at random (`read`) maps shards into memory. `read_between` and `rows_between` do not, and take no
    more memory than their result: for stores of any size.

    Args:
        folder: the folder of the store.

    Attributes:
        item_shape: the shape of one item.
        items_per_shard: the number of items in each shard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = read_index(folder)
        try:
            self.item_shape = tuple(index["item_shape"])
            self.items_per_shard: list[int] = [shard["items"] for shard in index["shards"]]
            self._array, self._dtype = index["array"], index["dtype"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder} is not a store: its {INDEX} is not one ({error}).") from error
        self._starts = np.concatenate([[0], np.cumsum(self.items_per_shard)]).astype(np.int64)
        self._maps: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table of all items, in the order of their positions."""
        return self.rows_between(0, len(self))

    @cached_property
    def _positions(self) -> pd.Index:
        positions: pd.Index = pd.Index(self.rows["id"])
        return positions

    def positions(self, ids: Sequence[str] | NDArray[Any] | pd.Series) -> NDArray[np.int64]:
        """Return the positions of the items with these ids; raise `UserError` if the store lacks one."""
        positions = self._positions.get_indexer(pd.Index(ids))
        if (positions < 0).any():
            absent = list(ids)[int(np.flatnonzero(positions < 0)[0])]
            raise UserError(f"{self.folder} has no item with id {absent!r}.")
        return positions.astype(np.int64)

    def read(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Read the items at these positions: [len(positions), *item_shape], a copy in the order asked for."""
        items = np.empty((len(positions), *self.item_shape), dtype=self._dtype)
        shards = np.searchsorted(self._starts, positions, side="right") - 1
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            items[here] = self._map(int(shard))[positions[here] - self._starts[shard]]
        return items

    def bounds(self, shard: int) -> tuple[int, int]:
        """Return the positions of a shard's first item and of the next shard's first item."""
        return int(self._starts[shard]), int(self._starts[shard + 1])

    def read_between(self, start: int, stop: int) -> NDArray[Any]:
        """Read the items from position `start` to before `stop`: [stop - start, *item_shape]."""
        items = np.empty((stop - start, *self.item_shape), dtype=self._dtype)
        for shard, first, last in self._pieces(start, stop):
            at = self._starts[shard] + first - start
            path, offset, _ = self._layout(shard)
            piece = items[at : at + last - first].reshape(-1).view(np.uint8).data
            with path.open("rb") as file:
                file.seek(offset + first * (items[:1].nbytes))
                if file.readinto(piece) != piece.nbytes:
                    raise self._damaged(path, "it ends too early")
        return items

    def rows_between(self, start: int, stop: int) -> pd.DataFrame:
        """Read the rows of the items from position `start` to before `stop`."""
        pieces = []
        for shard, first, last in self._pieces(start, stop):
            path = self._rows_file(shard)
            rows = read_table(path, ("id", "shard", "row"))
            if len(rows) != self.items_per_shard[shard]:
                raise self._damaged(path, f"{len(rows)} rows, {self.items_per_shard[shard]} recorded")
            pieces.append(rows.iloc[first:last])
        if not pieces:
            return pd.DataFrame({"id": pd.Series(dtype=object), "shard": [], "row": []})
        return pd.concat(pieces, ignore_index=True)

    def rows_where(self, column: str, values: Sequence[str] | NDArray[Any] | pd.Series) -> pd.DataFrame:
        """Read, shard by shard, the rows whose `column` is one of `values`; a column `position` is added."""
        pieces = []
        for shard in range(len(self.items_per_shard)):
            start, stop = self.bounds(shard)
            rows = self.rows_between(start, stop).assign(position=np.arange(start, stop))
            pieces.append(rows[rows[column].isin(values)])
        return pd.concat(pieces, ignore_index=True)

    def row_files(self) -> list[Path]:
        """Return the files of the rows, by shard."""
        return [self._rows_file(shard) for shard in range(len(self.items_per_shard))]

    def unmap(self) -> None:
        """Unmap the shards that `read` mapped: their pages no longer count as this process's memory."""
        self._maps.clear()

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the shards that hold positions `start` to `stop`, each with its first and last row."""
        for shard in range(len(self.items_per_shard)):
            first, last = max(start, self._starts[shard]), min(stop, self._starts[shard + 1])
            if first < last:
                yield shard, int(first - self._starts[shard]), int(last - self._starts[shard])

    def _rows_file(self, shard: int) -> Path:
        return self.folder / ROWS / f"{shard_name(shard)}.parquet"

    def _layout(self, shard: int) -> tuple[Path, int, tuple[int, ...]]:
        """Return a shard's file, the offset of its array in bytes, and the array's shape."""
        path = self.folder / f"{shard_name(shard)}.h5"
        expected = (self.items_per_shard[shard], *self.item_shape)
        try:
            with h5py.File(path, "r") as file:
                dataset = file[self._array]
                offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
        except (OSError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise self._damaged(path, " ".join(str(error).split())) from error
        if offset is None or shape != expected or dtype != self._dtype:
            raise self._damaged(path, f"{dtype} {shape} in it, {self._dtype} {expected} recorded")
        return path, offset, shape

    def _map(self, shard: int) -> NDArray[Any]:
        if shard not in self._maps:
            path, offset, shape = self._layout(shard)
            self._maps[shard] = np.memmap(path, dtype=self._dtype, mode="r", offset=offset, shape=shape)
        return self._maps[shard]

    def _damaged(self, path: Path, how: str) -> UserError:
        return UserError(f"{path} is damaged ({how}): `zprime verify --mend {self.folder}` makes it again.")
