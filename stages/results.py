"""``python -m stages.results``: what the finished pipeline found -> docs/results.md and its pictures.

Reads what the stages wrote, and docs/results/ablations.json where `python -m benchmarks.ablations` has been
run. Every figure and every verdict is computed here; the template's prose holds whatever they are.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.errors import UserError
from pipeline.groups import group_names
from pipeline.parameters import AllParameters, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import committed, read_table
from stages import report_steps as steps
from stages import report_tables as tables
from stages.choices import (
    BASELINE,
    CHOICE,
    SELECTION,
    chosen_recipes,
    gap_of,
    mean_and_deviation,
    seeds_of,
    summary_table,
)
from stages.losses import coverage, label_noise, moves_into, rarest_group
from stages.paths import (
    ABLATIONS,
    BALANCED,
    EVALUATION,
    GENERATOR,
    HYPERPLANES,
    LATENTS,
    QUALITY,
    REPORT,
    RESULTS,
)
from stages.report import read_json
from stages.report_figures import DATA_COLOURS

TEMPLATE = "results.md.j2"
CONTROLS = ("duplicated", "sampled")
HALF_OF_GAP, MOST_OF_GAP = 0.5, 0.85  # targets 1 and 2: shares of the gap
POINTS = 0.03  # target 2: of worst-group accuracy
ROUNDING = 1e-9  # means of the same figures may differ by so much
SOURCE_BALANCED, GROUP_BALANCED = "source_balanced", "erm_balanced"  # with the source in the groups, without

Spread = tuple[float, float]  # mean and standard deviation over the seeds


@dataclass(frozen=True)
class Verdict:
    """Whether a target is reached.

    Attributes:
        claim: the target, one sentence.
        measured: the figures that decide.
        reached: None where a run is missing that it takes.
    """

    claim: str
    measured: str
    reached: bool | None

    @property
    def word(self) -> str:
        return {True: "reached", False: "not reached", None: "cannot be told"}[self.reached]


@dataclass(frozen=True)
class Loss:
    """One place where the way from data to a fair classifier may leak, of the rarest group.

    Attributes:
        place, figure, beside: what is measured, its value, and what to hold it against, as text.
        lost: share of the images that are lost there, in [0, 1]; None where it is no such share.
    """

    place: str
    figure: str
    beside: str
    lost: float | None = None


# --- Numbers as text -------------------------------------------------------------------------------------


def spread(values: Spread) -> str:
    """'41.0 ± 1.4' in percent, '41.0' without a deviation; '–' where there is no value."""
    text = tables.spread_text(*values, percent=True).replace(tables.FIGURE_SPACE, "").replace("±", "± ")
    return text.split(" ±")[0] if math.isnan(values[1]) else text


def points(difference: float) -> str:
    """'+3.2 points' of a difference of shares."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def share(value: float | None) -> str:
    """'41.0 %'; '–' of what is not defined."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %".replace("-", "−")


# --- Targets ---------------------------------------------------------------------------------------------


def cell(runs: pd.DataFrame, data: str, recipe: str, metric: str) -> Spread | None:
    """A metric's mean and deviation of one data set and recipe; None where there is no such run."""
    seeds = seeds_of(runs, data, recipe)
    return mean_and_deviation(seeds, metric) if len(seeds) else None


def difference(first: Spread, second: Spread) -> Spread:
    """The second less the first, and the deviation of that: of independent means, √(σ₁² + σ₂²)."""
    return second[0] - first[0], math.hypot(first[1], second[1])


def verdicts(runs: pd.DataFrame) -> list[Verdict]:
    """The three targets, decided by the figures of the runs.

    Args:
        runs: out/evaluation/runs.parquet; recipes are chosen on validation (`stages.choices`).
    """
    chosen = chosen_recipes(runs)
    return [_half_of_the_gap(runs), _most_of_the_gap(runs, chosen), _accuracy_stays(runs, chosen)]


def _closed(runs: pd.DataFrame, recipe: str) -> Spread | None:
    """The share of the gap that the augmented data close with a recipe; None where there is none to close."""
    found = cell(runs, "augmented", recipe, SELECTION)
    closed = gap_of(runs).closed(*found) if found else (math.nan, math.nan)
    return None if math.isnan(closed[0]) else closed


def _half_of_the_gap(runs: pd.DataFrame) -> Verdict:
    claim = "ERM on the augmented data closes at least half of the gap."
    closed = _closed(runs, BASELINE)
    if closed is None:
        return Verdict(claim, "There is no gap to measure: it takes ERM on all three data sets.", None)
    return Verdict(claim, f"It closes {spread(closed)} % of it.", closed[0] >= HALF_OF_GAP - ROUNDING)


def _most_of_the_gap(runs: pd.DataFrame, chosen: Mapping[str, str]) -> Verdict:
    claim = (
        "The best recipe on the augmented data closes at least 85 % of the gap, and beats the best recipe on "
        "the original data by at least 3 points, beyond one standard deviation."
    )
    closed = _closed(runs, chosen["augmented"])
    if closed is None:
        return Verdict(claim, "There is no gap to measure: it takes ERM on all three data sets.", None)
    before, after = (
        mean_and_deviation(seeds_of(runs, data, chosen[data]), SELECTION)
        for data in ("original", "augmented")
    )
    gain, deviation = difference(before, after)
    beats = gain >= POINTS - ROUNDING and gain > deviation
    measured = (
        f"{chosen['augmented']} on the augmented data closes {spread(closed)} % of it: worst-group accuracy "
        f"{spread(after)} %, against {spread(before)} % of {chosen['original']} on the original data: "
        f"{points(gain)}, with a deviation of {100 * deviation:.1f}; the gain "
        + ("passes" if beats else "does not pass")
        + " on its own."
    )
    return Verdict(claim, measured, closed[0] >= MOST_OF_GAP - ROUNDING and beats)


def _accuracy_stays(runs: pd.DataFrame, chosen: Mapping[str, str]) -> Verdict:
    claim = (
        "Average accuracy on the balanced test set is no lower than ERM's on the original data: with ERM, "
        "and with the best recipe, on the augmented data."
    )
    before = cell(runs, "original", BASELINE, "accuracy")
    after = {
        r: cell(runs, "augmented", r, "accuracy") for r in dict.fromkeys((BASELINE, chosen["augmented"]))
    }
    found = {recipe: values for recipe, values in after.items() if values is not None}
    if before is None or len(found) < len(after):
        return Verdict(claim, "It takes ERM on the original and on the augmented data.", None)
    texts = [f"{recipe} {spread(values)} %" for recipe, values in found.items()]
    measured = f"On the augmented data {', '.join(texts)}; ERM on the original {spread(before)} %."
    return Verdict(claim, measured, all(v[0] >= before[0] - ROUNDING for v in found.values()))


# --- Tables of the runs ----------------------------------------------------------------------------------


def run_rows(runs: pd.DataFrame) -> list[list[str]]:
    """A row for each data set and recipe, as text in percent; what validation chose for its data is bold."""
    names = (SELECTION, "accuracy", "gap_closed", CHOICE)
    rows = []
    for record in summary_table(runs).to_dict("records"):
        texts = [str(record["data"]), str(record["recipe"])]
        texts += [spread((record[name], record[f"{name}_std"])) for name in names]
        rows.append([f"**{text}**" if record["chosen"] else text for text in texts])
    return rows


def control_rows(runs: pd.DataFrame) -> list[list[str]]:
    """What the augmented data bring beyond each control: with ERM, and with what validation chooses."""
    chosen = chosen_recipes(runs)
    rows = []
    for data in (name for name in CONTROLS if name in chosen):
        pairs = {(BASELINE, BASELINE), (chosen[data], chosen["augmented"])}
        for theirs, ours in sorted(pairs, key=lambda pair: pair != (BASELINE, BASELINE)):
            control, augmented = cell(runs, data, theirs, SELECTION), cell(runs, "augmented", ours, SELECTION)
            if control is None or augmented is None:
                continue
            gain, deviation = difference(control, augmented)
            rows.append(
                [f"{data} {theirs}", spread(control), f"augmented {ours}", spread(augmented), points(gain),
                 "yes" if abs(gain) > deviation else "no"]
            )  # fmt: skip
    return rows


# --- Where it is lost ------------------------------------------------------------------------------------


def losses(
    quality: Mapping[str, Any], datasheet: Mapping[str, Any], runs: pd.DataFrame, attributes: Sequence[str]
) -> list[Loss]:
    """Each place where the rarest group may be lost, in the order of the steps; without judges the last ones.

    Args:
        quality: out/quality/quality.json.
        datasheet: out/balanced/datasheet.json.
        attributes: the target, then the protected ones.
    """
    group = rarest_group(datasheet["before"]["group_counts"])
    judge = quality["judge"]
    found = _judged_losses(judge, datasheet["before"], group, attributes) if judge else []
    for source, of in quality["probe"].items():
        name = steps.set_name(source)
        found.append(
            Loss(f"Shortcut: {name} told from real images", f"AUC {share(of['auc'])}", "50 % is ideal")
        )
    return found + _shortcut(runs)


def _judged_losses(
    judge: Mapping[str, Any], before: Mapping[str, Any], group: int, attributes: Sequence[str]
) -> list[Loss]:
    made = judge["sources"]["z"]
    trained = before["group_counts"][f"group_{group}"] / before["images"]
    found = [
        Loss(
            "Coverage: the group among G(z)",
            share(coverage(made, group)),
            f"{share(trained)} of training images",
        )
    ]
    for kind, name in (("classifiers", "f"), ("hyperplanes", "h")):
        for attribute in attributes:
            of = made[kind][attribute]
            accuracy = of["group_accuracies"][group]
            found.append(
                Loss(
                    f"Accuracy of {name} for {attribute}, on its G(z)",
                    share(accuracy),
                    f"{share(of['balanced_accuracy'])} balanced, over all G(z)",
                    None if accuracy is None else 1 - accuracy,
                )
            )
    for source, by_flips in judge["complements"].items():
        moves, name = moves_into(by_flips, group, attributes), steps.set_name(source)
        if moves is None:
            continue
        of_pairs = f"of {moves.pairs:,} pairs moved into the group"
        found += [
            Loss(f"Edit: what was to flip did, {name}", share(moves.flipped), of_pairs, 1 - moves.flipped),
            Loss(f"Leakage: {attributes[0]} stayed, {name}", share(moves.kept), of_pairs, 1 - moves.kept),
            Loss(f"Both, and nothing else changed, {name}", share(moves.as_asked), of_pairs),
        ]
    for data, labels in judge["labels"].items():
        noise = label_noise(labels, group)
        average = np.average(
            [of["group_noise_average"] for of in labels.values()],
            weights=[of["images"] for of in labels.values()],
        )
        found.append(
            Loss(
                f"Wrong labels among its images, {data}",
                share(noise),
                f"{share(float(average))} over the groups",
                noise,
            )
        )
    return found


def _shortcut(runs: pd.DataFrame) -> list[Loss]:
    """What it brings to balance real and synthetic images within every group too."""
    plain, sources = (cell(runs, "augmented", r, SELECTION) for r in (GROUP_BALANCED, SOURCE_BALANCED))
    if plain is None or sources is None:
        return []
    gain, deviation = difference(plain, sources)
    beside = f"{spread(plain)} % with {GROUP_BALANCED}: {points(gain)} ± {100 * deviation:.1f}"
    return [Loss(f"Shortcut: worst group with {SOURCE_BALANCED}", f"{spread(sources)} %", beside)]


def largest_loss(found: Sequence[Loss]) -> Loss | None:
    """The place where the largest share of the rarest group's images is lost; None if nothing is a share."""
    shares = [loss for loss in found if loss.lost is not None]
    return max(shares, key=lambda loss: loss.lost or 0.0, default=None)


# --- Ablations -------------------------------------------------------------------------------------------


def ablation_recipes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every recipe that a variant was trained with."""
    return list(dict.fromkeys(recipe for record in records for recipe in record.get("recipes", {})))


def ablation_rows(records: Sequence[Mapping[str, Any]], recipes: Sequence[str]) -> list[list[str]]:
    """A row for each variant: worst-group and average accuracy by recipe, and what the judges say."""
    rows = []
    for record in records:
        if record["failed"]:
            rows.append([record["name"], *["failed"] * (2 * len(recipes)), "", "", "", ""])
            continue
        figures = [
            record["recipes"].get(r, {}).get(name) for r in recipes for name in (SELECTION, "accuracy")
        ]
        judged = record["judged"] or {}
        rows.append(
            [record["name"], *("–" if of is None else spread(_spread_of(of)) for of in figures),
             f"{record['images'][record['rarest']]:,}",
             *(share(judged.get(name)) for name in ("flipped", "kept", "label_noise"))]
        )  # fmt: skip
    return rows


def _spread_of(figure: Mapping[str, float | None]) -> Spread:
    mean, deviation = (math.nan if value is None else value for value in (figure["mean"], figure["std"]))
    return mean, deviation


def ablation_sentences(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each variant: what it is, and what it changed, or why it failed."""
    by_name = {record["name"]: record for record in records}
    sentences = []
    for record in records:
        start = f"`{record['name']}`: {record['about']}"
        against = by_name.get(record["against"])
        if record["failed"]:
            sentences.append(f"{start}; it failed: {record['failed']}")
        elif against is None or against["failed"]:
            sentences.append(f"{start}; there is nothing to hold it against.")
        else:
            changes = []
            for recipe in (r for r in record["recipes"] if r in against["recipes"]):
                of = (_spread_of(r["recipes"][recipe][SELECTION]) for r in (against, record))
                gain, deviation = difference(*of)
                clear = (
                    "" if abs(gain) > deviation else ", within the deviations" * (not math.isnan(deviation))
                )
                changes.append(f"{points(gain)} with {recipe}{clear}")
            sentences.append(
                f"{start}; worst-group accuracy against `{against['name']}`: {'; '.join(changes)}."
            )
    return sentences


# --- Page ------------------------------------------------------------------------------------------------


def accuracy_figure(runs: pd.DataFrame) -> Figure:
    """Worst-group accuracy on test: bars by recipe and data set, the deviations as whiskers."""
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
            color=DATA_COLOURS[name],
            label=name,
        )
    axes.set_xticks(range(len(recipes)), recipes)
    axes.set_ylim(0, 100)
    axes.set_ylabel("worst-group accuracy on test (%)")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=len(data))
    return figure


def write_pictures(runs: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Draw or copy the pictures: name -> file name; of a picture that no stage made there is no entry."""
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


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    """A table in Markdown: the first columns to the left, the others to the right."""
    lines = [headings, [*["---"] * labels, *["---:"] * (len(headings) - labels)], *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)


def page(parameters: AllParameters, pictures: Mapping[str, str], ablations: list[dict[str, Any]]) -> str:
    """docs/results.md, of the outputs in the current folder."""
    runs = read_table(EVALUATION / "runs.parquet", ("data", "recipe", "seed", "selection", SELECTION, CHOICE))
    for data in ("original", "augmented"):
        if data not in set(runs["data"]):
            raise UserError(
                f"results: no run on the {data} data: list it in train.real_data and run `dvc repro`."
            )
    datasheet, quality = read_json(BALANCED / "datasheet.json"), read_json(QUALITY / "quality.json")
    names, found = (
        group_names(parameters.target, parameters.protected),
        losses(quality, datasheet, runs, parameters.attributes),
    )
    recipes = ablation_recipes(ablations)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"table": markdown_table, "share": share}
    return environment.get_template(TEMPLATE).render(
        parameters=parameters,
        notes=tables.DATA_NOTES,
        data=list(runs["data"].unique()),
        seeds=tables.deviation_note(len(parameters.train.seeds), parameters.evaluate.resamples),
        gap=gap_of(runs),
        has_gap=not math.isnan(gap_of(runs).size),
        verdicts=verdicts(runs),
        run_rows=run_rows(runs),
        control_rows=control_rows(runs),
        chosen=chosen_recipes(runs),
        names=names,
        rarest=names[rarest_group(datasheet["before"]["group_counts"])],
        datasheet=datasheet,
        quality=quality,
        losses=found,
        largest=largest_loss(found),
        sheets=[
            steps.hyperplanes(read_json(HYPERPLANES / "metrics.json"), parameters.attributes),
            steps.moves({"z_prime": read_json(LATENTS / "z_prime" / "metrics.json")}),
            steps.complements(datasheet),
            *steps.quality(quality),
        ],
        generator=read_json(GENERATOR / "card.json"),
        pictures=pictures,
        recipes=recipes,
        ablation_rows=ablation_rows(ablations, recipes),
        ablation_sentences=ablation_sentences(ablations),
        ablation_seeds=sorted({len(record["seeds"]) for record in ablations}),
    )


def main() -> None:
    """Write docs/results.md and the pictures beside it."""
    parameters = read_parameters()
    runs = read_table(EVALUATION / "runs.parquet")
    pictures = write_pictures(runs, RESULTS.with_suffix(""))
    ablations = read_json(ABLATIONS) if ABLATIONS.exists() else []
    content = page(parameters, pictures, ablations)
    with committed(RESULTS) as temporary:
        temporary.write_text(content)
    words = ", ".join(f"{k} {verdict.word}" for k, verdict in enumerate(verdicts(runs), start=1))
    print(f"results: {RESULTS}; targets: {words}")


if __name__ == "__main__":
    run_stage(main)
