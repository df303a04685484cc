"""``zprime evaluate FILE --protected COLUMN...``: compute every metric of predictions from elsewhere.

FILE is a CSV or Parquet file of id, y (0 or 1), score (of y = 1, in [0, 1]) and one column for each protected
attribute, whose values are its groups. Nothing else is read: no parameters, nothing under out/. An empty
group is reported with n = 0 and nulls; so is a group that only the training labels have (--proportions).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype, is_scalar
from rich.console import Console
from rich.table import Column, Table

from classifiers.counts import group_counts
from classifiers.measures.evaluation import (
    MATCHED,
    Predictions,
    Values,
    Weights,
    group_metrics,
    group_sizes,
    overall_metrics,
    rounded,
    with_bootstrap,
)
from classifiers.measures.metrics import count_matching_threshold
from classifiers.selection import HALF
from pipeline.content.files import write_json
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError
from pipeline.stage import run_stage

MOST_GROUPS = 64  # a column with more values hardly holds groups; intersections cost pairs of them
SCORE_NAMES = ("score", "scores")

MetricFigure = dict[str, float | None]  # value, and the bootstrap's median and std


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


# --- Evaluating ------------------------------------------------------------------------------------------


def evaluate(
    targets: NDArray[np.int64],
    scores: NDArray[np.float64],
    threshold: float,
    attributes: list[Groups],
    training_targets: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compute every metric.

    Args:
        targets: true labels, [n] in {0, 1}.
        scores: [n] in [0, 1].
        threshold: the matched threshold.
        attributes: the groups of each protected attribute.
        training_targets: labels of the training samples, [m]; empty if they are not given.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `overall`, and under `protected` the metrics by each attribute and by their intersections.
    """
    together = intersections(attributes)
    groupings = attributes if len(attributes) == 1 else [*attributes, together]

    def samples_of(groups: Groups) -> Predictions:
        return Predictions(targets, scores, groups.ids, threshold, len(groups.names))

    def bootstrap(metrics_of: Callable[[Weights], Values]) -> dict[str, Any]:
        generator = generator_for(seed, "bootstrap")  # one seed: all groupings use the same resamples
        return nested(with_bootstrap(metrics_of, len(targets), resamples, generator))

    results = {}
    for groups in groupings:
        samples, proportions = samples_of(groups), groups.proportions(training_targets)
        sizes = group_sizes(samples).values()
        results[groups.name] = {
            "groups": [{"name": n, "n": size} for n, size in zip(target_groups(groups), sizes, strict=True)],
            "metrics": bootstrap(partial(group_metrics, samples, proportions=proportions)),
        }
    proportions = together.proportions(training_targets)
    overall = bootstrap(partial(overall_metrics, samples_of(together), proportions=proportions))
    return {"overall": overall, "protected": results}


def nested(record: dict[str, float]) -> dict[str, MetricFigure]:
    """Turn `with_bootstrap`'s record into METRIC -> value, bootstrap median and std; null if undefined."""
    return {
        name: {
            "value": rounded(value),
            "median": rounded(record[f"{name}_bootstrap_median"]),
            "std": rounded(record[f"{name}_bootstrap_std"]),
        }
        for name, value in record.items()
        if f"{name}_bootstrap_std" in record
    }


# --- Showing ---------------------------------------------------------------------------------------------


def text_of(metric: MetricFigure) -> str:
    """Return a metric as '0.873 ± 0.004'; '–' if it is undefined."""
    value, deviation = metric["value"], metric["std"]
    if value is None:
        return "–"
    return f"{value:.3f} ± {'–' if deviation is None else f'{deviation:.3f}'}"


def metric_table(title: str, values: dict[str, MetricFigure]) -> Table:
    """Lay out metrics for the terminal, one a line."""
    table = Table("metric", Column("value", justify="right"), title=title, title_justify="left")
    for name, metric in values.items():
        table.add_row(name, text_of(metric))
    return table


def group_table(title: str, result: dict[str, Any]) -> Table:
    """Lay out the groups' sizes and accuracies for the terminal, one group a line."""
    headings = ("n", f"accuracy at {HALF}", "at the matched threshold")
    columns = [Column(heading, justify="right") for heading in headings]
    table = Table("group", *columns, title=title, title_justify="left")
    for k, group in enumerate(result["groups"]):
        texts = [text_of(result["metrics"][f"group_{k}_accuracy{ending}"]) for ending in ("", MATCHED)]
        table.add_row(group["name"], f"{group['n']:,}", *texts)
    return table


def show(results: dict[str, Any]) -> None:
    """Print the results: for each set of groups the accuracies first, then the gaps between them."""
    console = Console()
    console.print(metric_table("all samples", results["overall"]))
    for name, result in results["protected"].items():
        gaps = {m: v for m, v in result["metrics"].items() if not m.startswith("group_")}
        console.print(group_table(f"accuracies by {name}", result))
        console.print(metric_table(f"gaps by {name}", gaps))


def main(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: id, y, score, protected columns")],
    protected: Annotated[list[str], typer.Option(help="the protected columns: --protected Male Young")],
    further: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    label: Annotated[str, typer.Option(help="the column of true labels, 0 or 1")] = "y",
    score: Annotated[
        str | None, typer.Option(help="the column of scores in [0, 1]; default: score or scores")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="matched threshold, found on validation; default: predicts 1 as often as FILE has it"
        ),
    ] = None,
    proportions: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet of the training labels, a row an image: y and the protected columns, named "
            "as in FILE; adds the accuracy and the BA re-weighted to the training data's group proportions"
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="default: FILE with .metrics.json")] = None,
    resamples: Annotated[int, typer.Option(min=1, help="resamples of the bootstrap")] = 500,
    seed: Annotated[int, typer.Option(help="seed of the bootstrap")] = 0,
) -> None:
    """Print every metric of FILE, by each protected column and by their intersections; write them as JSON."""
    path = output or file.with_suffix(".metrics.json")
    if path.resolve() in (file.resolve(), proportions and proportions.resolve()):
        raise UserError(f"--output {path} would overwrite what is read: name another file.")
    if threshold is not None and not np.isfinite(threshold):
        raise UserError(f"--threshold is {threshold}: a number is expected.")
    names = [*protected, *(further or [])]  # an option of a command takes one value: the others are `further`
    table, columns = read_predictions(file, label, score, list(dict.fromkeys(names)))
    targets, scores = table["label"].to_numpy(), table["score"].to_numpy()
    training = None
    if proportions is not None:
        training = checked_columns(proportions, read_file(proportions), [label, *columns], label)
    attributes = [
        groups_in_column(file, columns[name], None if training is None else training[name])
        for name in columns
    ]
    training_targets = np.empty(0, np.int64) if training is None else training[label].to_numpy(np.int64)
    if threshold is None:
        threshold = count_matching_threshold(scores, targets)
    results = evaluate(targets, scores, threshold, attributes, training_targets, resamples, seed)
    show(results)
    write_json(path, {"file": file.name, "samples": len(table), "threshold": threshold, **results})
    print(f"{file}: {len(table):,} samples, matched threshold {threshold:.4g}; {path} has every metric")


if __name__ == "__main__":
    run_stage(main)
