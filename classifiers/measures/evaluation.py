"""Computes every metric of a set of predictions, and registers each: `METRICS`.

Pure functions of labels, protected groups and scores. A metric is a function of `Sampled` and an entry in
`METRICS`, which says its name, how it is shown and in which table; no other place names it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers import selection
from classifiers.counts import count_table, group_counts
from classifiers.measures import metrics, parities
from classifiers.measures.bootstrap import bootstrapped, median_and_deviation
from classifiers.measures.divergences import kl_scores, kl_scores_published
from classifiers.measures.expected_counts import expected_count_table
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.seeds import generator_for

MATCHED = "_count_matched"  # the ending of the names of metrics at the matched threshold

Weights = NDArray[np.float32] | None
Values = dict[str, FloatArray]
# Fits a post-processor on the first, and applies it to the second.
PostProcess = Callable[["Predictions", "Predictions"], "Predictions"]


# --- Samples ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictions:
    """Samples with true labels and scores, and the protected groups of one attribute or of several.

    Accuracies are those of predictions at 0.5, as in every published table of worst-group accuracy
    (Sagawa et al.). Under other names they are also measured at the threshold that matches the number of
    positives on validation; the paper's DEO and BA, and the other signed parities, are measured at that
    threshold. Equalised odds, demographic parity and φ are of predictions at 0.5, beside the accuracies.

    Attributes:
        targets: true labels, [n] in {0, 1}.
        scores: P(y=1), [n].
        protected: group ids [n], or binary columns [n, k]: see `pipeline.content.groups`.
        threshold: the count-matching threshold.
        n_protected: of ids [n], the number of protected groups; None for two.
        positive_rates: P(ŷ=1) by a post-processor, [n] in [0, 1], in the place of both thresholds; None for
            the predictions by them. Metrics of scores are of `scores`.
    """

    targets: IntArray  # [n]
    scores: FloatArray  # P(y=1), [n]
    protected: IntArray  # groups [n], or binary columns [n, k]: `pipeline.content.groups`
    threshold: float  # the count-matching one
    n_protected: int | None = None  # of groups [n]; None for two
    positive_rates: FloatArray | None = None  # P(ŷ=1), [n]; None for predictions by the thresholds

    def counts(self, weights: Weights = None) -> dict[str, FloatArray]:
        """Count right and wrong predictions at each of the two thresholds.

        Args:
            weights: how often each sample counts, [..., n]; None for once.

        Returns:
            "" and `MATCHED` -> the confusion counts at 0.5 and at the matched threshold, [..., 2, n_g, 2];
            with positive rates both are the expected counts.
        """
        if self.positive_rates is not None:
            expected = expected_count_table(
                self.targets, self.protected, self.positive_rates, self.n_protected, weights
            )
            return {"": expected, MATCHED: expected}
        return {
            ending: count_table(
                self.targets,
                self.protected,
                (self.scores >= cut).astype(np.int64),
                self.n_protected,
                weights,
            )
            for ending, cut in (("", selection.HALF), (MATCHED, self.threshold))
        }


@dataclass(frozen=True)
class Sampled:
    """The arguments of a metric's function: the samples, how often each counts, and their confusion counts.

    Attributes:
        samples: the predictions.
        weights: how often each sample counts, [..., n]; None for once.
        proportions: of the groups in the training data, [2 n_g]; None if they are not known.
        half: confusion counts of predictions at 0.5, [..., 2, n_g, 2].
        matched: confusion counts of predictions at the matched threshold, [..., 2, n_g, 2].
    """

    samples: Predictions
    weights: Weights  # [..., n]; None: each counts once
    proportions: FloatArray | None  # of the groups in the training data, [2 n_g]; None: not known
    half: FloatArray  # confusion counts of predictions at 0.5, [..., 2, n_g, 2]
    matched: FloatArray  # the same at the matched threshold


# --- The registry ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """How a figure is shown.

    Attributes:
        name: its key in metrics.json.
        heading: its heading in tables.
        percent: whether it is shown in percent.
        best: "highest", "lowest", or the value that is best.
    """

    name: str
    heading: str
    percent: bool = False
    best: str = "highest"  # "highest", "lowest", or the value that is best


@dataclass(frozen=True)
class Metric(Shown):
    """A metric: how it is shown, and the function that computes it.

    Attributes:
        measure: computes the metric's value for each set of weights, [...].
        of_groups: whether the metric depends on the protected groups; if so, and there are several protected
            attributes, it is also measured for each alone.
        table: the table of the report that shows it; None: only metrics.json has it.
        reweighted: whether it needs the training data's group proportions; left out if they are unknown.
    """

    measure: Callable[[Sampled], FloatArray] = lambda data: data.half
    of_groups: bool = True
    table: Literal["accuracies", "matched", "paper", "fairness", "at_half"] | None = None
    reweighted: bool = False


def _half(metric: Callable[[FloatArray], FloatArray]) -> Callable[[Sampled], FloatArray]:
    """Turn a metric of confusion counts into one of predictions at 0.5."""
    return lambda data: metric(data.half)


def _matched(metric: Callable[[FloatArray], FloatArray]) -> Callable[[Sampled], FloatArray]:
    """Turn a metric of confusion counts into one of predictions at the matched threshold."""
    return lambda data: metric(data.matched)


def _proportions(data: Sampled) -> FloatArray:
    assert data.proportions is not None  # `measured` leaves re-weighted metrics out without them
    return data.proportions


def _labels(data: Sampled) -> tuple[IntArray, IntArray]:
    return data.samples.targets, data.samples.protected


def _calibration_error(data: Sampled) -> FloatArray:
    """Compute the calibration error of all samples as one group."""
    targets = data.samples.targets
    nobody = np.zeros_like(targets)
    return metrics.calibration_errors(data.samples.scores, targets, nobody, 1, data.weights)[..., 0]


# In the order of the tables' columns; the paper's table has its published columns in its own order.
METRICS = (
    Metric("accuracy", "Accuracy", True, measure=_half(selection.accuracy), of_groups=False,
           table="accuracies"),
    Metric("balanced_accuracy", "Balanced accuracy", True, measure=_half(metrics.balanced_accuracy),
           of_groups=False, table="accuracies"),
    Metric("accuracy_count_matched", "Accuracy", True, measure=_matched(selection.accuracy), of_groups=False),
    Metric("balanced_accuracy_count_matched", "Balanced accuracy", True,
           measure=_matched(metrics.balanced_accuracy), of_groups=False),
    Metric("reweighted_accuracy", "Accuracy at the training proportions", True, of_groups=False,
           measure=lambda data: metrics.reweighted_accuracy(data.half, _proportions(data)), reweighted=True),
    Metric("average_precision", "AP", True, of_groups=False, table="paper",
           measure=lambda data: selection.average_precision(data.samples.scores, data.samples.targets,
                                                              data.weights)),
    Metric("calibration_error", "ECE", True, "lowest", measure=_calibration_error, of_groups=False),
    Metric("worst_group_accuracy", "Worst-group accuracy", True,
           measure=_half(selection.worst_group_accuracy), table="accuracies"),
    Metric("worst_group_accuracy_count_matched", "Worst-group accuracy", True,
           measure=_matched(selection.worst_group_accuracy), table="matched"),
    Metric("deo", "DEO", True, "0", measure=_matched(metrics.difference_in_equality_of_opportunity),
           table="paper"),
    Metric("bias_amplification", "BA", True, "lowest", measure=_matched(metrics.bias_amplification),
           table="paper"),
    Metric("bias_amplification_reweighted", "BA at the training proportions", True, "lowest", table="paper",
           measure=lambda data: metrics.bias_amplification_reweighted(data.matched, _proportions(data)),
           reweighted=True),
    Metric("kl_scores_published", "KL as published (nats)", False, "0", table="paper",
           measure=lambda data: kl_scores_published(data.samples.scores, *_labels(data), data.weights,
                                                    data.samples.n_protected)),
    Metric("kl_scores", "KL of scores (nats)", False, "0", table="fairness",
           measure=lambda data: kl_scores(data.samples.scores, *_labels(data), data.weights,
                                          data.samples.n_protected)),
    Metric("statistical_parity_difference", "SPD", True, "0", table="fairness",
           measure=_matched(metrics.statistical_parity_difference)),
    Metric("equal_opportunity_difference", "EOD", True, "0", table="fairness",
           measure=_matched(metrics.equal_opportunity_difference)),
    Metric("average_odds_difference", "AOD", True, "0", table="fairness",
           measure=_matched(metrics.average_odds_difference)),
    Metric("disparate_impact", "Disparate impact (ratio)", False, "1", table="fairness",
           measure=_matched(metrics.disparate_impact)),
    Metric("equalized_odds_difference", "Equalised odds difference", True, "0", table="at_half",
           measure=_half(parities.equalized_odds_difference)),
    Metric("demographic_parity_difference", "Demographic parity difference", True, "0", table="at_half",
           measure=_half(parities.demographic_parity_difference)),
    Metric("demographic_parity_ratio", "Demographic parity (ratio)", False, "1", table="at_half",
           measure=_half(parities.demographic_parity_ratio)),
    Metric("average_odds_difference_at_half", "μ: AOD", True, "0", table="at_half",
           measure=_half(metrics.average_odds_difference)),
    Metric("phi", "φ", True, table="at_half", measure=_half(parities.phi)),
    Metric("phi_feasible", "Feasible", True, measure=_half(parities.feasible)),
    Metric("phi_statistical_parity", "φ by SPD", True,
           measure=lambda data: parities.phi(data.half, metrics.statistical_parity_difference)),
    Metric("phi_equal_opportunity", "φ by EOD", True,
           measure=lambda data: parities.phi(data.half, metrics.equal_opportunity_difference)),
)  # fmt: skip


# --- Measuring -------------------------------------------------------------------------------------------


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
    errors = metrics.calibration_errors(samples.scores, *_labels(data), samples.n_protected, weights)
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
