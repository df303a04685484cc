"""balance: real and synthetic images with their labels -> out/balanced/: manifests, judgements, datasheet."""

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.divergences import kl_joint, kl_uniform
from data.balancing import (
    candidates_of,
    counts_of,
    manifest_of,
    real_rows,
    sampled_manifest_of,
    synthetic_rows,
    with_groups,
)
from data.gates import dropped_counts, judged_complements, kept_by, passed_gates, shares_of
from pipeline.groups import group_names
from pipeline.parameters import AllParameters, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, join_by_id, read_table, write_json, write_table
from pipeline.work import publish, work_folder
from stages.paths import ATTRIBUTES, BALANCED, LABELS, REAL, SYNTHETIC

# How each complement was judged: what is kept of that beside the manifest.
JUDGED_COLUMNS = [
    "id", "source", "pair_id", "flips", "group", "target_kept", "protected_flipped", "hyperplane_target_kept",
    "hyperplane_flipped", "move_length", "confidence", "kept",
]  # fmt: skip


def labelled_rows(source: str) -> pd.DataFrame:
    """The rows of a synthetic store with their scores and labels, joined by id."""
    rows = Store(SYNTHETIC / source).rows.drop(columns=["shard", "row"])
    labels = Store(LABELS / source).rows.drop(columns=["shard", "row"])
    return join_by_id(rows, labels, str(LABELS / source))


def labeller_accuracies(source: str, parameters: AllParameters) -> NDArray[np.float64]:
    """How often the target of a source's originals is right, by group; NaN where none can say."""
    n_groups = 2 * parameters.n_protected
    if source == "real_prime":
        return np.ones(n_groups)  # the labels of real images are the truth
    metrics = json.loads((ATTRIBUTES / parameters.target / "metrics.json").read_text())
    found = [metrics[f"group_{group}_accuracy"] for group in range(n_groups)]
    return np.array([np.nan if accuracy is None else accuracy for accuracy in found])


def by_group(counts: "np.ndarray[Any, np.dtype[np.int_]]") -> dict[str, int]:
    """Counts [n_groups] under the groups' keys."""
    return {f"group_{group}": int(count) for group, count in enumerate(counts)}


def summary_of(rows: pd.DataFrame, n_protected: int) -> dict[str, Any]:
    """The size, the group counts, and both KL divergences (nats) of a set's training rows."""
    counts = counts_of(rows, n_protected)
    return {
        "images": len(rows),
        "group_counts": by_group(counts),
        "kl_joint": kl_joint(counts),
        "kl_uniform": kl_uniform(counts),
    }


def main() -> None:
    """Join real images and pairs into one manifest, the control `sampled` into another, and describe them."""
    parameters = read_parameters()
    section, names, n_protected = parameters.balance, parameters.attributes, parameters.n_protected
    sources = ("z", *section.complements)
    stores = {source: str(SYNTHETIC / source) for source in sources}
    labels = read_table(REAL / "labels.parquet", ("id", "split", *names))
    real = real_rows(labels, names, str(REAL))
    z = labelled_rows("z")

    judged, kept, about = {}, {}, {}
    for source in section.complements:
        originals = z if source == "z_prime" else labels
        accuracies = labeller_accuracies(source, parameters)
        table = judged_complements(labelled_rows(source), originals, names, section.label, accuracies)
        passed = passed_gates(table, section.gates)
        judged[source], kept[source] = table, kept_by(passed, len(table))
        about[source] = {
            "images": len(table),
            "kept": int(kept[source].sum()),
            "dropped": dropped_counts(table, passed, 2 * n_protected),
            **shares_of(table, names),
        }
    candidates = candidates_of(z, judged, kept, names, section.sources, section.dropped, stores)
    manifest = manifest_of(real, candidates, section.policy, n_protected, section.seed)
    training = manifest[manifest["split"] == "train"]
    synthetic = training[training["source"] != "real"]
    complements = pd.concat(
        [table.assign(source=source, kept=kept[source]) for source, table in judged.items()],
        ignore_index=True,
    )

    quota = counts_of(synthetic, n_protected)
    plain = synthetic_rows(with_groups(z, names).assign(pair_id=z["id"]), names, "z", stores["z"])
    sampled = sampled_manifest_of(real, plain, quota, n_protected, section.seed)
    distinct = sampled[sampled["source"] == "z"].drop_duplicates("id")

    overall = shares_of(complements, names)
    groups = group_names(parameters.target, parameters.protected)
    datasheet: dict[str, Any] = {
        "attributes": {"target": parameters.target, "protected": parameters.protected},
        "groups": {f"group_{group}": name for group, name in enumerate(groups)},
        **section.model_dump(exclude={"seed"}),
        "before": summary_of(training[training["source"] == "real"], n_protected),
        "after": summary_of(training, n_protected),
        "synthetic": summary_of(synthetic, n_protected),
        "sampled": {
            **summary_of(sampled[sampled["split"] == "train"], n_protected),
            "quota": by_group(quota),
            "distinct": by_group(counts_of(distinct, n_protected)),
        },
        # What the classifiers say of the complements: the inherited labels assume that both are 1.
        "target_kept": overall["target_kept"],
        "protected_flipped": overall["protected_flipped"],
        "complements": about,
    }
    inputs = [REAL, ATTRIBUTES, *(folder / source for folder in (SYNTHETIC, LABELS) for source in sources)]
    work = work_folder("balance", inputs, [names, section.model_dump()])
    write_table(work / "manifest.parquet", manifest)
    write_table(work / "sampled.parquet", sampled)
    write_table(work / "complements.parquet", complements[JUDGED_COLUMNS])
    write_json(work / "datasheet.json", datasheet)
    publish(work, BALANCED)
    print(f"balance: {len(synthetic):,} synthetic images join {datasheet['before']['images']:,} real ones")


if __name__ == "__main__":
    run_stage(main)
