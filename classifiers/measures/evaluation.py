"""Computes every metric of a set of predictions, and registers each: `METRICS`.

Pure functions of labels, protected groups and scores. A metric is a function of `Sampled` and an entry in
`METRICS`, which says its name, how it is shown and in which table; no other place names it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from classifiers import selection
from classifiers.counts import count_table
from classifiers.measures import metrics, parities
from classifiers.measures.divergences import kl_scores, kl_scores_published
from classifiers.measures.expected_counts import expected_count_table
from pipeline.content.arrays import FloatArray, IntArray

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


def true_labels(data: Sampled) -> tuple[IntArray, IntArray]:
    """Return the true target and the protected group of each sample."""
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
           measure=lambda data: kl_scores_published(data.samples.scores, *true_labels(data), data.weights,
                                                    data.samples.n_protected)),
    Metric("kl_scores", "KL of scores (nats)", False, "0", table="fairness",
           measure=lambda data: kl_scores(data.samples.scores, *true_labels(data), data.weights,
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
