"""Reads predictions from elsewhere, and forms the groups of their protected columns."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype, is_scalar

from classifiers.counts import group_counts
from pipeline.errors import UserError

MOST_GROUPS = 64  # a column with more values hardly holds groups; intersections cost pairs of them
SCORE_NAMES = ("score", "scores")


@dataclass(frozen=True)
class Groups:
    """The protected groups of an attribute, or of the intersections of several.

    Attributes:
        name: of the attribute, or of the attributes with " x " between.
        ids: the group of each sample, [n].
        names: of the groups, [n_g].
        training: the group of each training sample, [m]; None without training labels.
    """

    name: str
    ids: NDArray[np.int64]
    names: list[str]
    training: NDArray[np.int64] | None = None

    def proportions(self, training_targets: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return the share of each group in the training data, [2 n_g]; None without training labels."""
        if self.training is None:
            return None
        return group_counts(training_targets, self.training, len(self.names)) / len(self.training)

    def of_first(self, n: int) -> "Groups":
        """Return the same groups of the first n samples."""
        return replace(self, ids=self.ids[:n])


# --- Reading ---------------------------------------------------------------------------------------------


def read_predictions(
    path: Path, label: str, score: str | None, protected: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and check a file of predictions.

    Args:
        path: of the file, CSV or Parquet.
        label: the column of the true labels.
        score: the column of the scores; None for one of `SCORE_NAMES`.
        protected: the columns of the protected attributes.

    Returns:
        id, label (0 or 1) and score (in [0, 1]); and the columns of the protected attributes.

    Raises:
        UserError: a column is missing or named twice, an id repeats, or a value is wrong.
    """
    table = read_file(path)
    if score is None:
        score = next((name for name in SCORE_NAMES if name in table.columns), SCORE_NAMES[0])
    names = ["id", label, score, *protected]
    for k, column in enumerate(names):
        if column in names[:k]:
            raise UserError(f"{path}: {column} cannot be id, label, score or a protected column at once.")
    table = checked_columns(path, table, names, label)
    doubled = table["id"][table["id"].duplicated()]
    if len(doubled):
        raise UserError(f"{path}: id {doubled.iloc[0]} stands in it more than once.")
    numbers = pd.to_numeric(table[score], errors="coerce")
    refuse(path, table, score, ~numbers.between(0, 1), "is no score in [0, 1]")
    columns = {"id": table["id"], "label": table[label].astype(np.int64), "score": numbers.astype(np.float64)}
    return pd.DataFrame(columns), table[protected]


def read_apart(
    path: Path, file: Path, table: pd.DataFrame, columns: pd.DataFrame, label: str, score: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read rows that are not reported, to find the threshold and to fit post-processors on.

    Args:
        path: of their file, CSV or Parquet.
        file: of the rows that are reported, for the errors.
        table: the rows that are reported: id, label and score.
        columns: their protected attributes.
        label: the column of the true labels.
        score: the column of the scores; None for one of `SCORE_NAMES`.

    Returns:
        as `read_predictions`.

    Raises:
        UserError: as in `read_predictions`; or a row is among the reported ones, or an attribute is a number
            in one file and a text in the other.
    """
    apart, protected = read_predictions(path, label, score, columns.columns.tolist())
    shared = apart["id"][apart["id"].astype(str).isin(table["id"].astype(str))]
    if len(shared):
        raise UserError(
            f"{path}: id {shared.iloc[0]} stands in {file} too, and nothing may be fitted on a row that is "
            "measured: leave it out of one of them, or give different rows different ids."
        )
    for name in columns:
        if is_numeric_dtype(columns[name]) != is_numeric_dtype(protected[name]):
            raise UserError(f"{path}: {name} is a number here or in {file}, and a text in the other.")
    return apart, protected


def checked_columns(path: Path, table: pd.DataFrame, names: list[str], label: str) -> pd.DataFrame:
    """Check columns of a file: all are there, every row has a single value, labels are 0 or 1.

    Args:
        path: of the file, for the errors.
        table: its content.
        names: the columns to check.
        label: the one that holds labels.

    Returns:
        these columns.

    Raises:
        UserError: a column or a value is missing or wrong, or there are no rows.
    """
    for column in names:
        if column not in table.columns:
            raise UserError(f"{path} has no column {column!r}; it has {', '.join(map(str, table.columns))}.")
    if table.empty:
        raise UserError(f"{path} has no rows.")
    table = table[names]
    for column in table.columns:
        refuse(path, table, column, table[column].isna(), "has no value")
        if table[column].dtype == object:
            single = table[column].map(lambda value: isinstance(value, Hashable))
            refuse(path, table, column, ~single, "is not a single value")
    refuse(path, table, label, ~table[label].isin([0, 1]), "is neither 0 nor 1")
    return table


def read_file(path: Path) -> pd.DataFrame:
    """Read a CSV or a Parquet file, as the ending of its name says.

    Args:
        path: of the file.

    Returns:
        its table.

    Raises:
        UserError: the file is missing, has another ending or cannot be read.
    """
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": _read_csv, ".parquet": pd.read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} is neither .csv nor .parquet.")
    if not path.is_file():
        raise UserError(f"{path} is missing.")
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as {path.suffix[1:]} ({reason}).") from error


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV in one piece, so that pandas cannot take a value for a number here and for text there."""
    return pd.read_csv(path, low_memory=False)


def refuse(path: Path, table: pd.DataFrame, column: str, wrong: pd.Series, what: str) -> None:
    """Check that no row is wrong.

    Args:
        path: of the file.
        table: its content.
        column: the column with wrong values.
        wrong: a mask of the rows.
        what: the end of the sentence on the value, such as "has no value".

    Raises:
        UserError: a row is wrong; the sentence names the first one.
    """
    if wrong.any():
        row = table[wrong].iloc[0]
        name = f"id {row['id']}" if "id" in table else f"row {int(np.argmax(wrong)) + 1}"
        count = f"; {wrong.sum():,} rows are like that" if wrong.sum() > 1 else ""
        value = row[column]
        given = "" if is_scalar(value) and pd.isna(value) else f" (it is {value})"
        raise UserError(f"{path}: {column} of {name} {what}{given}{count}.")


def groups_in_column(path: Path, column: pd.Series, training: pd.Series | None = None) -> Groups:
    """Return the groups of one protected attribute: its sorted values, in the file or in the training labels.

    If there is only one value, a second, empty group stands for all other values.

    Args:
        path: of the file, for the errors.
        column: the attribute of each sample, [n].
        training: the attribute of each training sample, [m], if the training labels are given.

    Returns:
        the groups.

    Raises:
        UserError: there are too many values, or numbers in one file and text in the other.
    """
    attribute, n = str(column.name), len(column)
    if training is not None and is_numeric_dtype(column) != is_numeric_dtype(training):
        raise UserError(f"{path}: {attribute} is a number here or in --proportions, and a text in the other.")
    ids, values = pd.factorize(column if training is None else pd.concat([column, training]), sort=True)
    if len(values) > MOST_GROUPS:
        raise UserError(
            f"{path}: {attribute} has {len(values)} different values: {MOST_GROUPS} groups are the most."
        )
    names = [f"{attribute}={value}" for value in values]
    if len(values) == 1:
        names.append(f"{attribute}≠{values[0]}")
    ids = ids.astype(np.int64)
    return Groups(attribute, ids[:n], names, None if training is None else ids[n:])


def intersections(attributes: list[Groups]) -> Groups:
    """Return the groups that several attributes form together, the first attribute the most significant.

    Some may be empty: no sample is of all these values.

    Args:
        attributes: the groups of each.

    Returns:
        the groups.

    Raises:
        UserError: there are too many groups.
    """
    ids, names, training = attributes[0].ids, attributes[0].names, attributes[0].training
    for other in attributes[1:]:
        ids = ids * len(other.names) + other.ids
        if training is not None and other.training is not None:
            training = training * len(other.names) + other.training
        names = [f"{first}, {second}" for first in names for second in other.names]
    if len(names) > MOST_GROUPS:
        raise UserError(
            f"--protected: {len(names)} groups by all columns together; {MOST_GROUPS} are the most."
        )
    return Groups(" x ".join(groups.name for groups in attributes), ids, names, training)


def target_groups(groups: Groups) -> list[str]:
    """Return the names of the groups t * n_g + g."""
    return [f"y={target}, {name}" for target in (0, 1) for name in groups.names]
