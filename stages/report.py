"""report: show everything under out/ on one self-contained page, out/report/index.html; plots/ is for DVC."""

import itertools
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from pipeline.content.groups import group_names
from pipeline.content.pictures import save_grid
from pipeline.content.tables import read_table
from pipeline.content.trust import worst_level
from pipeline.stage import run_stage
from stages.parameters import AllParameters, read_parameters
from stages.reporting import (
    adversaries,
    figures,
    measures,
    pareto,
    pictures,
    quality_tables,
    steps,
    training_plots,
    trust,
    words,
)
from stages.reporting.adversaries import LOSS
from stages.reporting.choices import BASELINE, cells_of, mean_and_deviation, seeds_of
from stages.reporting.counts_table import counts_table
from stages.reporting.plateaus import plateau_sentence, read_plateaus
from stages.reporting.recommendation import read_recommendation
from stages.reporting.score_plots import (
    all_pairs,
    score_figure,
    shown_recipe,
    synthetic_histograms,
    target_histograms,
    test_scores,
)
from stages.reporting.tables import to_html
from stages.shared.datasheet import Datasheet, Summaries, Summary
from stages.shared.inversion import InversionMetrics
from stages.shared.labeller_metrics import LabellerMetrics
from stages.shared.moves import Moves
from stages.shared.paths import (  # fmt: skip
    ATTRIBUTES,
    BALANCED,
    EVALUATION,
    GENERATOR,
    HYPERPLANES,
    LATENTS,
    QUALITY,
    RECOMMENDATION,
    REPORT,
    RUNS,
)
from stages.shared.planes import HyperplaneMetrics
from stages.shared.quality import Quality

TEMPLATES = Path(__file__).parent / "reporting"
PACKAGES = ("zprime", "torch", "torchvision", "accelerate", "numpy", "scikit-learn")


def without_folders(value: Any) -> Any:
    """Cut absolute paths among parameters to their last part: the folders are one machine's."""
    if isinstance(value, dict):
        return {name: without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_folders(inner) for inner in value]
    return f"…/{Path(value).name}" if isinstance(value, str) and Path(value).is_absolute() else value


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that another stage wrote."""
    return json.loads(path.read_text())


def read_summaries(data: list[str]) -> dict[str, Summary]:
    """Read the summaries of these data sets, in their order: the order of the tables."""
    described = Summaries.read(EVALUATION / "data.json").root
    return {name: described[name] for name in data}


def generator_losses() -> dict[str, bytes]:
    """Return the figure of the GAN's losses by its name; empty for a generator that was loaded."""
    path = GENERATOR / "losses.csv"
    return {"gan_losses": training_plots.gan_losses(pd.read_csv(path))} if path.is_file() else {}


def training_figures(
    histories: pd.DataFrame, parameters: AllParameters, names: list[str]
) -> dict[str, bytes]:
    """Draw the trainings' curves and, if a recipe has group weights, these; return the figures by name."""
    drawn = {"training_curves": training_plots.training_curves(histories)}
    weights = [column for column in histories.columns if column.startswith("q_")]
    recipes = histories.loc[histories[weights].notna().any(axis=1), "recipe"].unique()
    robust = histories[histories["recipe"].isin(recipes)]
    if len(robust):
        drawn["group_weights"] = training_plots.group_weights_figure(robust, names)
    return drawn


def adversary_figure(histories: pd.DataFrame) -> dict[str, bytes]:
    """Draw the losses of adversaries by the figure's name; empty if no recipe has one."""
    return {"adversaries": adversaries.losses_figure(histories)} if LOSS in histories else {}


def read_histories(parameters: AllParameters) -> pd.DataFrame:
    """Read the training histories of all runs, of those that ended on their plateau too.

    Args:
        parameters: as params.yaml holds them.

    Returns:
        data, recipe, seed, and the columns of history.csv.
    """
    matrix = parameters.train
    return pd.concat(
        [
            pd.read_csv(RUNS / data / recipe / str(seed) / "history.csv").assign(
                data=data, recipe=recipe, seed=seed
            )
            for data in matrix.data
            for recipe in matrix.recipes
            for seed in matrix.seeds
        ],
        ignore_index=True,
    )


def group_accuracy_rows(runs: pd.DataFrame, n_groups: int) -> pd.DataFrame:
    """Return every group's accuracy: a table with data, recipe, group, mean and deviation."""
    records = []
    for data, recipe in cells_of(runs):
        seeds = seeds_of(runs, data, recipe)
        for group in range(n_groups):
            values = mean_and_deviation(seeds, f"group_{group}_accuracy")
            records.append((data, recipe, group, *values))
    return pd.DataFrame(records, columns=["data", "recipe", "group", "mean", "deviation"])


def write_plots(
    groups: pd.DataFrame,
    names: list[str],
    histories: pd.DataFrame,
    histograms: dict[str, dict[tuple[str, int], pd.DataFrame]],
    synthetic: dict[str, pd.DataFrame],
    points: pd.DataFrame,
) -> None:
    """Write the tables of dvc.yaml's `plots`, which shows one plot for each file of a folder.

    Args:
        groups: as `group_accuracy_rows` returns.
        names: of the groups.
        histories: as `read_histories` returns.
        histograms: by protected attribute, as `target_histograms` returns.
        synthetic: by attribute, of z and z_prime.
        points: as `pareto.pareto_points` returns.
    """
    files = {f"pareto/{name}": table for name, table in pareto.plot_tables(points).items()}
    for group, rows in groups.groupby("group"):
        accuracies = pd.DataFrame({"run": rows["data"] + " " + rows["recipe"], "accuracy": rows["mean"]})
        files[f"group_accuracies/group_{group} {names[int(str(group))]}"] = accuracies
    for metric in ("loss", "worst_group_accuracy"):
        for data, rows in histories.groupby("data"):
            means = rows.pivot_table(index="step", columns="recipe", values=metric)
            files[f"{metric}/{data}"] = means.reset_index()
    for attribute, of_attribute in histograms.items():
        for (data, truth), histogram in of_attribute.items():
            files[f"target_scores/{data}_{attribute}_target_{truth}"] = histogram
    files |= {f"synthetic_scores/{attribute}": h for attribute, h in synthetic.items()}
    for name, table in files.items():
        path = REPORT / "plots" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False, float_format="%.6g")


def step_tables(parameters: AllParameters, datasheet: Datasheet, names: list[str]) -> dict[str, Any]:
    """Return the tables on each step of the augmentation.

    Args:
        parameters: as params.yaml holds them.
        datasheet: out/balanced/datasheet.json.
        names: of the groups, [2 n_g].

    Returns:
        a table or several, by section of the page.
    """
    planes = HyperplaneMetrics.read(HYPERPLANES / "metrics.json")
    moved = ["z_prime", *(f"{source}_prime" for source in parameters.inverted)]
    inverted = [
        steps.inversion(InversionMetrics.read(LATENTS / s / "metrics.json")) for s in parameters.inverted
    ]
    dropped = steps.gates(datasheet, names)
    quality = Quality.read(QUALITY / "quality.json")
    return {
        "latent": [
            steps.hyperplanes(planes, parameters.attributes),
            steps.moves({source: Moves.read(LATENTS / source / "metrics.json") for source in moved}),
            *inverted,
        ],
        "angles": steps.angles(planes, parameters.protected),
        "complements": [steps.complements(datasheet), *([dropped] if dropped.rows else [])],
        "quality": quality_tables.quality(quality),
        "judge_absent": quality.judge_absent,
    }


def new_environment() -> jinja2.Environment:
    """Return the template environment; its `show(table)` renders tables and numbers them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = itertools.count(1)
    environment.globals["show"] = lambda table: to_html(table, next(numbers))
    return environment


def main() -> None:
    """Write the page and the tables of DVC's plots."""
    parameters = read_parameters()
    matrix, target, protected = parameters.train, parameters.target, parameters.protected
    runs = read_table(EVALUATION / "runs.parquet", ("data", "recipe", "seed", "selection"))
    recipe, recommendation = shown_recipe(runs), read_recommendation(RECOMMENDATION)
    datasheet, summaries = Datasheet.read(BALANCED / "datasheet.json"), read_summaries(matrix.data)
    names = group_names(target, protected)
    attributes = {
        name: LabellerMetrics.read(ATTRIBUTES / name / "metrics.json") for name in parameters.attributes
    }
    pairs = all_pairs(parameters)
    shown = pictures.shown_pairs(pairs)
    histories, groups = read_histories(parameters), group_accuracy_rows(runs, len(names))
    points = pareto.pareto_points(runs, matrix.definitions)
    scores = test_scores(runs, recipe)
    synthetic = synthetic_histograms(pairs, parameters.attributes)
    thresholds = {name: metrics.threshold for name, metrics in attributes.items()}
    drawn = {
        "group_accuracies": figures.group_accuracies_figure(groups, names),
        "pareto": pareto.pareto_figure(points, (recommendation.data, recommendation.recipe)),
        "data_sets": figures.data_sets(
            {data: summary.divergences | summary.group_counts for data, summary in summaries.items()}, names
        ),
        "synthetic_scores": figures.synthetic_scores(synthetic, thresholds),
        **generator_losses(),
        **training_figures(histories, parameters, names),
        **adversary_figure(histories),
        **score_figure(scores, parameters, names, recipe),
    }
    sizes = {data: summary.images for data, summary in summaries.items()}
    run_tables = measures.RunTables(runs, target, protected, names, sizes)
    judgements = trust.trust_rows(parameters)
    page = (
        new_environment()
        .get_template("report.html.j2")
        .render(
            source=parameters.prepare.source["name"],
            target=target,
            protected=protected,
            recipe=recipe,
            baseline=BASELINE,
            verdict=recommendation.sentence,
            recommendation=steps.recommendation(recommendation, runs),
            frontier=pareto.frontier_table(points, runs),
            plateaus=plateau_sentence(read_plateaus(EVALUATION)),
            headline=words.headline(runs, recipe),
            choices=words.choice_sentence(runs),
            tiles=words.tiles(runs, recipe, datasheet, target, protected),
            deviation_note=words.deviation_note(len(matrix.seeds), parameters.evaluate.resamples),
            published=measures.PUBLISHED_ACCURACIES,
            study=measures.STUDY,
            group_names=names,
            runs=run_tables,
            counts=counts_table(summaries, datasheet.synthetic, names, target, protected),
            datasheet=datasheet,
            steps=step_tables(parameters, datasheet, names),
            classifiers=steps.classifiers(attributes, names, target, parameters.train_attribute.selection),
            pairs=pictures.pair_pictures(shown, target, protected),
            count_of_pairs=len(pairs),
            trust=trust.trust_table(judgements),
            trust_level=worst_level(judgements),
            trust_sentence=trust.overall(judgements),
            mirroring=trust.mirroring(parameters),
            thresholds=thresholds,
            samples=pictures.sample_grids(),
            real=pictures.real_pictures(parameters),
            figures={name: pictures.data_uri("svg+xml", svg) for name, svg in drawn.items()},
            train=matrix,
            finishes=parameters.finish.names,
            loaded=parameters.load_classifier.names,
            versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            parameters=yaml.safe_dump(
                without_folders(
                    parameters.model_dump(mode="json", exclude={"runtime", "cluster", "on_useless"})
                ),
                sort_keys=False,
                allow_unicode=True,
                width=110,
            ),
        )
    )
    histograms = {name: target_histograms(scores, [name]) for name in protected}
    write_plots(groups, names, histories, histograms, synthetic, points)
    images, columns = pictures.pairs_grid(shown)
    save_grid(REPORT / "pairs.png", images, columns=columns)
    (REPORT / "index.html").write_text(page)
    print(f"report: {REPORT / 'index.html'} ({len(page.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main)
