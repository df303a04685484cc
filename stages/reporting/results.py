"""``zprime results``: write docs/results.md and its pictures from the finished pipeline's outputs.

Reads the stages' outputs, and docs/results/ablations.json if `zprime ablations` has been run. Every figure
and every verdict is computed; the template's prose is true whatever they are.
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure

from generators.networks.cards import read_card
from pipeline.content.files import committed
from pipeline.content.groups import group_names
from pipeline.content.tables import read_table
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from stages.parameters import AllParameters, read_parameters
from stages.report import read_summaries, step_tables
from stages.reporting import ablation_tables as ablated
from stages.reporting.ablation_records import AblationRecord, recorded
from stages.reporting.beside import beside_record, beside_records
from stages.reporting.choices import (
    BASELINE,
    CHOICE,
    SELECTION,
    candidates_of,
    chosen_recipes,
    gap_of,
    summary_table,
)
from stages.reporting.counts_table import counts_table
from stages.reporting.leakage import largest_leak, leak_table, leaks, rarest_group
from stages.reporting.made_with import MadeWith, made_with_now
from stages.reporting.markdown import markdown_environment
from stages.reporting.measures import RunTables, overview
from stages.reporting.methods import write_methods_page
from stages.reporting.methods_record import keep_methods
from stages.reporting.plateaus import plateau_sentence, read_plateaus
from stages.reporting.tables import Table, markdown_grid, to_markdown
from stages.reporting.targets import verdicts
from stages.reporting.text import cell, difference, plus_minus, points, share
from stages.reporting.words import deviation_note
from stages.shared.controls import TRAINING_DATA
from stages.shared.datasheet import Datasheet
from stages.shared.paths import (
    BALANCED,
    BESIDE,
    EVALUATION,
    GENERATOR,
    METHODS,
    METHODS_PAGE,
    QUALITY,
    REPORT,
    RESULTS,
)
from stages.shared.quality import Quality

TEMPLATE = "results.md.j2"


# --- Tables of the runs ----------------------------------------------------------------------------------


def control_table(runs: pd.DataFrame) -> Table:
    """Show what the augmented data add to each control."""
    return Table(
        "Controls",
        "what complements bring beyond repeating real images (`duplicated`) and beyond as many plain G(z) "
        "(`sampled`); with ERM, and with the recipe that validation chooses for each.",
        ["control", "worst group", "against", "its worst group", "gain", "beyond the deviations"],
        control_rows(runs),
    )


def control_rows(runs: pd.DataFrame) -> list[list[str]]:
    """Return the gain of the augmented data over each control, with ERM and with the chosen recipes."""
    chosen = chosen_recipes(runs)
    rows = []
    for data in (name for name, entry in TRAINING_DATA.items() if entry.is_control and name in chosen):
        pairs = {(BASELINE, BASELINE), (chosen[data], chosen["augmented"])}
        for theirs, ours in sorted(pairs, key=lambda pair: pair != (BASELINE, BASELINE)):
            control, augmented = cell(runs, data, theirs, SELECTION), cell(runs, "augmented", ours, SELECTION)
            if control is None or augmented is None:
                continue
            gain, deviation = difference(control, augmented)
            rows.append(
                [f"{data} {theirs}", plus_minus(control), f"augmented {ours}", plus_minus(augmented),
                 points(gain), "yes" if abs(gain) > deviation else "no"]
            )  # fmt: skip
    return rows


def groups_compared(runs: pd.DataFrame) -> Callable[[str, str], bool]:
    """Return the test whether a data set's recipe is shown by group: the baseline and the chosen one."""
    chosen = chosen_recipes(runs)
    return lambda data, recipe: recipe in (BASELINE, chosen[data])


# --- Page ------------------------------------------------------------------------------------------------


def accuracy_figure(runs: pd.DataFrame) -> Figure:
    """Draw worst-group accuracy on test: bars by recipe and data set, the deviations as whiskers."""
    table = summary_table(runs)
    recipes, data = table["recipe"].unique().tolist(), table["data"].unique().tolist()
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(data)
    for k, name in enumerate(data):
        rows = table[table["data"] == name].set_index("recipe").reindex(recipes)
        axes.bar(
            np.arange(len(recipes)) + (k - (len(data) - 1) / 2) * width,
            rows[SELECTION] * 100,
            width * 0.92,
            yerr=rows[f"{SELECTION}_std"] * 100,
            capsize=2.5,
            color=TRAINING_DATA[name].colour,
            label=name,
        )
    axes.set_xticks(range(len(recipes)), recipes)
    axes.set_ylim(0, 100)
    axes.set_ylabel("worst-group accuracy on test (%)")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=len(data))
    return figure


def write_pictures(runs: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Draw or copy the pictures; return name -> file name, without pictures that no stage made."""
    folder.mkdir(parents=True, exist_ok=True)
    accuracy_figure(runs).savefig(folder / "accuracies.png", dpi=110, metadata={"Software": None})
    grids = sorted((GENERATOR / "samples").glob("*.png"))
    found = {"pairs": REPORT / "pairs.png", **({"samples": grids[-1]} if grids else {})}
    written = {"accuracies": "accuracies.png"}
    for name, picture in found.items():
        if picture.is_file():
            shutil.copyfile(picture, folder / f"{name}.png")
            written[name] = f"{name}.png"
    return written


def read_runs(parameters: AllParameters) -> pd.DataFrame:
    """Read out/evaluation/runs.parquet.

    Args:
        parameters: as params.yaml holds them.

    Returns:
        one row per run and selection.

    Raises:
        UserError: the runs are of other parameters, or there are none on the original or augmented data.
    """
    runs = read_table(EVALUATION / "runs.parquet", ("data", "recipe", "seed", "selection", SELECTION, CHOICE))
    left_out = read_plateaus(EVALUATION)
    for data in ("original", "augmented"):
        if data in {plateau.data for plateau in left_out} - set(runs["data"]):
            raise UserError(
                f"results: every run on the {data} data ended on its plateau, so that there is nothing to "
                "compare: change train.optimizer, or raise train.steps, and run `dvc repro`."
            )
        if data not in set(runs["data"]):
            raise UserError(
                f"results: no run on the {data} data: list it in train.real_data and run `dvc repro`."
            )
    if set(parameters.runs) - {plateau.key for plateau in left_out} != set(
        candidates_of(runs)[["data", "recipe", "seed"]].itertuples(index=False, name=None)
    ):
        raise UserError(
            f"results: {EVALUATION} has not the runs that {PARAMETERS_FILE} asks for: run `dvc repro`, or "
            "make them the parameters of that run."
        )
    return runs


def page(
    parameters: AllParameters,
    runs: pd.DataFrame,
    pictures: Mapping[str, str],
    ablations: Sequence[AblationRecord],
    made: MadeWith,
) -> str:
    """Write docs/results.md, from the outputs in the current folder.

    Args:
        parameters: as params.yaml holds them.
        runs: out/evaluation/runs.parquet.
        pictures: as `write_pictures` returns.
        ablations: the records of `stages.reporting.ablations`.
        made: the parameters that made the outputs.

    Returns:
        the page in Markdown.
    """
    datasheet, quality = Datasheet.read(BALANCED / "datasheet.json"), Quality.read(QUALITY / "quality.json")
    names = group_names(parameters.target, parameters.protected)
    found = leaks(quality, datasheet.before, runs, parameters.attributes)
    steps = step_tables(parameters, datasheet, names)
    summaries = read_summaries(parameters.train.data)
    images = {data: summary.images for data, summary in summaries.items()}
    run_tables = RunTables(runs, parameters.target, parameters.protected, names, images)
    environment = markdown_environment()
    environment.globals |= {"show": to_markdown, "markdown_grid": markdown_grid, "share": share}
    return environment.get_template(TEMPLATE).render(
        parameters=parameters,
        sentences={name: entry.sentence for name, entry in TRAINING_DATA.items()},
        data=list(runs["data"].unique()),
        seeds=deviation_note(len(parameters.train.seeds), parameters.evaluate.resamples),
        gap=gap_of(runs),
        plateaus=plateau_sentence(read_plateaus(EVALUATION)),
        has_gap=not math.isnan(gap_of(runs).size),
        verdicts=verdicts(runs, parameters.train.definitions),
        overview=overview(runs),
        groups=run_tables.groups(groups_compared(runs)),
        measures=[run_tables.paper(), run_tables.fairness(), *run_tables.alone(), *run_tables.at_half()],
        controls=control_table(runs),
        counts=counts_table(summaries, datasheet.synthetic, names, parameters.target, parameters.protected),
        chosen=chosen_recipes(runs),
        baseline=BASELINE,
        names=names,
        rarest=names[rarest_group(datasheet.before.group_counts)],
        datasheet=datasheet,
        quality=quality,
        losses=leak_table(found),
        largest=largest_leak(found),
        steps=[*steps["latent"], *steps["complements"], *steps["quality"]],
        angles=steps["angles"],
        generator=read_card(GENERATOR),
        pictures=pictures,
        ablated=ablated,
        ablations=ablations,
        beside=beside_records(),
        ablation_seeds=sorted({len(record.seeds) for record in ablations}),
        made=made,
        commands=ablated.commands(ablations),
    )


def main(
    beside: Annotated[
        str | None, typer.Option(help="keep these results under a name, beside the page's")
    ] = None,
    about: Annotated[str, typer.Option(help="with --beside: what was done, a sentence")] = "",
    methods: Annotated[
        bool, typer.Option("--methods", help="keep these results as those of docs/methods.md, and write it")
    ] = False,
) -> None:
    """Write docs/results.md and its pictures; or keep this run's results for it, or for docs/methods.md."""
    parameters = read_parameters()
    runs = read_runs(parameters)
    if methods:
        keep_methods(parameters, runs)
        write_methods_page()
        print(f"results: {METHODS} and {METHODS_PAGE}")
        return
    if beside is not None:
        path = BESIDE / f"{beside}.json"
        beside_record(beside, about, parameters, runs, made_with_now()).write(path)
        print(f"results: {path}; `make results` on the benchmark's own outputs puts it into {RESULTS}")
        return
    pictures = write_pictures(runs, RESULTS.with_suffix(""))
    content = page(parameters, runs, pictures, recorded(), made_with_now())
    with committed(RESULTS) as temporary:
        temporary.write_text(content)
    decided = verdicts(runs, parameters.train.definitions)
    write_methods_page()
    words = ", ".join(f"{k} {verdict.word}" for k, verdict in enumerate(decided, start=1))
    print(f"results: {RESULTS}; targets: {words}")


if __name__ == "__main__":
    run_stage(main)
