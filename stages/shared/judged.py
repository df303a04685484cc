"""What judges say of the synthetic images: the part of `assess` that needs judges."""

import json
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from classifiers.agreement import agreement
from classifiers.measures.judging import flip_rates, judged_label_noise
from classifiers.networks.backbones import load_network
from classifiers.networks.inference import predict
from classifiers.selection import HALF
from data.sources import Measure, Source
from data.sources.base import measured_in_batches
from generators.hyperplanes import load_hyperplanes
from generators.latents import to_sphere
from generators.networks.cards import read_card
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from pipeline.progress import progress
from stages.parameters import AllParameters
from stages.shared.controls import MANIFESTS
from stages.shared.paths import GENERATOR, HYPERPLANES, JUDGES, LABELS, LATENTS, REAL, SYNTHETIC

IntArray = NDArray[np.int64]
Judge = nn.Module | Measure  # a network, or what computes an attribute from pixels


def metrics_of_judge(attribute: str) -> dict[str, Any]:
    """What `train_judge` has written of a judge: `images`, 0 where there is none, and `real_test`."""
    metrics: dict[str, Any] = json.loads((JUDGES / attribute / "metrics.json").read_text())
    return metrics


def judges_of(attributes: list[str], source: Source) -> dict[str, Judge]:
    """The judge of every attribute: what the source computes it with, or a network.

    None at all where an attribute has neither: `train_judge` had no images for a network.
    """
    measures = {name: source.measured(name) for name in attributes}
    judged = [name for name, measure in measures.items() if measure is None]
    if not all(metrics_of_judge(name)["images"] for name in judged):
        return {}
    return {name: measure or load_network(JUDGES / name)[0] for name, measure in measures.items()}


def judge_store(source: str, judges: dict[str, Judge], accelerator: Accelerator) -> pd.DataFrame:
    """What the judges say of every image of a store: id, and a column in {0, 1} for each attribute."""
    store = Store(SYNTHETIC / source)
    table = store.rows[["id"]].copy()
    with progress(f"assess judge {source}", len(store) * len(judges), "images") as advance:
        for name, judge in judges.items():
            if isinstance(judge, nn.Module):
                judge.to(accelerator.device)
                scores = predict(judge, store.read, len(store), accelerator, on_batch=advance)
                table[name] = (scores >= HALF).astype(np.int64)
            else:
                table[name] = measured_in_batches(judge, store.read, len(store), advance)
    return table


def sides_of(source: str, attributes: list[str]) -> pd.DataFrame:
    """What h says of the latents of a store: id, and a column in {0, 1} for each attribute.

    Where the generator normalises its input, of a latent's projection: that is what it renders. Latents that
    h was fitted on are left out.
    """
    store, planes = Store(LATENTS / source), load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    normalises = read_card(GENERATOR)["normalises_latents"]
    tables = []
    for shard in range(len(store.items_per_shard)):
        start, stop = store.bounds(shard)
        latents = store.read_between(start, stop)
        latents = to_sphere(latents) if normalises else latents
        rows = store.rows_between(start, stop)
        table = rows[["id"]].copy()
        for name in attributes:
            table[name] = (planes[name].distance(latents) > 0).astype(np.int64)
        tables.append(table[rows["part"] != "fit"] if "part" in rows else table)
    return pd.concat(tables, ignore_index=True)


def columns_by_id(ids: pd.Series, table: pd.DataFrame, attributes: list[str], what: str) -> IntArray:
    """A table's columns of attributes for these ids: [n, 1 + k]."""
    joined = join_by_id(pd.DataFrame({"id": ids.to_numpy()}), table[["id", *attributes]], what)
    return joined[attributes].to_numpy(dtype=np.int64)


def source_figures(
    judged: pd.DataFrame, said: dict[str, pd.DataFrame], attributes: list[str]
) -> dict[str, Any]:
    """What a source's images show, and how right each of `said` is on them.

    Args:
        judged: id and the attributes by the judges.
        said: "classifiers" and "hyperplanes" to id and the attributes as these have it, of some images.
    """
    groups, n_groups = protected_groups(judged[attributes].to_numpy(dtype=np.int64))
    figures: dict[str, Any] = {
        "images": len(judged),
        "group_n": np.bincount(groups, minlength=n_groups).tolist(),
    }
    for who, table in said.items():
        truth = columns_by_id(table["id"], judged, attributes, "what judges say")
        true_groups, _ = protected_groups(truth)
        figures[who] = {
            name: agreement(truth[:, j], table[name].to_numpy(dtype=np.int64), true_groups, n_groups)
            for j, name in enumerate(attributes)
        }
    return figures


def complement_figures(
    judged: pd.DataFrame, rows: pd.DataFrame, before: pd.DataFrame, attributes: list[str]
) -> dict[str, Any]:
    """What complements truly changed, by what they were to flip.

    Args:
        judged: id and the attributes of the complements by the judges.
        rows: of their store, with id, pair_id and flips.
        before: id and the attributes of what was complemented: z by the judges, real images by their labels.
    """
    figures = {}
    for flips, pairs in rows.groupby("flips", sort=False):
        figures[str(flips)] = flip_rates(
            columns_by_id(pairs["pair_id"], before, attributes, "what complements are of"),
            columns_by_id(pairs["id"], judged, attributes, "complements"),
            np.isin(attributes, str(flips).split("+")),
            attributes,
        )
    return figures


def label_figures(
    manifest: pd.DataFrame, judged: dict[str, pd.DataFrame], parameters: AllParameters
) -> dict[str, Any]:
    """How wrong the labels are that a manifest gives its synthetic training images, by source."""
    figures = {}
    training = manifest[manifest["split"] == "train"]
    for source, table in judged.items():
        rows = training[training["source"] == source]
        if rows.empty:
            continue
        protected = protected_columns(rows["protected"].to_numpy(dtype=np.int64), len(parameters.protected))
        given = np.column_stack([rows["target"].to_numpy(dtype=np.int64), protected])
        truth = columns_by_id(rows["id"], table, parameters.attributes, source)
        figures[source] = judged_label_noise(given, truth, parameters.attributes)
    return figures


def judged_figures(
    parameters: AllParameters, sources: list[str], judges: dict[str, Judge], accelerator: Accelerator
) -> tuple[dict[str, Any], pd.DataFrame]:
    """All that judges say: the part `judge` of quality.json, and their word on every synthetic image.

    `measured` lists the attributes that are computed from pixels. The table has id, source, and a column in
    {0, 1} for each attribute.
    """
    attributes = parameters.attributes
    judged = {source: judge_store(source, judges, accelerator) for source in sources}
    labels = read_table(REAL / "labels.parquet", ("id", *attributes))
    figures: dict[str, Any] = {
        "measured": [name for name, judge in judges.items() if not isinstance(judge, nn.Module)],
        "real_test": {name: metrics_of_judge(name)["real_test"] for name in attributes},
        "sources": {},
        "complements": {},
    }
    for source in sources:
        said = {"classifiers": Store(LABELS / source).rows, "hyperplanes": sides_of(source, attributes)}
        figures["sources"][source] = source_figures(judged[source], said, attributes)
        if source != "z":
            rows = Store(LATENTS / source).rows
            before = judged["z"] if source == "z_prime" else labels
            figures["complements"][source] = complement_figures(judged[source], rows, before, attributes)
    figures["labels"] = {
        data: label_figures(read_table(path), judged, parameters) for data, path in MANIFESTS.items()
    }
    return figures, pd.concat([table.assign(source=source) for source, table in judged.items()])
