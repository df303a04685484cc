"""Benchmark of the metrics with their bootstrap against a loop that measures each resample by definition."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from benchmarks.measuring import Result, compare
from classifiers.measures.divergences import KL_BINS, KL_EPSILON
from classifiers.measures.evaluation import MATCHED, Predictions, Values, Weights
from classifiers.measures.measuring import metrics_of_attributes, with_bootstrap
from classifiers.measures.metrics import ECE_BINS
from classifiers.measures.parities import EPSILON
from classifiers.selection import HALF
from pipeline.content.arrays import BoolArray, FloatArray, IntArray
from pipeline.content.seeds import generator_for

SAMPLES, RESAMPLES = 20_000, 500
LOOPED = 10  # resamples; the loop's seconds are scaled up from these
PROPORTIONS = np.array([0.44, 0.41, 0.14, 0.01])  # of the groups in the training data
THRESHOLD = 0.6  # the count-matching threshold


def drawn_samples() -> Predictions:
    """Draw test predictions of a target and one protected attribute."""
    random = generator_for(0, "metrics")
    targets, protected = random.integers(0, 2, (2, SAMPLES))
    scores = np.clip(0.3 * targets + 0.1 * protected + 0.6 * random.random(SAMPLES), 0, 1)
    return Predictions(targets, scores, protected[:, None], THRESHOLD)


def by_definition(targets: IntArray, protected: IntArray, scores: FloatArray) -> dict[str, float]:
    """Compute every metric as METHODS 2 defines it, by scikit-learn where it has the metric.

    Args:
        targets: t of each sample, [n] in {0, 1}.
        protected: g of each sample, [n] in {0, 1}.
        scores: [n] in [0, 1].

    Returns:
        by the metric's name.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score

    members = {(t, g): (targets == t) & (protected == g) for t, g in product((0, 1), (0, 1))}
    values = {"average_precision": average_precision_score(targets, scores)}
    for ending, cut in (("", HALF), (MATCHED, THRESHOLD)):
        predicted = (scores >= cut).astype(np.int64)
        accuracies = [accuracy_score(targets[m], predicted[m]) for m in members.values()]
        values |= {f"group_{k}_accuracy{ending}": value for k, value in enumerate(accuracies)}
        values[f"worst_group_accuracy{ending}"] = min(accuracies)
        values[f"accuracy{ending}"] = accuracy_score(targets, predicted)
        values[f"balanced_accuracy{ending}"] = balanced_accuracy_score(targets, predicted)
        if not ending:
            values["reweighted_accuracy"] = float(np.dot(accuracies, PROPORTIONS))
            values |= at_half(predicted, protected, members, values["balanced_accuracy"])
    rate = [predicted[protected == g].mean() for g in (0, 1)]
    of_class = {key: predicted[m].mean() for key, m in members.items()}  # FPR where t = 0, TPR where t = 1
    values["deo"] = abs(of_class[1, 0] - of_class[1, 1])
    values["statistical_parity_difference"] = rate[0] - rate[1]
    values["equal_opportunity_difference"] = of_class[1, 0] - of_class[1, 1]
    values["average_odds_difference"] = sum(of_class[t, 0] - of_class[t, 1] for t in (0, 1)) / 2
    values["disparate_impact"] = rate[0] / rate[1]
    own = np.array([m.mean() for m in members.values()])
    values["bias_amplification"] = amplification(own.reshape(2, 2), of_class)
    values["bias_amplification_reweighted"] = amplification(PROPORTIONS.reshape(2, 2), of_class)
    values["kl_scores"] = divergence([scores[m] for m in members.values()], (0.0, 1.0), np.float64)
    values["kl_scores_published"] = divergence([scores[m] for m in members.values()], None, np.int64)
    values["calibration_error"] = calibration_error(scores, targets)
    for g in (0, 1):
        of_group = protected == g
        error = calibration_error(scores[of_group], targets[of_group])
        values[f"protected_{g}_calibration_error"] = error
    return {name: float(value) for name, value in values.items()}


def at_half(
    predicted: IntArray, protected: IntArray, members: Mapping[tuple[int, int], BoolArray], balanced: float
) -> dict[str, float]:
    """Return the parities of predictions at 0.5, and φ of a balanced accuracy for each of its biases."""
    rate = [predicted[protected == g].mean() for g in (0, 1)]
    false_positive, true_positive = ([predicted[members[t, g]].mean() for g in (0, 1)] for t in (0, 1))
    gaps = [first - second for first, second in (rate, true_positive, false_positive)]
    parity, opportunity, odds = gaps[0], gaps[1], (gaps[1] + gaps[2]) / 2
    feasible = {"": odds, "_statistical_parity": parity, "_equal_opportunity": opportunity}
    return {
        "equalized_odds_difference": max(abs(gaps[1]), abs(gaps[2])),
        "demographic_parity_difference": abs(parity),
        "demographic_parity_ratio": min(rate) / max(rate),
        "average_odds_difference_at_half": odds,
        "phi_feasible": float(abs(odds) < EPSILON),
        **{f"phi{name}": balanced * (abs(bias) < EPSILON) for name, bias in feasible.items()},
    }


def amplification(joint: FloatArray, positive: dict[tuple[int, int], float]) -> float:
    """Return BA by its formula, from P(t, g) [2, 2] and P(t̂=1 | t, g)."""
    terms = []
    for g in (0, 1):
        share = joint[1, g] / joint[:, g].sum()
        predicted = sum(joint[t, g] * positive[t, g] for t in (0, 1)) / joint[:, g].sum()
        terms.append(np.sign(share - joint[1].sum()) * (predicted - share))  # the term of t = 0 is equal
    return float(np.mean(terms))


def divergence(sets: list[FloatArray], span: tuple[float, float] | None, kind: type) -> float:
    """Return the median KL of the scores of two groups within each class: (t, g) = 00, 01, 10, 11."""
    from scipy.ndimage import gaussian_filter1d

    smooth = [gaussian_filter1d(np.histogram(s, KL_BINS, span)[0].astype(kind), sigma=1) for s in sets]
    densities = [s / s.sum() + KL_EPSILON for s in smooth]
    pairs = [(densities[k], densities[k ^ 1]) for k in range(4)]
    return float(np.median([(p * np.log(p / q)).sum() for p, q in pairs]))


def calibration_error(scores: FloatArray, targets: IntArray) -> float:
    """Return the ECE, computed bin by bin."""
    bins = np.minimum((scores * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    inside = [bins == k for k in np.unique(bins)]
    return float(sum(i.mean() * abs(scores[i].mean() - targets[i].mean()) for i in inside))


def measure() -> list[Result]:
    """Compare all metrics of all resamples with a loop over the resamples."""
    samples = drawn_samples()
    targets, protected, scores = samples.targets, samples.protected[:, 0], samples.scores

    def metrics_of(weights: Weights) -> Values:
        return metrics_of_attributes(samples, ["protected"], weights, PROPORTIONS)

    def one_by_one() -> list[dict[str, float]]:
        random = generator_for(0, "bootstrap")
        draws = [random.integers(SAMPLES, size=SAMPLES) for _ in range(LOOPED)]
        return [by_definition(targets[drawn], protected[drawn], scores[drawn]) for drawn in draws]

    of_all = metrics_of(None)
    expected = by_definition(targets, protected, scores)
    assert set(of_all) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(of_all[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    few, theirs, ours = compare(
        one_by_one, lambda: with_bootstrap(metrics_of, SAMPLES, RESAMPLES, generator_for(0, "bootstrap"))
    )
    loop = theirs * RESAMPLES / LOOPED
    detail = f"{len(of_all)} metrics of {SAMPLES:,} samples, {RESAMPLES} resamples"
    scaled = f"{loop:.1f} s in a loop (scaled up from {LOOPED} resamples), {ours:.2f} s at once"
    return [
        Result("metrics_bootstrap_seconds", ours, 2.0, False, detail),
        Result("metrics_bootstrap_speedup", few * RESAMPLES / LOOPED, None, True, scaled),
    ]
