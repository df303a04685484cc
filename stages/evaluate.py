"""evaluate: out/runs and out/balanced -> metrics.json and out/evaluation/: every metric of every run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers import metrics
from data.balancing import counts_of
from pipeline.parameters import AllParameters, read_parameters
from pipeline.progress import progress
from pipeline.seeds import generator_for
from pipeline.stage import run_stage
from pipeline.stores import read_table, write_json, write_table
from stages.balance import summary_of
from stages.paths import BALANCED, EVALUATION, METRICS, REAL, RUNS

SELECTION = "worst_group_accuracy"  # the one that metrics.json reports

CountMetric = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# A metric of confusion counts is one line here; those of scores stand in `metrics_of`.
ACCURACIES: dict[str, CountMetric] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "worst_group_accuracy": metrics.worst_group_accuracy,
}
PARITIES: dict[str, CountMetric] = {
    "deo": metrics.difference_in_equality_of_opportunity,
    "bias_amplification": metrics.bias_amplification,
    "statistical_parity_difference": metrics.statistical_parity_difference,
    "equal_opportunity_difference": metrics.equal_opportunity_difference,
    "average_odds_difference": metrics.average_odds_difference,
}


def metrics_of(
    predictions: pd.DataFrame,
    threshold: float,
    proportions: NDArray[np.float64],
    weights: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Every metric of a test set's predictions (target, protected, score): name -> [...].

    Accuracies are those of predictions at 0.5, as in every published table of worst-group accuracy
    (Sagawa et al.); again, under names of their own, at the threshold that matches the number of
    positives on validation, which the paper's DEO and BA, and the other parities, are measured at.

    Args:
        threshold: the count-matching one.
        proportions: of the groups in the training data, for the re-weighted accuracy, [4].
        weights: how often each row counts, [..., n]; None for once.
    """
    targets, protected = predictions["target"].to_numpy(), predictions["protected"].to_numpy()
    scores = predictions["score"].to_numpy()
    counts, matched = (
        metrics.count_table(targets, protected, (scores >= cut).astype(np.int64), weights=weights)
        for cut in (metrics.HALF, threshold)
    )
    values = {name: metric(counts) for name, metric in ACCURACIES.items()}
    values |= {f"{name}_count_matched": metric(matched) for name, metric in ACCURACIES.items()}
    values |= {name: metric(matched) for name, metric in PARITIES.items()}
    values["reweighted_accuracy"] = metrics.reweighted_accuracy(counts, proportions)
    values["average_precision"] = metrics.average_precision(scores, targets, weights)
    values["kl_scores"] = metrics.kl_scores(scores, targets, protected, weights)
    for group, accuracy in enumerate(np.moveaxis(metrics.group_accuracies(counts), -1, 0)):
        values[f"group_{group}_accuracy"] = accuracy
    return values


def evaluate_run(
    predictions: pd.DataFrame, proportions: NDArray[np.float64], resamples: int, seed: int
) -> dict[str, float]:
    """One run's metrics on test, each with the bootstrap's median and standard deviation."""
    validation, test = (predictions[predictions["split"] == split] for split in ("validation", "test"))
    threshold = metrics.count_matching_threshold(
        validation["score"].to_numpy(), validation["target"].to_numpy()
    )
    # Every run is resampled alike, so that differences between runs are not the resampling's.
    weights = metrics.bootstrap_weights(len(test), resamples, generator_for(seed, "bootstrap"))
    record = {"threshold": threshold}
    sampled = metrics_of(test, threshold, proportions, weights)
    for name, value in metrics_of(test, threshold, proportions).items():
        record[name] = float(value)
        record[f"{name}_bootstrap_median"] = float(np.nanmedian(sampled[name]))
        record[f"{name}_bootstrap_std"] = float(np.nanstd(sampled[name]))
    sizes = metrics.group_counts(test["target"].to_numpy(), test["protected"].to_numpy())
    record |= {f"group_{group}_n": int(n) for group, n in enumerate(sizes)}
    return record


def training_summaries(parameters: AllParameters) -> dict[str, dict[str, Any]]:
    """Size, group counts and KL divergences of every data set that is trained on."""
    labels = read_table(REAL / "labels.parquet").rename(
        columns={parameters.target: "target", parameters.protected: "protected"}
    )
    manifest = read_table(BALANCED / "manifest.parquet")
    sets = {
        "original": labels[labels["split"] == "train"],
        "augmented": manifest[manifest["split"] == "train"],
        "oracle": labels[labels["split"] == "oracle"],
    }
    return {data: summary_of(sets[data]) for data in parameters.train.data}


def nested_metrics(runs: pd.DataFrame, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """metrics.json: DATA -> RECIPE -> METRIC -> mean and std over the seeds; DATA -> data -> its labels."""
    names = [c for c in runs.columns if f"{c}_bootstrap_std" in runs.columns]
    nested: dict[str, Any] = {data: {"data": summary} for data, summary in summaries.items()}
    for key, seeds in runs[runs["selection"] == SELECTION].groupby(["data", "recipe"], sort=False):
        data, recipe = map(str, key)
        nested[data][recipe] = {
            name: {
                "mean": round(float(seeds[name].mean()), 6),
                "std": round(float(seeds[name].std(ddof=1)) if len(seeds) > 1 else 0.0, 6),
            }
            for name in names
        }
    return nested


def main() -> None:
    """Evaluate every run of the matrix on the real test set."""
    parameters = read_parameters()
    section, matrix = parameters.evaluate, parameters.train
    train = read_table(REAL / "labels.parquet").query("split == 'train'")
    counts = counts_of(train.rename(columns={parameters.target: "target", parameters.protected: "protected"}))
    proportions = counts / counts.sum()
    records = []
    cells = [(d, r, s) for d in matrix.data for r in matrix.recipes for s in matrix.seeds]
    with progress("evaluate", len(cells), "runs") as advance:
        for data, recipe, seed in cells:
            predictions = read_table(RUNS / data / recipe / str(seed) / "predictions.parquet")
            for selection, rows in predictions.groupby("selection", sort=False):
                key = {"data": data, "recipe": recipe, "seed": seed, "selection": selection}
                records.append(key | evaluate_run(rows, proportions, section.resamples, section.seed))
            advance()
    runs = pd.DataFrame(records)
    summaries = training_summaries(parameters)
    write_table(EVALUATION / "runs.parquet", runs)
    write_json(EVALUATION / "data.json", summaries)
    chosen = runs[runs["selection"] == SELECTION]
    chosen.groupby(["data", "recipe"], sort=False)[[*ACCURACIES, "kl_scores"]].mean().reset_index().to_csv(
        EVALUATION / "summary.csv", index=False
    )
    write_json(METRICS, nested_metrics(runs, summaries))


if __name__ == "__main__":
    run_stage(main)
