"""The rows of an export, in its order, each with its image's key and its position in its store.

DuckDB sorts and joins the tables, on disk if they are larger than `MEMORY`: an export takes the same memory
for ten thousand images and ten million.
"""

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from data.manifest import Manifest
from pipeline.content.files import committed
from pipeline.content.stores import Store
from pipeline.errors import NO_ROOM, UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

# MB. DuckDB keeps some data in memory, which grow slowly with the rows. This is enough for some ten million
# rows with ids of 80 characters; if it does not suffice, it is doubled.
MEMORY = 256
ROW_GROUP = 8192  # rows that are read at once
LONGEST_KEY = 80  # characters: a file name in a tar has 100 at most

COUNTS = """
SELECT split, source, store, target, protected, count(*) AS images FROM manifest GROUP BY ALL ORDER BY ALL
"""

# A key is the id without an image's suffix, with `_` for characters that are not safe in a file name, a tar
# or a URL. If two ids would have the same key, or a very long one, each key gets a digest of its id. All ids
# are compared, so that an image has the same key whatever else is exported; they are compared in lower case,
# as some file systems do not distinguish cases.
NAMED = r"""
SELECT *, regexp_replace(
    regexp_replace(id, '\.(png|jpe?g|bmp|webp|tiff?)$', '', 'i'), '[^A-Za-z0-9_-]', '_', 'g'
) AS plain FROM manifest
"""
AMBIGUOUS = "SELECT lower(plain) AS folded FROM named GROUP BY folded HAVING count(*) > 1"
TWICE = """
SELECT id FROM named WHERE lower(plain) IN (FROM ambiguous) GROUP BY id HAVING count(*) > 1 LIMIT 1
"""
LOCATED = f"""
SELECT named.* EXCLUDE (plain), CASE
    WHEN length(plain) > {LONGEST_KEY} OR lower(plain) IN (FROM ambiguous)
    THEN plain[:{LONGEST_KEY - 17}] || '-' || sha256(id)[:16] ELSE plain
END AS key, start + row AS position, place
FROM named JOIN places USING (split, source)
LEFT JOIN stored USING (store, id) LEFT JOIN shards USING (store, shard)
"""
LOST = "SELECT store, id FROM located WHERE position IS NULL LIMIT 1"
SORTED = "SELECT * EXCLUDE (file_row_number, place) FROM located ORDER BY place, {order}"


def image_counts(manifest: Manifest) -> pd.DataFrame:
    """Count the `images` of each split, source, store, target and protected group."""
    with _duckdb(manifest) as tables:
        counts: pd.DataFrame = tables.sql(COUNTS).df()
    return counts


def write_rows(
    path: Path, manifest: Manifest, stores: Sequence[str], places: pd.DataFrame, shuffled: bool
) -> None:
    """Write the manifest's rows as Parquet, with two more columns: the `key` and `position` of each image.

    Args:
        path: the file to write.
        manifest: whose rows to write.
        stores: the names of the stores that have the images.
        places: split and source of the rows to write, and `place`: the rows of place 0 come first.
        shuffled: whether the rows of a place are in a random order, the same each time, or in the manifest's.

    Raises:
        UserError: a store lacks a row's image, two images have the same id, or neither memory nor disk
            suffice.
    """
    memory = MEMORY
    while True:
        try:
            return _write_rows(path, manifest, stores, places, shuffled, memory)
        except MemoryError as error:
            memory *= 2
            if memory * 1e6 > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
                raise UserError(
                    f"{manifest.path}: this machine has neither the memory nor the disk to sort its rows "
                    f"({error})."
                ) from error


def _write_rows(
    path: Path, manifest: Manifest, stores: Sequence[str], places: pd.DataFrame, shuffled: bool, memory: int
) -> None:
    """Do what `write_rows` does within so many MB of memory.

    Args:
        path: the file to write.
        manifest: whose rows to write.
        stores: the names of the stores that have the images.
        places: split and source of the rows to write, and their `place`.
        shuffled: whether the rows of a place are in a random order.
        memory: MB; if they do not suffice, DuckDB's error becomes a `MemoryError`.

    Raises:
        UserError: a store lacks a row's image, or two images have the same id.
    """
    import duckdb

    opened = {name: Store(manifest.root / name) for name in stores}
    starts = [
        (name, shard, store.bounds(shard)[0])
        for name, store in opened.items()
        for shard in range(len(store.items_per_shard))
    ]
    order = "sha256(id)" if shuffled else "file_row_number"
    with _emptied(path.with_suffix(".spilled")) as folder, _duckdb(manifest, memory, str(folder)) as tables:
        stored = [
            _read(tables, *store.row_files()).select(
                duckdb.ConstantExpression(name).alias("store"), "id", "shard", "row"
            )
            for name, store in opened.items()
        ]
        reduce(duckdb.DuckDBPyRelation.union, stored).create_view("stored")
        tables.register("shards", pd.DataFrame(starts, columns=["store", "shard", "start"]))
        tables.register("places", places)
        tables.sql(NAMED).create_view("named")

        def keep(name: str, query: str) -> None:
            """Store a query's result on disk: its memory would add to that of the next query."""
            _write(tables.sql(query), folder / name)
            _read(tables, folder / name).create_view(name)

        keep("ambiguous", AMBIGUOUS)
        for (id,) in tables.sql(TWICE).fetchall():
            raise UserError(
                f"{manifest.path} has the id {id!r} twice, so that its images cannot be told apart: give the "
                "real ones other ids than the synthetic ones have."
            )
        keep("located", LOCATED)
        for store, id in tables.sql(LOST).fetchall():
            raise UserError(f"{manifest.root / store} has no item with id {id!r}.")
        with committed(path) as temporary:
            _write(tables.sql(SORTED.format(order=order)), temporary)


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """Make an empty folder, even if a killed run has left it with files, and remove it at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _read(tables: "DuckDBPyConnection", *paths: Path, **options: Any) -> "DuckDBPyRelation":
    return tables.read_parquet([glob.escape(str(path)) for path in paths], **options)


def _write(rows: "DuckDBPyRelation", path: Path) -> None:
    rows.write_parquet(str(path), row_group_size=ROW_GROUP)


def read_rows(path: Path, manifest: Manifest, start: int, stop: int) -> pd.DataFrame:
    """Read some of the rows that `write_rows` wrote.

    Args:
        path: the file.
        manifest: whose rows they are.
        start: the first row.
        stop: the row after the last one.

    Returns:
        The rows, with the manifest's columns, `key` and `position`.
    """
    with pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups])
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        table = file.read_row_groups(list(groups[first : last + 1]), use_threads=False)
    before = int(ends[first - 1]) if first else 0
    rows: pd.DataFrame = table.slice(start - before, stop - start).to_pandas()
    # DuckDB renames the second of two columns that differ in case alone.
    return rows.set_axis([*manifest.columns, "key", "position"], axis=1)


@contextmanager
def _duckdb(manifest: Manifest, memory: int = MEMORY, spilled: str = "") -> Iterator["DuckDBPyConnection"]:
    """Open a connection with the view `manifest`, and translate DuckDB's errors.

    Args:
        manifest: the table of the view.
        memory: what the connection may take, in MB.
        spilled: the folder for data that do not fit into it.

    Yields:
        The connection.

    Raises:
        MemoryError: the memory does not suffice.
        OSError: the disk has no room.
        UserError: a table cannot be read.
        KeyboardInterrupt: the user interrupted a query.
        RuntimeError: any other error of this kind, unchanged.
    """
    import duckdb

    # One thread: every thread takes memory of its own.
    settings: dict[str, Any] = {
        "threads": 1, "memory_limit": f"{memory}MB", "preserve_insertion_order": False,
        "temp_directory": spilled,
    }  # fmt: skip
    try:
        with duckdb.connect(config=settings) as tables:
            _read(tables, manifest.path, file_row_number=True).create_view("manifest")
            yield tables
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(" ".join(str(error).split())) from error
    except duckdb.Error as error:
        for number in NO_ROOM:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), spilled) from error
        raise UserError(
            f"{manifest.path} or the rows of its stores cannot be read ({' '.join(str(error).split())}): "
            "`zprime verify` says whether one of them is damaged, and mends it."
        ) from error
    except RuntimeError as error:
        if "interrupted" in str(error):  # DuckDB's message after Ctrl-C
            raise KeyboardInterrupt from error
        raise
