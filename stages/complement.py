"""complement: out/latents/z and out/hyperplanes -> out/latents/z_prime/, with pair ids."""

import numpy as np

from generators.complements import complement, condition_number, constraints_of
from generators.hyperplanes import load_hyperplanes
from generators.latents import to_sphere
from pipeline.parameters import read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, StoreWriter, write_json, write_shard
from pipeline.work import publish, work_folder
from stages.paths import HYPERPLANES, LATENTS

SHARD = 65536  # latents


def main() -> None:
    """Move each latent to pair to its complement; the complement's pair_id is the latent's id."""
    parameters = read_parameters()
    section = parameters.complement
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    target, protected = planes[parameters.target], planes[parameters.protected]
    constraints = constraints_of(section.variant, target, [protected])
    store = Store(LATENTS / "z")
    covariance = None
    if section.metric == "mahalanobis":
        fitted = store.read(np.flatnonzero(store.rows["part"] == "fit"))
        covariance = np.cov(fitted, rowvar=False)

    paired = store.rows[store.rows["part"] == "pair"][["id"]].rename(columns={"id": "pair_id"})
    paired.insert(0, "id", "z_prime-" + paired["pair_id"].str.removeprefix("z-"))
    work = work_folder("complement", [LATENTS / "z", HYPERPLANES], section.model_dump())
    writer = StoreWriter(work, "latents", store.item_shape, "float32", paired, SHARD)
    lengths, flipped = [], []
    for shard in range(writer.shards):
        latents = store.read(store.positions(writer.rows_of(shard)["pair_id"]))
        moved = complement(latents, constraints, covariance)
        writer.record(shard, write_shard(work, shard, "latents", moved))
        lengths.append(np.linalg.norm(moved - latents, axis=1))
        # A generator that normalises its input renders the projection: its side is what is seen.
        flipped.append(
            (protected.distance(to_sphere(moved)) > 0) != (protected.distance(to_sphere(latents)) > 0)
        )
    writer.finish()
    metrics = {
        "condition_number": condition_number(constraints),
        "move_length_median": float(np.median(np.concatenate(lengths))),
        "move_length_95th_percentile": float(np.percentile(np.concatenate(lengths), 95)),
        "flipped_on_sphere": float(np.mean(np.concatenate(flipped))),
    }
    write_json(work / "metrics.json", metrics)
    print(f"complement: median move {metrics['move_length_median']:.2f}")
    publish(work, LATENTS / "z_prime")


if __name__ == "__main__":
    run_stage(main)
