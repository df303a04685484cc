"""evaluate: out/runs and out/balanced -> metrics.json and out/evaluation/: every metric of every run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

MATCHED = "_count_matched"  # what the names of metrics at the matched threshold end in

CountMetric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Weights = NDArray[np.float32] | None
Values = dict[str, NDArray[np.float64]]

# A metric of confusion counts is one line in one of these; those of scores stand in the functions below.
ACCURACIES: dict[str, CountMetric] = {  # that know of no groups
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
}
GROUP_ACCURACIES: dict[str, CountMetric] = {
    "worst_group_accuracy": metrics.worst_group_accuracy,
}
PARITIES: dict[str, CountMetric] = {
    "deo": metrics.difference_in_equality_of_opportunity,
    "bias_amplification": metrics.bias_amplification,
    "statistical_parity_difference": metrics.statistical_parity_difference,
    "equal_opportunity_difference": metrics.equal_opportunity_difference,
    "average_odds_difference": metrics.average_odds_difference,
    "disparate_impact": metrics.disparate_impact,
}
SUMMARY = ("accuracy", "balanced_accuracy", "worst_group_accuracy", "kl_scores")  # of summary.csv


@dataclass(frozen=True)
class Predictions:
    """A set of samples with true labels and scores, and the protected groups of one attribute or of several.

    Accuracies are those of predictions at 0.5, as in every published table of worst-group accuracy
    (Sagawa et al.); again, under names of their own, at the threshold that matches the number of
    positives on validation, which the paper's DEO and BA, and the other parities, are measured at.
    """

    targets: NDArray[np.int64]  # [n]
    scores: NDArray[np.float64]  # P(y=1), [n]
    protected: NDArray[np.int64]  # groups [n], or binary columns [n, k]: `pipeline.groups`
    threshold: float  # the count-matching one
    n_protected: int | None = None  # of groups [n]; None for two

    def counts(self, weights: Weights = None) -> dict[str, NDArray[np.float64]]:
        """The table of confusion counts at either threshold, by what the names of its metrics end in."""
        return {
            ending: metrics.count_table(
                self.targets,
                self.protected,
                (self.scores >= cut).astype(np.int64),
                self.n_protected,
                weights,
            )
            for ending, cut in (("", metrics.HALF), (MATCHED, self.threshold))
        }


def overall_metrics(
    samples: Predictions, weights: Weights = None, proportions: NDArray[np.float64] | None = None
) -> Values:
    """What is said of all samples together: name -> [...].

    Args:
        weights: how often each sample counts, [..., n]; None for once.
        proportions: of the groups in the training data, for the re-weighted accuracy, [2 n_g]; None: without.
    """
    counts = samples.counts(weights)
    values = {name + e: metric(table) for e, table in counts.items() for name, metric in ACCURACIES.items()}
    if proportions is not None:
        values["reweighted_accuracy"] = metrics.reweighted_accuracy(counts[""], proportions)
    values["average_precision"] = metrics.average_precision(samples.scores, samples.targets, weights)
    nobody = np.zeros_like(samples.targets)
    errors = metrics.calibration_errors(samples.scores, samples.targets, nobody, 1, weights)
    values["calibration_error"] = errors[..., 0]
    return values


def group_metrics(samples: Predictions, weights: Weights = None) -> Values:
    """What is said of the protected groups and of gaps between them: name -> [...].

    Args:
        weights: how often each sample counts, [..., n]; None for once.
    """
    counts = samples.counts(weights)
    values = {
        name + e: metric(table) for e, table in counts.items() for name, metric in GROUP_ACCURACIES.items()
    }
    values |= {name: metric(counts[MATCHED]) for name, metric in PARITIES.items()}
    columns = samples.targets, samples.protected
    values["kl_scores"] = metrics.kl_scores(samples.scores, *columns, weights, samples.n_protected)
    values["kl_scores_published"] = metrics.kl_scores_published(
        samples.scores, *columns, weights, samples.n_protected
    )
    errors = metrics.calibration_errors(samples.scores, *columns, samples.n_protected, weights)
    values |= {f"protected_{g}_calibration_error": errors[..., g] for g in range(errors.shape[-1])}
    for ending, table in counts.items():
        accuracies = metrics.group_accuracies(table)
        values |= {f"group_{k}_accuracy{ending}": accuracies[..., k] for k in range(accuracies.shape[-1])}
    return values


def with_bootstrap(
    metrics_of: Callable[[Weights], Values], n: int, resamples: int, generator: np.random.Generator
) -> dict[str, float]:
    """Each metric of n samples as NAME, with the bootstrap's NAME_bootstrap_median and NAME_bootstrap_std."""
    record: dict[str, float] = {}
    sampled = metrics.bootstrapped(metrics_of, n, resamples, generator)
    for name, value in metrics_of(None).items():
        median, deviation = metrics.median_and_deviation(sampled[name])
        record |= {
            name: float(value),
            f"{name}_bootstrap_median": median,
            f"{name}_bootstrap_std": deviation,
        }
    return record


def metrics_of_attributes(
    samples: Predictions,
    attributes: Sequence[str],
    weights: Weights = None,
    proportions: NDArray[np.float64] | None = None,
) -> Values:
    """Every metric, of the groups that all protected attributes make together: name -> [...].

    Of several attributes, beside these intersections, also of each for itself, as NAME_ATTRIBUTE.

    Args:
        samples: with protected columns [n, k], one for each of `attributes`.
    """
    values = overall_metrics(samples, weights, proportions) | group_metrics(samples, weights)
    if len(attributes) > 1:
        for column, attribute in enumerate(attributes):
            alone = replace(samples, protected=samples.protected[:, column])
            values |= {f"{name}_{attribute}": v for name, v in group_metrics(alone, weights).items()}
    return values


def evaluate_run(
    predictions: pd.DataFrame,
    proportions: NDArray[np.float64],
    resamples: int,
    seed: int,
    attributes: Sequence[str] = ("protected",),
) -> dict[str, float]:
    """One run's metrics on test, each with the bootstrap's median and standard deviation, and group sizes.

    Args:
        predictions: split, target, score and a binary column for each of `attributes`.
        proportions: of the groups in the training data, [2 n_g].
    """
    validation, test = (predictions[predictions["split"] == split] for split in ("validation", "test"))
    threshold = metrics.count_matching_threshold(
        validation["score"].to_numpy(), validation["target"].to_numpy()
    )
    samples = Predictions(
        test["target"].to_numpy(), test["score"].to_numpy(), test[list(attributes)].to_numpy(), threshold
    )
    # Every run is resampled alike, so that differences between runs are not the resampling's.
    return {
        "threshold": threshold,
        **with_bootstrap(
            lambda weights: metrics_of_attributes(samples, attributes, weights, proportions),
            len(test),
            resamples,
            generator_for(seed, "bootstrap"),
        ),
        **group_sizes(samples, attributes),
    }


def group_sizes(samples: Predictions, attributes: Sequence[str] = ()) -> dict[str, int]:
    """How many samples each group has: group_K_n; of several attributes, also of each, as group_K_n_NAME."""
    columns = {"": samples.protected}
    if len(attributes) > 1:
        columns |= {f"_{name}": samples.protected[:, j] for j, name in enumerate(attributes)}
    return {
        f"group_{group}_n{ending}": int(n)
        for ending, protected in columns.items()
        for group, n in enumerate(metrics.group_counts(samples.targets, protected, samples.n_protected))
    }


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
                "mean": rounded(seeds[name].mean()),
                "std": rounded(seeds[name].std(ddof=1)) if len(seeds) > 1 else 0.0,
            }
            for name in names
        }
    return nested


def rounded(value: float) -> float | None:
    """A number for JSON, which knows no NaN: null is a metric that an empty group leaves undefined."""
    return None if math.isnan(value) else round(float(value), 6)


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
    chosen.groupby(["data", "recipe"], sort=False)[[*SUMMARY]].mean().reset_index().to_csv(
        EVALUATION / "summary.csv", index=False
    )
    write_json(METRICS, nested_metrics(runs, summaries))


if __name__ == "__main__":
    run_stage(main)
