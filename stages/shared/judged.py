"""The part of `assess` that needs judges: what they see in the synthetic images."""

from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from torch import nn

from classifiers.agreement import agreement
from classifiers.measures.judging import flip_rates, judged_label_noise
from classifiers.networks.backbones import load_network
from classifiers.networks.cards import JudgeCard
from classifiers.networks.inference import predict
from classifiers.selection import HALF
from data.sources import Measure, Source
from data.sources.base import measured_in_batches
from generators.hyperplanes import load_hyperplanes
from generators.latents import to_sphere
from generators.networks.cards import read_card
from pipeline.content.arrays import IntArray
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from pipeline.progress import progress
from stages.parameters import AllParameters
from stages.shared.controls import MANIFESTS
from stages.shared.judge_metrics import JudgeMetrics
from stages.shared.paths import GENERATOR, HYPERPLANES, JUDGES, LABELS, LATENTS, REAL_LABELS, SYNTHETIC

Judge = nn.Module | Measure  # a network, or a function of an image's pixels


def metrics_of_judge(attribute: str) -> JudgeMetrics:
    """Read what `train_judge` wrote of a judge."""
    return JudgeMetrics.read(JUDGES / attribute / "metrics.json")


def judges_of(attributes: list[str], source: Source) -> dict[str, Judge]:
    """Load the judge of every attribute.

    Args:
        attributes: by name.
        source: of the real images.

    Returns:
        for each attribute the source's pixel measurement, or else a network. Empty if an attribute has
        neither, because `train_judge` had no images to train a network on.
    """
    measures = {name: source.measured(name) for name in attributes}
    judged = [name for name, measure in measures.items() if measure is None]
    if not all(metrics_of_judge(name).images for name in judged):
        return {}
    return {name: measure or load_network(JUDGES / name, JudgeCard)[0] for name, measure in measures.items()}


def judge_store(source: str, judges: dict[str, Judge], accelerator: Accelerator) -> pd.DataFrame:
    """Judge every image of a store; return id and a column in {0, 1} for each attribute."""
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
    """Compute on which side of each attribute's hyperplane h the latents of a store lie.

    If the generator normalises its input, the latent's projection to the sphere is used, since the generator
    renders that. Latents that h was fitted on are left out.

    Args:
        source: the store's name.
        attributes: whose hyperplanes are used.

    Returns:
        id, and a column in {0, 1} for each attribute.
    """
    store, planes = Store(LATENTS / source), load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    normalises = read_card(GENERATOR).normalises_latents
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
    """Return a table's columns of attributes for these ids: [n, 1 + k]."""
    joined = join_by_id(pd.DataFrame({"id": ids.to_numpy()}), table[["id", *attributes]], what)
    return joined[attributes].to_numpy(dtype=np.int64)


def source_figures(
    judged: pd.DataFrame, said: dict[str, pd.DataFrame], attributes: list[str]
) -> dict[str, Any]:
    """Summarise what a source's images show, and how accurate other labels of them are.

    Args:
        judged: id and the attributes, by the judges.
        said: "classifiers" and "hyperplanes" -> id and the attributes by these, of some of the images.
        attributes: the target, then the protected attributes.

    Returns:
        the content of `JudgedSource` in stages/shared/quality.py.
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
    """Measure what complements truly changed, by the attributes that they were to flip.

    Args:
        judged: id and the attributes of the complements, by the judges.
        rows: the complements' store: id, pair_id and flips.
        before: id and the attributes of the originals: z by the judges, real images by their labels.
        attributes: the target, then the protected attributes.

    Returns:
        attributes to flip, joined by "+" -> the content of `FlipRates` in stages/shared/quality.py.
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
    """Measure how wrong a manifest's labels of its synthetic training images are, by source."""
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
    """Compute every figure that needs judges.

    Args:
        parameters: as params.yaml holds them.
        sources: the stores of synthetic images.
        judges: by attribute.
        accelerator: runs the networks.

    Returns:
        the part `judge` of quality.json, in which `measured` lists the attributes that are computed from
        pixels; and the judges' labels of every synthetic image: id, source, and a column in {0, 1} for each
        attribute.
    """
    attributes = parameters.attributes
    judged = {source: judge_store(source, judges, accelerator) for source in sources}
    labels = read_table(REAL_LABELS, ("id", *attributes))
    figures: dict[str, Any] = {
        "measured": [name for name, judge in judges.items() if not isinstance(judge, nn.Module)],
        "real_test": {name: metrics_of_judge(name).real_test for name in attributes},
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
