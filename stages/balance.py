"""balance: real and synthetic images with their labels -> out/balanced/: manifest and datasheet."""

from typing import Any

import pandas as pd

from classifiers.metrics import kl_joint, kl_uniform
from data.balancing import SYNTHETIC_SOURCES, candidates_of, counts_of, manifest_of, real_rows
from pipeline.parameters import AllParameters, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, join_by_id, read_table, write_json, write_table
from pipeline.work import publish, work_folder
from stages.paths import BALANCED, LABELS, REAL, SYNTHETIC


def labelled_rows(source: str, parameters: AllParameters) -> pd.DataFrame:
    """The rows of a synthetic store with their scores and labels, joined by id."""
    rows = Store(SYNTHETIC / source).rows.drop(columns=["shard", "row"])
    labels = Store(LABELS / source).rows.drop(columns=["shard", "row"])
    return join_by_id(rows, labels, str(LABELS / source))


def summary_of(rows: pd.DataFrame) -> dict[str, Any]:
    """The size, the group counts, and both KL divergences (nats) of a set's training rows."""
    counts = counts_of(rows)
    return {
        "images": len(rows),
        "group_counts": {f"group_{group}": int(count) for group, count in enumerate(counts)},
        "kl_joint": kl_joint(counts),
        "kl_uniform": kl_uniform(counts),
    }


def main() -> None:
    """Join real images and pairs into one manifest, and describe it."""
    parameters = read_parameters()
    section = parameters.balance
    names = (parameters.target, parameters.protected)
    real = real_rows(read_table(REAL / "labels.parquet"), *names, str(REAL))
    z, z_prime = (labelled_rows(source, parameters) for source in SYNTHETIC_SOURCES)
    stores = {source: str(SYNTHETIC / source) for source in SYNTHETIC_SOURCES}
    candidates = candidates_of(z, z_prime, *names, section.label, stores)
    manifest = manifest_of(real, candidates, section.policy, section.seed)

    training = manifest[manifest["split"] == "train"]
    synthetic = training[training["source"] != "real"]
    primes = z_prime.rename(columns={"id": "own_id", "pair_id": "id"})
    both = join_by_id(primes, z[["id", *names]].rename(columns={n: f"z_{n}" for n in names}), "z")
    datasheet: dict[str, Any] = {
        "attributes": {"target": names[0], "protected": names[1]},
        "groups": {f"group_{2 * t + g}": f"{names[0]}={t}, {names[1]}={g}" for t in (0, 1) for g in (0, 1)},
        "policy": section.policy,
        "label": section.label,
        "before": summary_of(training[training["source"] == "real"]),
        "after": summary_of(training),
        "synthetic": summary_of(synthetic),
        # What the classifiers say of the complements: the inherited labels assume that both are 1.
        "target_kept": float((both[names[0]] == both[f"z_{names[0]}"]).mean()),
        "protected_flipped": float((both[names[1]] != both[f"z_{names[1]}"]).mean()),
    }
    inputs = [REAL, *(folder / source for folder in (SYNTHETIC, LABELS) for source in SYNTHETIC_SOURCES)]
    work = work_folder("balance", inputs, section.model_dump())
    write_table(work / "manifest.parquet", manifest)
    write_json(work / "datasheet.json", datasheet)
    publish(work, BALANCED)
    print(f"balance: {len(synthetic):,} synthetic images join {datasheet['before']['images']:,} real ones")


if __name__ == "__main__":
    run_stage(main)
