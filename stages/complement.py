"""complement: out/latents/z and out/hyperplanes -> out/latents/z_prime/, with pair ids."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generators.complements import (
    Constraints,
    complement,
    complement_on_sphere,
    condition_number,
    constraints_of,
)
from generators.hyperplanes import Hyperplane, load_hyperplanes
from generators.latents import to_sphere
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.parameters import read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, commit_shard, finish_store, write_json
from pipeline.work import publish, work_folder
from stages.paths import HYPERPLANES, LATENTS

# Lengths of moves are counted in bins, so that any number of latents takes the same memory.
LENGTHS = np.linspace(0.0, 64.0, 6401)


def new_complementer(
    constraints: Constraints,
    protected: Hyperplane,
    covariance: NDArray[np.float64] | None,
    on_sphere: bool,
    work: Path,
) -> MakeShard:
    """What moves the latents to pair of a shard; the shard of their complements has the same number."""
    store = Store(LATENTS / "z")

    def make(shard: int, advance: Advancing) -> Record:
        start, stop = store.bounds(shard)
        rows = store.rows_between(start, stop)
        to_pair = (rows["part"] == "pair").to_numpy()
        z = store.read_between(start, stop)[to_pair]
        if on_sphere:
            z = to_sphere(z)
            moved = complement_on_sphere(z, constraints)
        else:
            moved = complement(z, constraints, covariance)
        paired = rows[to_pair][["id"]].rename(columns={"id": "pair_id"})
        paired.insert(0, "id", "z_prime-" + paired["pair_id"].str.removeprefix("z-"))
        paired["move_length"] = np.linalg.norm(moved - z, axis=1)
        # A generator that normalises its input renders the projection: its side is what is seen.
        sides = (protected.distance(to_sphere(latents)) > 0 for latents in (z, moved))
        paired["flipped"] = np.not_equal(*sides)
        return commit_shard(work, shard, paired, "latents", moved)

    return make


def metrics_of(store: Store, constraints: Constraints) -> dict[str, float]:
    """How far the latents moved (to 0.01), and how many changed the side that a normalised input shows."""
    counts, flipped = np.zeros(len(LENGTHS) - 1, dtype=np.int64), 0
    for shard in range(len(store.items_per_shard)):
        rows = store.rows_between(*store.bounds(shard))
        if len(rows):
            counts += np.histogram(rows["move_length"].clip(upper=LENGTHS[-1]), LENGTHS)[0]
            flipped += int(rows["flipped"].sum())
    below = np.cumsum(counts) / counts.sum()
    return {
        "condition_number": condition_number(constraints),
        "move_length_median": float(LENGTHS[1:][np.searchsorted(below, 0.5)]),
        "move_length_95th_percentile": float(LENGTHS[1:][np.searchsorted(below, 0.95)]),
        "flipped_on_sphere": flipped / len(store),
    }


def main() -> None:
    """Move each latent to pair to its complement; the complement's pair_id is the latent's id."""
    parameters = read_parameters()
    section = parameters.complement
    on_sphere = parameters.latent_space == "sphere"
    planes = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    target, protected = planes[parameters.target], planes[parameters.protected]
    constraints = constraints_of(section.variant, target, [protected])
    store = Store(LATENTS / "z")
    covariance = None
    if section.metric == "mahalanobis":
        fitted = store.rows_where("part", ["fit"])["position"].to_numpy()
        covariance = np.cov(store.read(fitted), rowvar=False)

    settings = [section.model_dump(), parameters.latent_space]
    work = work_folder("complement", [LATENTS / "z", HYPERPLANES], settings)
    set_up = partial(new_complementer, constraints, protected, covariance, on_sphere, work)
    sizes = store.items_per_shard
    make_shards("complement", work, sizes, set_up, parameters.cluster, unit="latents")
    finish_store(work, len(sizes), "latents", store.item_shape, "float32")
    metrics = metrics_of(Store(work), constraints)
    write_json(work / "metrics.json", metrics)
    print(f"complement: median move {metrics['move_length_median']:.2f}")
    publish(work, LATENTS / "z_prime")


if __name__ == "__main__":
    run_stage(main)
