"""``zprime evaluate FILE --protected COLUMN...``: compute every metric of predictions from elsewhere.

FILE is a CSV or Parquet file of id, y (0 or 1), score (of y = 1, in [0, 1]) and one column for each protected
attribute, whose values are its groups. Nothing else is read: no parameters, nothing under out/. An empty
group is reported with n = 0 and nulls; so is a group that only the training labels (--proportions) or the
rows to fit on (--fit-on) have.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from classifiers.measures.evaluation import MATCHED, Predictions, Values, Weights
from classifiers.measures.measuring import (
    group_metrics,
    group_sizes,
    overall_metrics,
    rounded,
    with_bootstrap,
)
from classifiers.measures.metrics import count_matching_threshold
from classifiers.postprocessing import POSTPROCESSORS
from classifiers.postprocessing.applying import post_processed
from classifiers.selection import HALF
from pipeline.content.files import write_json
from pipeline.content.seeds import generator_for
from pipeline.errors import UserError
from pipeline.stage import run_stage
from zprime.predictions import (
    Groups,
    checked_columns,
    groups_in_column,
    intersections,
    read_apart,
    read_file,
    read_predictions,
    target_groups,
)

MetricFigure = dict[str, float | None]  # value, and the bootstrap's median and std


# --- Evaluating ------------------------------------------------------------------------------------------


def evaluate(
    targets: NDArray[np.int64],
    scores: NDArray[np.float64],
    threshold: float,
    attributes: list[Groups],
    training_targets: NDArray[np.int64],
    resamples: int,
    seed: int,
    positive_rates: NDArray[np.float64] | None = None,
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
        positive_rates: P(ŷ=1) by a post-processor, [n]; None for predictions by the thresholds.

    Returns:
        `overall`, and under `protected` the metrics by each attribute and by their intersections.
    """
    together = intersections(attributes)
    groupings = attributes if len(attributes) == 1 else [*attributes, together]

    def samples_of(groups: Groups) -> Predictions:
        return Predictions(targets, scores, groups.ids, threshold, len(groups.names), positive_rates)

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


def metric_table(title: str, values: Mapping[str, dict[str, MetricFigure]]) -> Table:
    """Lay out metrics for the terminal, one a line.

    Args:
        title: of the table.
        values: heading of a column -> metric -> figure; all columns have the same metrics.

    Returns:
        the table.
    """
    columns = [Column(heading, justify="right", overflow="fold") for heading in values]
    table = Table(Column("metric", overflow="fold"), *columns, title=title, title_justify="left")
    for name in next(iter(values.values())):
        table.add_row(name, *(text_of(of[name]) for of in values.values()))
    return table


def group_table(title: str, result: dict[str, Any], post_processed: Mapping[str, dict[str, Any]]) -> Table:
    """Lay out the groups' sizes and accuracies for the terminal, one group a line.

    Args:
        title: of the table.
        result: of the groups, as `evaluate` returns it.
        post_processed: the same of each post-processor, by its name.

    Returns:
        the table.
    """
    headings = ("n", f"accuracy at {HALF}", "at the matched threshold", *post_processed)
    columns = [Column(heading, justify="right", overflow="fold") for heading in headings]
    table = Table(Column("group", overflow="fold"), *columns, title=title, title_justify="left")
    for k, group in enumerate(result["groups"]):
        name = f"group_{k}_accuracy"
        figures = [result["metrics"][f"{name}{ending}"] for ending in ("", MATCHED)]
        figures += [of["metrics"][name] for of in post_processed.values()]
        table.add_row(group["name"], f"{group['n']:,}", *map(text_of, figures))
    return table


def show(results: dict[str, Any], post_processed: Mapping[str, dict[str, Any]]) -> None:
    """Print the results: for each set of groups the accuracies first, then the gaps between them.

    Args:
        results: as `evaluate` returns them.
        post_processed: the same of each post-processor, by its name.
    """
    console = Console()
    every = {"value": results, **post_processed}
    console.print(metric_table("all samples", {name: of["overall"] for name, of in every.items()}))
    for groups, result in results["protected"].items():
        of_groups = {name: of["protected"][groups] for name, of in post_processed.items()}
        gaps = {
            name: {m: v for m, v in of["metrics"].items() if not m.startswith("group_")}
            for name, of in {"value": result, **of_groups}.items()
        }
        console.print(group_table(f"accuracies by {groups}", result, of_groups))
        console.print(metric_table(f"gaps by {groups}", gaps))
    if post_processed:
        console.print(
            f"{', '.join(post_processed)}: expected predictions. They need the protected groups of all that "
            "they predict; metrics of scores are those of the scores that they are made from.",
            highlight=False,
        )


# --- The command -----------------------------------------------------------------------------------------


def read_all(
    file: Path, fit_on: Path | None, proportions: Path | None, label: str, score: str | None, names: list[str]
) -> tuple[pd.DataFrame, list[Groups], NDArray[np.int64]]:
    """Read and check all files.

    Args:
        file: of the rows to report.
        fit_on: of the rows to fit on; None without them.
        proportions: of the training labels; None without them.
        label: the column of the true labels.
        score: the column of the scores; None for one of `SCORE_NAMES`.
        names: the protected columns.

    Returns:
        id, label, score, and whether a row is `reported`: the rows of `file`, then those of `fit_on`; the
        groups of all these rows by each protected column; the labels of the training samples, [m].
    """
    table, columns = read_predictions(file, label, score, list(dict.fromkeys(names)))
    rows = table.assign(reported=True)
    if fit_on is not None:
        apart, of_apart = read_apart(fit_on, file, table, columns, label, score)
        rows = pd.concat([rows, apart.assign(reported=False)], ignore_index=True)
        columns = pd.concat([columns, of_apart], ignore_index=True)
    if proportions is None:
        return rows, [groups_in_column(file, columns[name]) for name in columns], np.empty(0, np.int64)
    training = checked_columns(proportions, read_file(proportions), [label, *columns], label)
    attributes = [groups_in_column(file, columns[name], training[name]) for name in columns]
    return rows, attributes, training[label].to_numpy(np.int64)


def post_processed_rates(name: str, groups: Groups, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Fit a post-processor on the rows that are not reported, and apply it to those that are.

    Args:
        name: of the post-processor.
        groups: the protected groups of all rows.
        rows: label, score, and whether a row is `reported`; of all rows.

    Returns:
        P(ŷ=1) of the reported rows.

    Raises:
        UserError: there is no such post-processor, or it cannot be fitted on these rows.
    """
    if name not in POSTPROCESSORS:
        raise UserError(f"--postprocess is {name!r}; expected {', '.join(POSTPROCESSORS)}.")
    fitting, reported = (
        Predictions(
            rows["label"].to_numpy()[part], rows["score"].to_numpy()[part], groups.ids[part], HALF,
            len(groups.names),
        )
        for part in (~rows["reported"].to_numpy(), rows["reported"].to_numpy())
    )  # fmt: skip
    try:
        rates = post_processed(name, groups.names, fitting, reported).positive_rates
    except UserError as error:
        raise UserError(f"--fit-on: {error}") from error
    assert rates is not None  # what a post-processor is for
    return rates


def main(  # noqa: PLR0913 - an option each
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
    fit_on: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with the columns of FILE and other rows, such as validation: the matched "
            "threshold is found and post-processors are fitted on them"
        ),
    ] = None,
    postprocess: Annotated[
        list[str] | None,
        typer.Option(
            help="a rule from score and protected group to prediction, fitted on --fit-on and measured "
            f"beside the scores: {', '.join(POSTPROCESSORS)}; may be given more than once"
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="resamples of the bootstrap")] = 500,
    seed: Annotated[int, typer.Option(help="seed of the bootstrap")] = 0,
) -> None:
    """Print every metric of FILE, by each protected column and by their intersections; write them as JSON."""
    path = output or file.with_suffix(".metrics.json")
    if path.resolve() in [of.resolve() for of in (file, proportions, fit_on) if of is not None]:
        raise UserError(f"--output {path} would overwrite what is read: name another file.")
    if threshold is not None and not np.isfinite(threshold):
        raise UserError(f"--threshold is {threshold}: a number is expected.")
    if postprocess and fit_on is None:
        raise UserError(
            "--postprocess needs --fit-on, a file of other rows: a rule looks better than it is on the rows "
            "that it is fitted on."
        )
    names = [*protected, *(further or [])]  # an option of a command takes one value: the others are `further`
    rows, attributes, training_targets = read_all(file, fit_on, proportions, label, score, names)
    reported, apart = rows[rows["reported"]], rows[~rows["reported"]]
    if threshold is None:
        found_on = apart if fit_on else reported
        threshold = count_matching_threshold(found_on["score"].to_numpy(), found_on["label"].to_numpy())
    measure = partial(
        evaluate, reported["label"].to_numpy(), reported["score"].to_numpy(), threshold,
        [groups.of_first(len(reported)) for groups in attributes], training_targets, resamples, seed,
    )  # fmt: skip
    results, by_rule = measure(), dict[str, Any]()
    for name in postprocess or []:
        by_rule[name] = measure(post_processed_rates(name, intersections(attributes), rows))
    show(results, by_rule)
    more = {"postprocessed": by_rule} if by_rule else {}
    write_json(path, {"file": file.name, "samples": len(reported), "threshold": threshold, **results, **more})
    print(f"{file}: {len(reported):,} samples, matched threshold {threshold:.4g}; {path} has every metric")


if __name__ == "__main__":
    run_stage(main)
