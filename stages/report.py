"""report: everything under out/ -> out/report/: index.html, one self-contained file, and plots/ for DVC."""

import base64
import io
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from PIL import Image

from pipeline.parameters import AllParameters, read_parameters
from pipeline.pictures import grid, save_grid
from pipeline.stage import run_stage
from pipeline.stores import Store, join_by_id, read_table
from stages import report_figures as figures
from stages import report_tables as tables
from stages.paths import (
    ATTRIBUTES,
    BALANCED,
    EVALUATION,
    GENERATOR,
    HYPERPLANES,
    LABELS,
    LATENTS,
    REAL,
    REPORT,
    RUNS,
    SYNTHETIC,
)  # fmt: skip

TEMPLATE = Path(__file__).with_name("report.html.j2")
SOURCES = {"z": "", "z_prime": "prime_"}  # of synthetic images; the prefix of their columns in `all_pairs`
PAIRS_PER_GROUP = 4
REAL_PER_GROUP = 16
PICTURE_WIDTH = 1120  # px, at most: the width of the page's text
LOSSLESS_HEIGHT = 64  # px
PACKAGES = ("zprime", "torch", "torchvision", "accelerate", "numpy", "scikit-learn")


def data_uri(kind: str, content: bytes) -> str:
    """A file's content as an address that an <img> takes."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: NDArray[np.uint8] | Path) -> str:
    """Pixels [H, W, 3] or a file as a data URI, at most as wide as the page."""
    image = Image.open(picture) if isinstance(picture, Path) else Image.fromarray(picture)
    if image.width > PICTURE_WIDTH:
        image = image.resize((PICTURE_WIDTH, round(image.height * PICTURE_WIDTH / image.width)))
    # WebP is a third of the size, but halves the resolution of colour, which shows in enlarged images.
    kind = "png" if image.height <= LOSSLESS_HEIGHT else "webp"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return data_uri(kind, buffer.getvalue())


def without_folders(value: Any) -> Any:
    """Parameters with absolute paths cut to their last part: the rest is one machine's."""
    if isinstance(value, dict):
        return {name: without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_folders(inner) for inner in value]
    return f"…/{Path(value).name}" if isinstance(value, str) and Path(value).is_absolute() else value


def read_json(path: Path) -> Any:
    """The content of a JSON file that another stage wrote."""
    return json.loads(path.read_text())


def all_pairs(parameters: AllParameters) -> pd.DataFrame:
    """Every pair: id (of z), prime_id, group (of z's labels), labels and scores of z and, prefixed, of z'."""
    columns = ["id", *parameters.attributes, *(f"{name}_score" for name in parameters.attributes)]
    z, z_prime = (Store(LABELS / s).rows[columns] for s in SOURCES)
    ids = Store(SYNTHETIC / "z_prime").rows[["id", "pair_id"]]
    primes = join_by_id(ids, z_prime, "out/labels/z_prime")
    primes = primes.rename(columns=lambda name: "id" if name == "pair_id" else f"prime_{name}")
    pairs = join_by_id(primes, z, "out/labels/z")
    return pairs.assign(group=pairs[parameters.target] * 2 + pairs[parameters.protected])


def pair_images(pairs: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
    """The images of pairs [n]: uint8 [n, H, W, 3] by source."""
    images = {}
    for source, prefix in SOURCES.items():
        store = Store(SYNTHETIC / source)
        images[source] = store.read(store.positions(pairs[f"{prefix}id"]))
    return images


def pair_pictures(
    pairs: pd.DataFrame, images: dict[str, NDArray[np.uint8]], target: str, protected: str
) -> list[dict[str, Any]]:
    """The pairs to show: their group, each half's picture, scores and labels, and what became of z."""
    return [
        {
            "group": row["group"],
            "halves": [
                {
                    "picture": picture_uri(images[source][k]),
                    "scores": [(row[f"{prefix}{a}_score"], row[f"{prefix}{a}"]) for a in (target, protected)],
                }
                for source, prefix in SOURCES.items()
            ],
            "kept": row[target] == row[f"prime_{target}"],
            "flipped": row[protected] != row[f"prime_{protected}"],
        }
        for k, row in enumerate(pairs.to_dict("records"))
    ]


def real_pictures(parameters: AllParameters) -> dict[int, str]:
    """Real training images of each group: one strip for each."""
    labels = read_table(REAL / "labels.parquet")
    labels = labels.assign(group=labels[parameters.target] * 2 + labels[parameters.protected])
    chosen = tables.evenly_per_group(labels[labels["split"] == "train"], REAL_PER_GROUP)
    store = Store(REAL)
    strips = {}
    for group in range(4):
        ids = chosen["id"][chosen["group"] == group]
        strips[group] = picture_uri(grid(store.read(store.positions(ids)), REAL_PER_GROUP))
    return strips


def sample_grids() -> list[tuple[int, str]]:
    """The generator's sample grids: resolution in px, picture."""
    files = sorted((GENERATOR / "samples").glob("*.png"))
    return [(int(file.stem), picture_uri(file)) for file in files]


def generator_losses() -> dict[str, bytes]:
    """The figure of the GAN's losses, by its name; nothing of a generator that was loaded."""
    path = GENERATOR / "losses.csv"
    return {"gan_losses": figures.gan_losses(pd.read_csv(path))} if path.is_file() else {}


def target_histograms(parameters: AllParameters, recipe: str) -> dict[tuple[str, int], pd.DataFrame]:
    """(data set, true class) -> histograms of a recipe's scores on test, all seeds, by protected group."""
    histograms = {}
    for data in [name for name in parameters.train.data if name != "oracle"]:
        folders = [RUNS / data / recipe / str(seed) for seed in parameters.train.seeds]
        rows = pd.concat([read_table(folder / "predictions.parquet") for folder in folders])
        rows = rows[(rows["split"] == "test") & (rows["selection"] == tables.SELECTION)]
        for truth in (0, 1):
            members = rows[rows["target"] == truth]
            histograms[data, truth] = tables.binned_shares(
                {f"protected_{g}": members["score"][members["protected"] == g] for g in (0, 1)}
            )
    return histograms


def read_histories(parameters: AllParameters) -> pd.DataFrame:
    """The training histories of all runs: data, recipe, seed, and the columns of history.csv."""
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


def group_table(runs: pd.DataFrame) -> pd.DataFrame:
    """data, recipe, group, mean, deviation of every group's accuracy."""
    records = []
    for row in tables.table_rows(runs, ()):
        seeds = tables.seeds_of(runs, row["data"], row["recipe"])
        for group, column in enumerate(tables.GROUP_ACCURACIES):
            mean, deviation = tables.mean_and_deviation(seeds, column.name)
            records.append((row["data"], row["recipe"], group, mean, deviation))
    return pd.DataFrame(records, columns=["data", "recipe", "group", "mean", "deviation"])


def write_plots(
    groups: pd.DataFrame,
    histories: pd.DataFrame,
    histograms: dict[tuple[str, int], pd.DataFrame],
    synthetic: dict[str, pd.DataFrame],
) -> None:
    """The tables that dvc.yaml's `plots` show."""
    named = groups.assign(
        run=groups["data"] + " " + groups["recipe"], group="group_" + groups["group"].astype(str)
    )
    files = {"group_accuracies": named.pivot(index="run", columns="group", values="mean").reset_index()}
    for metric in ("loss", "worst_group_accuracy"):
        for data, rows in histories.groupby("data"):
            means = rows.pivot_table(index="step", columns="recipe", values=metric)
            files[f"{metric}/{data}"] = means.reset_index()
    files |= {f"target_scores/{data}_target_{truth}": h for (data, truth), h in histograms.items()}
    files |= {f"synthetic_scores/{attribute}": h for attribute, h in synthetic.items()}
    for name, table in files.items():
        path = REPORT / "plots" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False, float_format="%.6g")


def main() -> None:
    """Write the page and the tables of DVC's plots."""
    parameters = read_parameters()
    matrix, names = parameters.train, (parameters.target, parameters.protected)
    recipe = "erm" if "erm" in matrix.recipes else matrix.recipes[0]
    runs = read_table(EVALUATION / "runs.parquet", ("data", "recipe", "seed", "selection"))
    datasheet = read_json(BALANCED / "datasheet.json")
    group_names = [datasheet["groups"][f"group_{group}"] for group in range(4)]
    summaries = {"original": datasheet["before"], "augmented": datasheet["after"]}
    if "oracle" in matrix.data:
        summaries["oracle"] = read_json(EVALUATION / "data.json")["oracle"]
    attributes = {name: read_json(ATTRIBUTES / name / "metrics.json") for name in names}
    pairs = all_pairs(parameters)
    shown = tables.evenly_per_group(pairs, PAIRS_PER_GROUP)
    images = pair_images(shown)
    histories, groups = read_histories(parameters), group_table(runs)
    histograms = target_histograms(parameters, recipe)
    synthetic = {
        name: tables.binned_shares({s: pairs[f"{prefix}{name}_score"] for s, prefix in SOURCES.items()})
        for name in names
    }
    robust = [r for r in matrix.recipes if matrix.definitions[r].objective == "group_dro"]
    drawn = {
        "group_accuracies": figures.group_accuracies(groups, group_names),
        "data_sets": figures.data_sets({d: s | s["group_counts"] for d, s in summaries.items()}, group_names),
        "target_scores": figures.target_scores(histograms, *names, recipe),
        "synthetic_scores": figures.synthetic_scores(
            synthetic, {name: metrics["threshold"] for name, metrics in attributes.items()}
        ),
        **generator_losses(),
        "training_curves": figures.training_curves(histories),
    }
    if robust:
        rows = histories[histories["recipe"].isin(robust)]
        drawn["group_weights"] = figures.group_weights(rows, group_names)

    chosen = tables.table_rows(runs, (*tables.ACCURACIES, tables.MATCHED), best=tables.SELECTION)
    beside = {
        (row["data"], row["recipe"]): tables.accuracies_beside(
            tables.seeds_of(runs, row["data"], row["recipe"])
        )
        for row in chosen
    }
    by_accuracy = tables.table_rows(runs, tables.ACCURACIES, selection="accuracy")
    for row, other in zip(chosen, by_accuracy, strict=True):
        row["by_accuracy"] = other["cells"]
        row["worst_group"] = tables.worst_group_of(tables.seeds_of(runs, row["data"], row["recipe"]))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text()).render(
        tables=tables,
        source=parameters.prepare.source["kind"],
        target=parameters.target,
        protected=parameters.protected,
        recipe=recipe,
        headline=tables.headline(runs, recipe),
        tiles=tables.tiles(runs, recipe, datasheet, names),
        deviation_note=tables.deviation_note(len(matrix.seeds), parameters.evaluate.resamples),
        accuracies=chosen,
        paper=tables.table_rows(runs, tables.PAPER),
        beside=beside,
        distances=tables.table_rows(runs, tables.DISTANCES, best="kl_scores", lowest=True),
        group_accuracies=tables.table_rows(runs, tables.GROUP_ACCURACIES),
        worst_groups={(row["data"], row["recipe"]): row["worst_group"] for row in chosen},
        group_names=group_names,
        group_sizes=[int(runs[f"group_{group}_n"].iloc[0]) for group in range(4)],
        summaries=summaries,
        datasheet=datasheet,
        pairs=pair_pictures(shown, images, *names),
        count_of_pairs=len(pairs),
        attributes=attributes,
        samples=sample_grids(),
        real=real_pictures(parameters),
        figures={name: data_uri("svg+xml", svg) for name, svg in drawn.items()},
        hyperplanes=read_json(HYPERPLANES / "metrics.json"),
        moves=read_json(LATENTS / "z_prime/metrics.json"),
        train=matrix,
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        parameters=yaml.safe_dump(
            without_folders(parameters.model_dump(mode="json", exclude={"runtime", "cluster"})),
            sort_keys=False,
            allow_unicode=True,
            width=110,
        ),
    )
    write_plots(groups, histories, histograms, synthetic)
    save_grid(REPORT / "pairs.png", np.concatenate(list(images.values())), columns=len(shown))
    (REPORT / "index.html").write_text(page)
    print(f"report: {REPORT / 'index.html'} ({len(page.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main)
