"""Computes the metrics of a run: overall, by group, of each attribute alone, with bootstrap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from classifiers import selection
from classifiers.counts import group_counts
from classifiers.measures import metrics
from classifiers.measures.bootstrap import bootstrapped, median_and_deviation
from classifiers.measures.evaluation import (
    MATCHED,
    METRICS,
    PostProcess,
    Predictions,
    Sampled,
    Values,
    Weights,
    true_labels,
)
from pipeline.content.arrays import FloatArray
from pipeline.content.seeds import generator_for


def sampled(samples: Predictions, weights: Weights, proportions: FloatArray | None) -> Sampled:
    """Count right and wrong predictions once, for all metrics."""
    counts = samples.counts(weights)
    return Sampled(samples, weights, proportions, counts[""], counts[MATCHED])


def measured(data: Sampled, of_groups: bool) -> Values:
    """Compute the registered metrics that depend on groups, or those that do not: name -> [...]."""
    return {
        metric.name: metric.measure(data)
        for metric in METRICS
        if metric.of_groups is of_groups and not (metric.reweighted and data.proportions is None)
    }


def overall_metrics(
    samples: Predictions, weights: Weights = None, proportions: FloatArray | None = None
) -> Values:
    """Compute the registered metrics of all samples together.

    Args:
        samples: the predictions.
        weights: how often each sample counts, [..., n]; None for once.
        proportions: of the groups in the training data, for the re-weighted accuracy, [2 n_g]; None: without.

    Returns:
        Name -> [...].
    """
    return measured(sampled(samples, weights, proportions), of_groups=False)


def group_metrics(
    samples: Predictions, weights: Weights = None, proportions: FloatArray | None = None
) -> Values:
    """Compute the metrics of the protected groups and of the gaps between them.

    Besides those of `METRICS`: each protected group's calibration error, and each group's accuracy at both
    thresholds.

    Args:
        samples: the predictions.
        weights: how often each sample counts, [..., n]; None for once.
        proportions: of the groups in the training data, for the re-weighted BA, [2 n_g]; None: without.

    Returns:
        Name -> [...].
    """
    data = sampled(samples, weights, proportions)
    values = measured(data, of_groups=True)
    errors = metrics.calibration_errors(samples.scores, *true_labels(data), samples.n_protected, weights)
    values |= {f"protected_{g}_calibration_error": errors[..., g] for g in range(errors.shape[-1])}
    for ending, table in (("", data.half), (MATCHED, data.matched)):
        accuracies = selection.group_accuracies(table)
        values |= {f"group_{k}_accuracy{ending}": accuracies[..., k] for k in range(accuracies.shape[-1])}
    return values


def with_bootstrap(
    metrics_of: Callable[[Weights], Values], n: int, resamples: int, generator: np.random.Generator
) -> dict[str, float]:
    """Measure n samples: each metric as NAME, and NAME_bootstrap_median and NAME_bootstrap_std."""
    record: dict[str, float] = {}
    resampled = bootstrapped(metrics_of, n, resamples, generator)
    for name, value in metrics_of(None).items():
        median, deviation = median_and_deviation(resampled[name])
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
    proportions: FloatArray | None = None,
) -> Values:
    """Compute every metric of the groups that all protected attributes make together.

    If there are several attributes, also compute the group metrics of each alone, as NAME_ATTRIBUTE.

    Args:
        samples: with protected columns [n, k], one for each of `attributes`.
        attributes: the protected attributes.
        weights: how often each sample counts, [..., n]; None for once.
        proportions: of the intersections' groups in the training data, [2 n_g]; None: nothing re-weighted.

    Returns:
        Name -> [...].
    """
    values = overall_metrics(samples, weights, proportions) | group_metrics(samples, weights, proportions)
    if len(attributes) > 1:
        for column, attribute in enumerate(attributes):
            alone = replace(samples, protected=samples.protected[:, column])
            of_alone = (
                None if proportions is None else marginal_proportions(proportions, column, len(attributes))
            )
            values |= {
                f"{name}_{attribute}": v for name, v in group_metrics(alone, weights, of_alone).items()
            }
    return values


def marginal_proportions(proportions: FloatArray, column: int, n_attributes: int) -> FloatArray:
    """Sum the proportions of k attributes' intersections, [2^(1 + k)], to one attribute's groups', [4]."""
    axes = proportions.reshape((2,) * (1 + n_attributes))
    others = tuple(1 + other for other in range(n_attributes) if other != column)
    summed: FloatArray = axes.sum(axis=others).ravel()
    return summed


def run_metrics(
    predictions: pd.DataFrame,
    proportions: FloatArray,
    resamples: int,
    seed: int,
    attributes: Sequence[str],
    post_process: PostProcess | None = None,
) -> dict[str, float]:
    """Measure one run: each metric with the bootstrap's median and deviation, and the test set's group sizes.

    All are of the test set except those named validation_NAME, which choices are made by. A post-processor is
    fitted on validation; there is no validation_NAME of it then, since no rows are left to measure it on.

    Args:
        predictions: columns split, target, score and a binary one for each of `attributes`.
        proportions: of the groups in the training data, [2 n_g].
        resamples: of the bootstrap.
        seed: of the bootstrap.
        attributes: the protected attributes.
        post_process: fits a post-processor on validation and applies it to the test set; None: without.

    Returns:
        Name -> value, NaN if an empty group leaves it undefined.
    """
    rows = predictions[predictions["split"] == "validation"]
    threshold = metrics.count_matching_threshold(rows["score"].to_numpy(), rows["target"].to_numpy())
    validation, test = (
        Predictions(
            members["target"].to_numpy(),
            members["score"].to_numpy(),
            members[list(attributes)].to_numpy(),
            threshold,
        )
        for members in (rows, predictions[predictions["split"] == "test"])
    )

    if post_process is not None:
        test = post_process(validation, test)

    def bootstrap(samples: Predictions, metrics_of: Callable[[Weights], Values]) -> dict[str, float]:
        # Every run has the same resamples, so that differences between runs do not come from resampling.
        return with_bootstrap(metrics_of, len(samples.targets), resamples, generator_for(seed, "bootstrap"))

    choosing = {} if post_process else bootstrap(validation, partial(validation_metrics, validation))
    return {
        "threshold": threshold,
        **bootstrap(test, lambda weights: metrics_of_attributes(test, attributes, weights, proportions)),
        **choosing,
        **group_sizes(test, attributes),
    }


def validation_metrics(samples: Predictions, weights: Weights = None) -> Values:
    """Compute the figures that weights and recipes are chosen by: validation_NAME -> [...]."""
    counts = samples.counts(weights)[""]
    return {
        "validation_accuracy": selection.accuracy(counts),
        "validation_worst_group_accuracy": selection.worst_group_accuracy(counts),
    }


def group_sizes(samples: Predictions, attributes: Sequence[str] = ()) -> dict[str, int]:
    """Count each group's samples: group_K_n; of several attributes, also of each, as group_K_n_NAME."""
    columns = {"": samples.protected}
    if len(attributes) > 1:
        columns |= {f"_{name}": samples.protected[:, j] for j, name in enumerate(attributes)}
    return {
        f"group_{group}_n{ending}": int(n)
        for ending, protected in columns.items()
        for group, n in enumerate(group_counts(samples.targets, protected, samples.n_protected))
    }


def rounded(value: float) -> float | None:
    """Round a number to 6 decimals for JSON, which has no NaN: an undefined metric becomes null (None)."""
    return None if math.isnan(value) else round(float(value), 6)
