"""evaluate: compute every metric of every run from out/runs and out/balanced.

Writes metrics.json and out/evaluation/. recommendation.json there has the verdict: which data and recipe to
use, chosen on validation alone.
"""

import json
import re
from functools import partial
from typing import Any

import pandas as pd

from classifiers.counts import group_counts
from classifiers.measures.measuring import rounded, run_metrics
from classifiers.postprocessing.applying import post_processed
from pipeline.content.arrays import FloatArray
from pipeline.content.files import committed, write_json
from pipeline.content.groups import group_names
from pipeline.content.tables import read_table, write_table
from pipeline.content.trust import Judgement, read_judgements
from pipeline.errors import UserError
from pipeline.progress import progress
from pipeline.stage import run_stage
from stages.parameters import AllParameters, read_parameters
from stages.reporting.choices import (
    SELECTION,
    candidates_of,
    cells_of,
    chosen_recipes,
    gap_of,
    mean_and_deviation,
    seeds_of,
    summary_table,
)
from stages.reporting.plateaus import Plateau, plateaus_of, write_plateaus
from stages.reporting.recommendation import Recommendation
from stages.reporting.recommending import recommend
from stages.reporting.validation_draws import Run
from stages.shared.controls import MANIFESTS, TRAINING_DATA, USABLE
from stages.shared.costs import Cost
from stages.shared.datasheet import Summaries
from stages.shared.paths import (
    ATTRIBUTES,
    BALANCED,
    EVALUATION,
    METRICS,
    RECOMMENDATION,
    RUNS,
)
from stages.shared.summaries import summary_of
from stages.shared.training_data import real_labels, training_labels

SEED = 0  # of the bootstrap
# Metrics that only runs.parquet has: the groups' accuracies at the matched threshold, φ by other biases than
# the average odds difference and, of several attributes, accuracies and calibration of each one's groups.
DETAILS = re.compile(
    r"group_\d+_accuracy_.+|phi_(statistical_parity|equal_opportunity).*|protected_\d+_calibration_error_.+"
)


def training_summaries(parameters: AllParameters) -> dict[str, dict[str, Any]]:
    """Return the size, the group counts and the KL divergences of every data set that is trained on."""
    return {
        data: summary_of(training_labels(data, parameters), parameters.protected)
        for data in parameters.train.data
    }


def nested_metrics(runs: pd.DataFrame, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
        runs: out/evaluation/runs.parquet.
        summaries: of every data set that is trained on, as `training_summaries` returns.

    Returns:
        DATA -> RECIPE -> METRIC -> mean and std over the seeds (of a single seed, the bootstrap's std), where
        gap_closed is the share of the worst-group accuracy gap between ERM on the original and on the oracle
        data that the run closes; DATA -> data -> summary of the training labels; gap -> its ends and its
        size; choices -> DATA -> the recipe that is best on validation, and its figures; test -> the
        group_K_n of the test set, which all runs share.
    """
    names = [c for c in runs.columns if f"{c}_bootstrap_std" in runs.columns and not DETAILS.fullmatch(c)]
    gap, chosen = gap_of(runs), chosen_recipes(runs)
    nested: dict[str, Any] = {data: {"data": summary} for data, summary in summaries.items()}
    for row in summary_table(runs).to_dict("records"):
        seeds = seeds_of(runs, row["data"], row["recipe"])
        cell = {name: mean_and_std(*mean_and_deviation(seeds, name)) for name in names}
        nested.setdefault(row["data"], {})[row["recipe"]] = cell | {
            "gap_closed": mean_and_std(row["gap_closed"], row["gap_closed_std"])
        }
    figures = ("validation_worst_group_accuracy", "worst_group_accuracy", "accuracy", "gap_closed")
    choices = {d: {"recipe": r} | {name: nested[d][r][name] for name in figures} for d, r in chosen.items()}
    ends = {"erm_on_original": gap.original, "erm_on_oracle": gap.oracle, "size": gap.size}
    sizes = {c: int(runs[c].iloc[0]) for c in runs.columns if re.fullmatch(r"group_\d+_n", c)}
    return nested | {
        "gap": {name: rounded(end) for name, end in ends.items()}, "choices": choices, "test": sizes,
    }  # fmt: skip


def mean_and_std(mean: float, deviation: float) -> dict[str, float | None]:
    """Return a figure of metrics.json."""
    return {"mean": rounded(mean), "std": rounded(deviation)}


def one_line_each(content: dict[str, Any]) -> str:
    """Write JSON that can be compared by line: each figure, and each other innermost object, on one line."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    return re.sub(r"\{[^{}]*\}", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def judgements_of_steps(parameters: AllParameters) -> dict[str, list[Judgement]]:
    """Read, for each data set with synthetic images, how far the steps that made it can be trusted."""
    expanded = {ATTRIBUTES: [ATTRIBUTES / name for name in parameters.attributes]}
    return {
        data: [
            judgement
            for step in TRAINING_DATA[data].made_by
            for folder in expanded.get(step, [step])
            for judgement in read_judgements(folder)
        ]
        for data in MANIFESTS
    }


def on_test(recommendation: Recommendation, runs: pd.DataFrame) -> dict[str, Any]:
    """Measure the finished recommendation on the test set: `recommendation` in metrics.json.

    Args:
        recommendation: made on validation alone.
        runs: out/evaluation/runs.parquet.

    Returns:
        data, recipe and worst_group_accuracy of the recommended cell; best_on_test, the same of the cell
        that is best on test among all that a user could use; regret, how much better that one is, in [0, 1].
    """
    cells = [cell for cell in cells_of(candidates_of(runs)) if cell[0] in USABLE]
    figures = {cell: mean_and_deviation(seeds_of(runs, *cell), SELECTION) for cell in cells}
    if recommendation.data is None or recommendation.recipe is None:
        return {"data": None, "recipe": None}
    chosen = (recommendation.data, recommendation.recipe)
    best = max(cells, key=lambda cell: figures[cell][0])

    def described(cell: tuple[str, str]) -> dict[str, Any]:
        return {"data": cell[0], "recipe": cell[1], SELECTION: mean_and_std(*figures[cell])}

    regret = rounded(figures[best][0] - figures[chosen][0])
    return described(chosen) | {"best_on_test": described(best), "regret": regret}


def what_it_takes(needs: frozenset[str], cost: Cost) -> dict[str, str | int]:
    """Return the columns of runs.parquet that say which protected labels a run needs, and what it cost."""
    return {
        "needs": " ".join(sorted(needs)),
        "images_forward": cost.forward,
        "images_backward": cost.backward,
    }


def runs_that_count(parameters: AllParameters) -> tuple[list[tuple[str, str, int]], list[Plateau]]:
    """Split the runs of the matrix into those that are evaluated and those that ended on their plateau.

    Args:
        parameters: as params.yaml holds them.

    Returns:
        (data set, recipe, seed) of the runs that count, and the plateaus that are left out.

    Raises:
        UserError: every run ended on its plateau.
    """
    left_out = plateaus_of(parameters.runs, RUNS)
    keys = {plateau.key for plateau in left_out}
    kept = [run for run in parameters.runs if run not in keys]
    if not kept:
        raise UserError(
            f"evaluate: all {len(keys)} runs ended on their plateau, so that there is no result: change "
            "train.optimizer, or raise train.steps, in params.yaml."
        )
    return kept, left_out


def metrics_of_run(
    recipe: str, predictions: pd.DataFrame, proportions: FloatArray, parameters: AllParameters
) -> dict[str, dict[str, float]]:
    """Measure a run, as it is and with its scores post-processed.

    Args:
        recipe: of the run.
        predictions: on validation, where post-processors are fitted, and on test, which is measured.
        proportions: of the groups in the training data, [2 n_g].
        parameters: as params.yaml holds them.

    Returns:
        The recipe, and RECIPE+NAME for each post-processor -> metrics, as `run_metrics` has them.

    Raises:
        UserError: a post-processor cannot be fitted on the validation images.
    """
    section, protected = parameters.evaluate, parameters.protected
    # group_names has "TARGET=0, Male=0", ... first.
    groups = [name.partition(", ")[2] for name in group_names(parameters.target, protected)]
    measure = partial(run_metrics, predictions, proportions, section.resamples, SEED, protected)
    measured = {recipe: measure()}
    for name in section.postprocess if recipe in section.postprocess_recipes else []:
        try:
            measured[f"{recipe}+{name}"] = measure(partial(post_processed, name, groups))
        except UserError as error:
            raise UserError(f"params.yaml: evaluate.postprocess with {recipe}: {error}") from error
    return measured


def main() -> None:
    """Evaluate every run of the matrix on the real test set."""
    parameters = read_parameters()
    train = real_labels(parameters, "train")
    counts = group_counts(train["target"].to_numpy(), train["protected"].to_numpy(), parameters.n_protected)
    columns = ("id", "split", "selection", "target", "score", *parameters.protected)
    kept, left_out = runs_that_count(parameters)
    records, validated = [], []
    with progress("evaluate", len(kept), "runs") as advance:
        for data, recipe, seed in kept:
            folder = RUNS / data / recipe / str(seed)
            predictions = read_table(folder / "predictions.parquet", columns)
            cost = Cost.read(folder / "cost.json")
            for selection, rows in predictions.groupby("selection", sort=False):
                measured = metrics_of_run(recipe, rows, counts / counts.sum(), parameters)
                records += [
                    {"data": data, "recipe": name, "seed": seed, "selection": selection}
                    | what_it_takes(parameters.needs_of(name), cost)
                    | metrics
                    for name, metrics in measured.items()
                ]
                if selection == SELECTION:
                    validated.append(Run(data, recipe, seed, rows[rows["split"] == "validation"]))
            advance()
    runs = pd.DataFrame(records)
    recommendation = recommend(validated, parameters.protected, judgements_of_steps(parameters), SEED)
    summaries = training_summaries(parameters)
    write_table(EVALUATION / "runs.parquet", runs)
    Summaries.model_validate(summaries).write(EVALUATION / "data.json")
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
