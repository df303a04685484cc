"""Parquet tables: written as a whole, read with a check of their columns, joined by id."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from pipeline.content.files import committed
from pipeline.errors import UserError


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Commit a table as Parquet. Row order is kept, the index is not."""
    with committed(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a Parquet table and check its columns.

    A `UserError` says so if the table is missing, cannot be read, or lacks a column, and names the column.

    Args:
        path: a file, or a folder of files.
        columns: the columns that the table must have.

    Returns:
        The table with all its columns.
    """
    with _reading(path):
        table = pd.read_parquet(path)
    _check_columns(path, table.columns, columns)
    return table


def check_table(path: Path, columns: Sequence[str]) -> list[str]:
    """Return all column names of a Parquet file that must have `columns`; errors are as in `read_table`."""
    with _reading(path):
        names: list[str] = pq.read_schema(path).names
    _check_columns(path, names, columns)
    return names


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an error of reading a table into a `UserError` that says why it cannot be read."""
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro` to make it.")
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise UserError(
            f"{path} is no Parquet table ({' '.join(str(error).split())}): `zprime verify` says "
            "what is wrong, and mends it."
        ) from error


def _check_columns(path: Path, names: Iterable[str], expected: Sequence[str]) -> None:
    missing = [column for column in expected if column not in names]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, names))}.")


def join_by_id(left: pd.DataFrame, right: pd.DataFrame, what: str) -> pd.DataFrame:
    """Join two tables on `id`.

    Args:
        left: the table whose rows and order are kept.
        right: the table with exactly one row for each id of `left`; others are left out.
        what: a name for `right` in errors.

    Returns:
        One row for each row of `left`, in its order, with the columns of both.

    Raises:
        UserError: an id of `left` is missing in `right`, or an id stands in `right` twice.
    """
    doubled = right["id"][right["id"].duplicated()]
    if len(doubled):
        raise UserError(f"{what}: id {doubled.iloc[0]!r} stands in the table more than once.")
    missing = left["id"][~left["id"].isin(right["id"])]
    if len(missing):
        raise UserError(f"{what}: no row for id {missing.iloc[0]!r} ({len(missing)} ids are missing).")
    return left.merge(right, on="id", how="left", validate="many_to_one")
