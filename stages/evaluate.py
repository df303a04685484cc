"""evaluate: out/runs and out/balanced -> metrics.json and out/evaluation/: every metric of every run.

recommendation.json has the verdict, by validation alone: which data and recipe to use.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers import selection
from classifiers.counts import count_table, group_counts
from classifiers.measures import metrics
from classifiers.measures.bootstrap import bootstrapped, median_and_deviation
from classifiers.measures.divergences import kl_scores, kl_scores_published
from data.controls import duplicated_rows
from pipeline.content.files import committed, write_json
from pipeline.content.groups import protected_groups
from pipeline.content.seeds import generator_for
from pipeline.content.tables import read_table, write_table
from pipeline.content.trust import Judgement, read_judgements
from pipeline.errors import UserError
from pipeline.progress import progress
from pipeline.stage import run_stage
from stages.balance import summary_of
from stages.parameters import AllParameters, read_parameters
from stages.reporting.choices import (
    SELECTION,
    cells_of,
    chosen_recipes,
    gap_of,
    mean_and_deviation,
    seeds_of,
    summary_table,
)
from stages.reporting.plateaus import Plateau, plateaus_of, write_plateaus
from stages.reporting.recommendation import Recommendation
from stages.reporting.recommending import USABLE, Run, recommend
from stages.shared.paths import (  # fmt: skip
    ATTRIBUTES,
    BALANCED,
    EVALUATION,
    GENERATOR,
    HYPERPLANES,
    LABELS,
    METRICS,
    REAL,
    RECOMMENDATION,
    RUNS,
)

SEED = 0  # of the bootstrap
MATCHED = "_count_matched"  # what the names of metrics at the matched threshold end in

CountMetric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Weights = NDArray[np.float32] | None
Values = dict[str, NDArray[np.float64]]

# A metric of confusion counts is one line in one of these; those of scores stand in the functions below.
ACCURACIES: dict[str, CountMetric] = {  # that know of no groups
    "accuracy": selection.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
}
GROUP_ACCURACIES: dict[str, CountMetric] = {
    "worst_group_accuracy": selection.worst_group_accuracy,
}
PARITIES: dict[str, CountMetric] = {
    "deo": metrics.difference_in_equality_of_opportunity,
    "bias_amplification": metrics.bias_amplification,
    "statistical_parity_difference": metrics.statistical_parity_difference,
    "equal_opportunity_difference": metrics.equal_opportunity_difference,
    "average_odds_difference": metrics.average_odds_difference,
    "disparate_impact": metrics.disparate_impact,
}
# What metrics.json leaves to runs.parquet: the groups' accuracies at the matched threshold, and of several
# attributes accuracies and calibration of the groups of each alone.
DETAILS = re.compile(r"group_\d+_accuracy_.+|protected_\d+_calibration_error_.+")


@dataclass(frozen=True)
class Predictions:
    """A set of samples with true labels and scores, and the protected groups of one attribute or of several.

    Accuracies are those of predictions at 0.5, as in every published table of worst-group accuracy
    (Sagawa et al.); again, under names of their own, at the threshold that matches the number of
    positives on validation, which the paper's DEO and BA, and the other parities, are measured at.
    """

    targets: NDArray[np.int64]  # [n]
    scores: NDArray[np.float64]  # P(y=1), [n]
    protected: NDArray[np.int64]  # groups [n], or binary columns [n, k]: `pipeline.content.groups`
    threshold: float  # the count-matching one
    n_protected: int | None = None  # of groups [n]; None for two

    def counts(self, weights: Weights = None) -> dict[str, NDArray[np.float64]]:
        """The table of confusion counts at either threshold, by what the names of its metrics end in."""
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
    values["average_precision"] = selection.average_precision(samples.scores, samples.targets, weights)
    nobody = np.zeros_like(samples.targets)
    errors = metrics.calibration_errors(samples.scores, samples.targets, nobody, 1, weights)
    values["calibration_error"] = errors[..., 0]
    return values


def group_metrics(
    samples: Predictions, weights: Weights = None, proportions: NDArray[np.float64] | None = None
) -> Values:
    """What is said of the protected groups and of gaps between them: name -> [...].

    Args:
        weights: how often each sample counts, [..., n]; None for once.
        proportions: of the groups in the training data, for the re-weighted BA, [2 n_g]; None: without.
    """
    counts = samples.counts(weights)
    values = {
        name + e: metric(table) for e, table in counts.items() for name, metric in GROUP_ACCURACIES.items()
    }
    values |= {name: metric(counts[MATCHED]) for name, metric in PARITIES.items()}
    if proportions is not None:
        values["bias_amplification_reweighted"] = metrics.bias_amplification_reweighted(
            counts[MATCHED], proportions
        )
    columns = samples.targets, samples.protected
    values["kl_scores"] = kl_scores(samples.scores, *columns, weights, samples.n_protected)
    values["kl_scores_published"] = kl_scores_published(
        samples.scores, *columns, weights, samples.n_protected
    )
    errors = metrics.calibration_errors(samples.scores, *columns, samples.n_protected, weights)
    values |= {f"protected_{g}_calibration_error": errors[..., g] for g in range(errors.shape[-1])}
    for ending, table in counts.items():
        accuracies = selection.group_accuracies(table)
        values |= {f"group_{k}_accuracy{ending}": accuracies[..., k] for k in range(accuracies.shape[-1])}
    return values


def with_bootstrap(
    metrics_of: Callable[[Weights], Values], n: int, resamples: int, generator: np.random.Generator
) -> dict[str, float]:
    """Each metric of n samples as NAME, with the bootstrap's NAME_bootstrap_median and NAME_bootstrap_std."""
    record: dict[str, float] = {}
    sampled = bootstrapped(metrics_of, n, resamples, generator)
    for name, value in metrics_of(None).items():
        median, deviation = median_and_deviation(sampled[name])
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
        proportions: of the intersections' groups in the training data, [2 n_g]; None: nothing re-weighted.
    """
    values = overall_metrics(samples, weights, proportions) | group_metrics(samples, weights, proportions)
    if len(attributes) > 1:
        for column, attribute in enumerate(attributes):
            alone = replace(samples, protected=samples.protected[:, column])
            of_alone = None if proportions is None else marginal(proportions, column, len(attributes))
            values |= {
                f"{name}_{attribute}": v for name, v in group_metrics(alone, weights, of_alone).items()
            }
    return values


def marginal(proportions: NDArray[np.float64], column: int, n_attributes: int) -> NDArray[np.float64]:
    """One attribute's group proportions, [4], from those of k attributes' intersections, [2^(1 + k)]."""
    axes = proportions.reshape((2,) * (1 + n_attributes))
    others = tuple(1 + other for other in range(n_attributes) if other != column)
    return axes.sum(axis=others).ravel()


def evaluate_run(
    predictions: pd.DataFrame,
    proportions: NDArray[np.float64],
    resamples: int,
    seed: int,
    attributes: Sequence[str],
) -> dict[str, float]:
    """One run's metrics, each with the bootstrap's median and standard deviation, and test's group sizes.

    All are of the test set but those that are named validation_NAME: what choices are made on.

    Args:
        predictions: split, target, score and a binary column for each of `attributes`.
        proportions: of the groups in the training data, [2 n_g].
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

    def bootstrap(samples: Predictions, metrics_of: Callable[[Weights], Values]) -> dict[str, float]:
        # Every run is resampled alike, so that differences between runs are not the resampling's.
        return with_bootstrap(metrics_of, len(samples.targets), resamples, generator_for(seed, "bootstrap"))

    return {
        "threshold": threshold,
        **bootstrap(test, lambda weights: metrics_of_attributes(test, attributes, weights, proportions)),
        **bootstrap(validation, lambda weights: validation_metrics(validation, weights)),
        **group_sizes(test, attributes),
    }


def validation_metrics(samples: Predictions, weights: Weights = None) -> Values:
    """The figures of the validation set that weights and recipes are chosen by: validation_NAME -> [...]."""
    counts = samples.counts(weights)[""]
    return {
        "validation_accuracy": selection.accuracy(counts),
        "validation_worst_group_accuracy": selection.worst_group_accuracy(counts),
    }


def group_sizes(samples: Predictions, attributes: Sequence[str] = ()) -> dict[str, int]:
    """How many samples each group has: group_K_n; of several attributes, also of each, as group_K_n_NAME."""
    columns = {"": samples.protected}
    if len(attributes) > 1:
        columns |= {f"_{name}": samples.protected[:, j] for j, name in enumerate(attributes)}
    return {
        f"group_{group}_n{ending}": int(n)
        for ending, protected in columns.items()
        for group, n in enumerate(group_counts(samples.targets, protected, samples.n_protected))
    }


def grouped_labels(parameters: AllParameters, split: str) -> pd.DataFrame:
    """The labels of a split's real images: target, and protected, the id of the protected group."""
    labels = read_table(REAL / "labels.parquet", ("split", *parameters.attributes))
    labels = labels[labels["split"] == split]
    groups, _ = protected_groups(labels[parameters.protected].to_numpy(dtype=np.int64))
    return pd.DataFrame({"target": labels[parameters.target].to_numpy(dtype=np.int64), "protected": groups})


def training_rows(data: str, parameters: AllParameters) -> pd.DataFrame:
    """The labels of a data set that is trained on, image by image: target and protected (an id)."""
    if data in ("augmented", "sampled"):
        name = "manifest" if data == "augmented" else data
        manifest = read_table(BALANCED / f"{name}.parquet", ("target", "protected", "split"))
        return manifest[manifest["split"] == "train"]
    rows = grouped_labels(parameters, "oracle" if data == "oracle" else "train")
    if data == "duplicated":
        groups = (rows["target"] * parameters.n_protected + rows["protected"]).to_numpy()
        return rows.iloc[duplicated_rows(groups, 2 * parameters.n_protected, seed=0)]  # of any seed, as many
    return rows


def training_summaries(parameters: AllParameters) -> dict[str, dict[str, Any]]:
    """Size, group counts and KL divergences of every data set that is trained on."""
    return {
        data: summary_of(training_rows(data, parameters), parameters.protected)
        for data in parameters.train.data
    }


def nested_metrics(runs: pd.DataFrame, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What metrics.json holds.

    DATA -> RECIPE -> METRIC -> mean and std over the seeds (of one seed the bootstrap's), where gap_closed is
    the share of the gap between ERM on the original and on the oracle data that worst-group accuracy closes;
    DATA -> data -> the training data's labels; gap -> its ends and its size; choices -> DATA -> the recipe
    that is best on validation, and its figures; test -> the test set's group_K_n, which all runs share.
    """
    names = [c for c in runs.columns if f"{c}_bootstrap_std" in runs.columns and not DETAILS.fullmatch(c)]
    gap, chosen = gap_of(runs), chosen_recipes(runs)
    nested: dict[str, Any] = {data: {"data": summary} for data, summary in summaries.items()}
    for row in summary_table(runs).to_dict("records"):
        seeds = seeds_of(runs, row["data"], row["recipe"])
        cell = {name: spread(*mean_and_deviation(seeds, name)) for name in names}
        nested[row["data"]][row["recipe"]] = cell | {
            "gap_closed": spread(row["gap_closed"], row["gap_closed_std"])
        }
    figures = ("validation_worst_group_accuracy", "worst_group_accuracy", "accuracy", "gap_closed")
    choices = {d: {"recipe": r} | {name: nested[d][r][name] for name in figures} for d, r in chosen.items()}
    ends = {"erm_on_original": gap.original, "erm_on_oracle": gap.oracle, "size": gap.size}
    sizes = {c: int(runs[c].iloc[0]) for c in runs.columns if re.fullmatch(r"group_\d+_n", c)}
    return nested | {
        "gap": {name: rounded(end) for name, end in ends.items()}, "choices": choices, "test": sizes,
    }  # fmt: skip


def spread(mean: float, deviation: float) -> dict[str, float | None]:
    """A figure of metrics.json."""
    return {"mean": rounded(mean), "std": rounded(deviation)}


def one_line_each(content: dict[str, Any]) -> str:
    """JSON to be read and compared by line: every figure, and every other innermost object, on one."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    return re.sub(r"\{[^{}]*\}", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def rounded(value: float) -> float | None:
    """A number for JSON, which knows no NaN: null is a metric that an empty group leaves undefined."""
    return None if math.isnan(value) else round(float(value), 6)


def judgements_of_steps(parameters: AllParameters) -> dict[str, list[Judgement]]:
    """Of the data sets with synthetic images: how far the steps that made each may be trusted."""
    labelled = [*(ATTRIBUTES / name for name in parameters.attributes), LABELS / "z"]
    steps = {
        "sampled": [GENERATOR, *labelled, BALANCED],
        "augmented": [GENERATOR, *labelled, HYPERPLANES, BALANCED],
    }
    return {
        data: [judgement for folder in folders for judgement in read_judgements(folder)]
        for data, folders in steps.items()
    }


def on_test(recommendation: Recommendation, runs: pd.DataFrame) -> dict[str, Any]:
    """What the test set says of the recommendation, once that is made: metrics.json's `recommendation`.

    Returns:
        data, recipe and worst_group_accuracy of what is recommended; best_on_test, the same of what is best
        on test of all that a user could use; regret, by how much that is better, in [0, 1].
    """
    cells = [cell for cell in cells_of(runs) if cell[0] in USABLE]
    figures = {cell: mean_and_deviation(seeds_of(runs, *cell), SELECTION) for cell in cells}
    if recommendation.data is None or recommendation.recipe is None:
        return {"data": None, "recipe": None}
    chosen = (recommendation.data, recommendation.recipe)
    best = max(cells, key=lambda cell: figures[cell][0])

    def described(cell: tuple[str, str]) -> dict[str, Any]:
        return {"data": cell[0], "recipe": cell[1], SELECTION: spread(*figures[cell])}

    regret = rounded(figures[best][0] - figures[chosen][0])
    return described(chosen) | {"best_on_test": described(best), "regret": regret}


def runs_that_count(parameters: AllParameters) -> tuple[list[tuple[str, str, int]], list[Plateau]]:
    """The runs of the matrix (data set, recipe, seed), and those that are left out of it.

    Raises:
        UserError: every run ended on its plateau.
    """
    matrix, left_out = parameters.train, plateaus_of(parameters.train, RUNS)
    keys = {plateau.key for plateau in left_out}
    every = [(d, r, s) for d in matrix.data for r in matrix.recipes for s in matrix.seeds]
    kept = [run for run in every if run not in keys]
    if not kept:
        raise UserError(
            f"evaluate: all {len(every)} runs ended on their plateau, so that there is no result: change "
            "train.optimizer, or raise train.steps, in params.yaml."
        )
    return kept, left_out


def main() -> None:
    """Evaluate every run of the matrix on the real test set."""
    parameters = read_parameters()
    section = parameters.evaluate
    train = grouped_labels(parameters, "train")
    counts = group_counts(train["target"].to_numpy(), train["protected"].to_numpy(), parameters.n_protected)
    columns = ("id", "split", "selection", "target", "score", *parameters.protected)
    kept, left_out = runs_that_count(parameters)
    records, validated = [], []
    with progress("evaluate", len(kept), "runs") as advance:
        for data, recipe, seed in kept:
            predictions = read_table(RUNS / data / recipe / str(seed) / "predictions.parquet", columns)
            for selection, rows in predictions.groupby("selection", sort=False):
                key = {"data": data, "recipe": recipe, "seed": seed, "selection": selection}
                records.append(
                    key
                    | evaluate_run(rows, counts / counts.sum(), section.resamples, SEED, parameters.protected)
                )
                if selection == SELECTION:
                    validated.append(Run(data, recipe, seed, rows[rows["split"] == "validation"]))
            advance()
    runs = pd.DataFrame(records)
    recommendation = recommend(validated, parameters.protected, judgements_of_steps(parameters), SEED)
    summaries = training_summaries(parameters)
    write_table(EVALUATION / "runs.parquet", runs)
    write_json(EVALUATION / "data.json", summaries)
    write_plateaus(left_out, EVALUATION)
    write_json(RECOMMENDATION, recommendation.model_dump())
    datasheet = json.loads((BALANCED / "datasheet.json").read_text())
    write_json(EVALUATION / "datasheet.json", {"verdict": recommendation.sentence, **datasheet})
    summary = summary_table(runs)
    summary.to_csv(EVALUATION / "summary.csv", index=False, float_format="%.6g")
    chosen = summary[summary["chosen"]].drop(columns="chosen")
    chosen.to_csv(EVALUATION / "choices.csv", index=False, float_format="%.6g")
    content = nested_metrics(runs, summaries) | {"recommendation": on_test(recommendation, runs)}
    with committed(METRICS) as temporary:
        temporary.write_text(one_line_each(content))
    for plateau in left_out:
        print(
            f"evaluate: left out, as it ended on its plateau: {plateau.recipe} on {plateau.data}, seed "
            f"{plateau.seed}: {plateau.sentence}"
        )
    for row in chosen.to_dict("records"):
        print(
            f"evaluate: on {row['data']} validation chooses {row['recipe']}: "
            f"worst-group accuracy on test {row['worst_group_accuracy']:.3f}"
        )
    print(f"evaluate: {recommendation.sentence}")


if __name__ == "__main__":
    run_stage(main)
