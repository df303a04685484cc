"""complement LATENTS: out/latents/LATENTS, out/hyperplanes -> out/latents/LATENTS_prime/, with pair ids."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from generators.complements import (
    Flip,
    angle_to_what_is_kept,
    complement_by_domain,
    condition_number,
    require_independent,
    subset_flips,
)
from generators.hyperplanes import Planes, load_hyperplanes, planes_of
from generators.latents import to_sphere
from generators.networks.cards import read_card
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.files import write_json
from pipeline.content.groups import protected_groups
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.tables import join_by_id
from pipeline.errors import UserError
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.paths import GENERATOR, HYPERPLANES, LABELS, LATENTS
from stages.shared.refining import Refine, new_refiner, original_labels

# Lengths of moves are counted in bins, so that any number of latents takes the same memory.
LENGTHS = np.linspace(0.0, 64.0, 6401)


@dataclass(frozen=True)
class FirstOfEachGroup:
    """Chooses, of z's latents to pair, the first `per_group` of every group that the classifiers see.

    A shard's own labels and the numbers before it say which: memory does not grow with the latents.

    Attributes:
        attributes: whose labels make the groups: the target, then the protected ones.
        before: how many latents to pair of each group stand before each shard, [shards, groups].
    """

    attributes: list[str]
    per_group: int
    before: NDArray[np.int64]

    def among(self, rows: pd.DataFrame, shard: int, start: int) -> NDArray[np.bool_]:
        """Which of a shard's latents to pair are chosen, [n]; the shard's first stands at `start`."""
        to_pair = (rows["part"] == "pair").to_numpy(copy=True)
        groups = groups_of(rows, start, self.attributes)[to_pair]
        places = self.before[shard][groups] + pd.Series(groups).groupby(groups).cumcount().to_numpy()
        to_pair[to_pair] = places < self.per_group
        return to_pair


def first_of_each_group(attributes: list[str], per_group: int) -> FirstOfEachGroup:
    """Count the latents of z to pair in every group, shard by shard, to choose the first of each."""
    store = Store(LATENTS / "z")
    counts = np.zeros((len(store.items_per_shard) + 1, 2 ** len(attributes)), dtype=np.int64)
    for shard in range(len(store.items_per_shard)):
        start, stop = store.bounds(shard)
        rows = store.rows_between(start, stop)
        groups = groups_of(rows, start, attributes)[(rows["part"] == "pair").to_numpy()]
        counts[shard + 1] = np.bincount(groups, minlength=counts.shape[1])
    return FirstOfEachGroup(attributes, per_group, counts.cumsum(axis=0)[:-1])


def groups_of(rows: pd.DataFrame, start: int, attributes: list[str]) -> NDArray[np.int64]:
    """The groups [n] that the classifiers see latents of z in; `rows` are theirs from position `start` on.

    Labels stand in the order of the latents, so that no others need be read.
    """
    labels = Store(LABELS / "z").rows_between(start, start + len(rows))
    joined = join_by_id(rows[["id"]], labels[["id", *attributes]], "labels of z")
    return protected_groups(joined[attributes].to_numpy(np.int64))[0]


def originals_of(
    latents: str, rows: pd.DataFrame, shard: int, start: int, chosen: FirstOfEachGroup | None
) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Which of a shard's latents have complements, [n], and those complements' `id` and `pair_id`.

    Of z those to pair, by their own ids; of inverted real images all, by the ids of the images.

    Args:
        rows: the shard's, the first of which stands at position `start`.
        chosen: where only some of z's latents to pair are to be paired; None: all.
    """
    if latents == "real":
        return np.ones(len(rows), dtype=bool), pd.DataFrame({
            "id": "real_prime-" + rows["real_id"], "pair_id": rows["real_id"],
        })  # fmt: skip
    to_pair = (rows["part"] == "pair").to_numpy() if chosen is None else chosen.among(rows, shard, start)
    ids = rows["id"][to_pair]
    return to_pair, pd.DataFrame({"id": "z_prime-" + ids.str.removeprefix("z-"), "pair_id": ids})


def new_complementer(
    latents: str,
    flips: list[Flip],
    planes: Planes,
    covariance: NDArray[np.float64] | None,
    on_sphere: bool,
    normalises: bool,
    chosen: FirstOfEachGroup | None,
    refiner: Callable[[], Refine] | None,
    work: Path,
) -> MakeShard:
    """What moves the latents of a shard, for one flip after another, to a shard of the same number."""
    store = Store(LATENTS / latents)
    digits = len(planes.protected)
    attributes = [planes.target.attribute, *(plane.attribute for plane in planes.protected)]
    refine = refiner() if refiner is not None else None

    def make(shard: int, advance: Advancing) -> Record:
        start, stop = store.bounds(shard)
        to_pair, ids = originals_of(latents, store.rows_between(start, stop), shard, start, chosen)
        z = store.read_between(start, stop)[to_pair]
        if on_sphere:
            z = to_sphere(z)
        own_domains = planes.domains_of(z)
        # A generator that normalises its input renders the projection: its side is what is seen.
        rendered = to_sphere(z) if normalises and not on_sphere else z
        seen, seen_target = planes.domains_of(rendered), planes.target_sides_of(rendered)
        moved = np.empty((len(flips), *z.shape), dtype=np.float32)
        if refine is not None:
            labels = original_labels(latents, ids["pair_id"], attributes, start, stop)
        rows = []
        for flip, z_prime in zip(flips, moved, strict=True):
            complement_by_domain(z, own_domains, flip, covariance, on_sphere, out=z_prime)
            if refine is not None:
                z_prime[:] = refine(z_prime, labels, flip.mask, advance)
            landed = to_sphere(z_prime) if normalises else z_prime
            suffix = f"-{flip.mask:0{digits}b}" if len(flips) > 1 else ""
            rows.append(
                ids.assign(
                    id=ids["id"] + suffix,
                    flips=flip.name,
                    move_length=np.linalg.norm(z_prime - z, axis=1),
                    flipped=planes.domains_of(landed) == (seen ^ flip.mask),
                    target_stayed=planes.target_sides_of(landed) == seen_target,
                )
            )
        complements = pd.concat(rows, ignore_index=True)
        return commit_shard(work, shard, complements, "latents", moved.reshape(-1, z.shape[1]))

    return make


def metrics_of(store: Store, flips: list[Flip]) -> dict[str, Any]:
    """How far the latents moved (to 0.01), and how many the generator renders where they should be.

    Of all complements and, under `by_flips`, of each subset; W's condition number and θ: the worst domain's.
    `flipped_on_sphere` is of what it renders: on the sphere where it normalises its input.
    """
    lengths = np.zeros((len(flips), len(LENGTHS) - 1), dtype=np.int64)
    flipped = np.zeros(len(flips), dtype=np.int64)
    for shard in range(len(store.items_per_shard)):
        rows = store.rows_between(*store.bounds(shard))
        for place, flip in enumerate(flips):
            of_flip = rows[rows["flips"] == flip.name] if len(rows) else rows
            if len(of_flip):
                lengths[place] += np.histogram(of_flip["move_length"].clip(upper=LENGTHS[-1]), LENGTHS)[0]
                flipped[place] += int(of_flip["flipped"].sum())

    def moves(counts: NDArray[np.int64], flipped: int) -> dict[str, float]:
        below = np.cumsum(counts) / counts.sum()
        return {
            "move_length_median": float(LENGTHS[1:][np.searchsorted(below, 0.5)]),
            "move_length_95th_percentile": float(LENGTHS[1:][np.searchsorted(below, 0.95)]),
            "flipped_on_sphere": flipped / int(counts.sum()),
        }

    by_flips: dict[str, dict[str, float | None]] = {}
    for flip, counts, count in zip(flips, lengths, flipped, strict=True):
        angles = [angle for of in flip.by_domain if (angle := angle_to_what_is_kept(of)) is not None]
        by_flips[flip.name] = {
            "complements": int(counts.sum()),
            "condition_number": max(map(condition_number, flip.by_domain)),
            "angle_degrees": min(angles, default=None),
            **moves(counts, int(count)),
        }
    return {
        "condition_number": max(condition_number(of) for flip in flips for of in flip.by_domain),
        **moves(lengths.sum(axis=0), int(flipped.sum())),
        "by_flips": by_flips,
    }


def main(latents: Annotated[str, typer.Argument(help="z or real")]) -> None:
    """Move each latent to its complements; their pair_id is the latent's id, or the real image's."""
    if latents not in ("z", "real"):
        raise UserError(f"complement: there are complements of z and of real, not of {latents!r}.")
    parameters = read_parameters()
    section = parameters.complement
    on_sphere = parameters.latent_space == "sphere"
    loaded = load_hyperplanes(HYPERPLANES / "hyperplanes.json")
    planes = planes_of(loaded, parameters.target, parameters.protected)
    flips = subset_flips(section.variant, planes)
    covariance = None
    if section.metric == "mahalanobis":
        sampled = Store(LATENTS / "z")
        fitted = sampled.rows_where("part", ["fit"])["position"].to_numpy()
        covariance = np.cov(sampled.read(fitted), rowvar=False)
    for flip in flips:
        for constraints in flip.by_domain:
            require_independent(constraints, covariance)

    store = Store(LATENTS / latents)
    normalises = bool(read_card(GENERATOR)["normalises_latents"])
    stage = f"complement {latents}"
    chosen, refiner = None, None
    if section.per_group is not None and latents == "z":
        chosen = first_of_each_group(parameters.attributes, section.per_group)
    if section.refine.steps:
        refiner = partial(new_refiner, parameters)
    work = work_folder(stage)
    set_up = partial(
        new_complementer,
        latents,
        flips,
        planes,
        covariance,
        on_sphere,
        normalises,
        chosen,
        refiner,
        work.folder,
    )
    sizes = store.items_per_shard
    runtime = parameters.runtime if section.refine.steps else None  # where the linear ones need no device
    records = make_shards(
        stage, work.folder, sizes, set_up, parameters.cluster, unit="latents", runtime=runtime
    )
    finish_store(work.folder, len(sizes), "latents", store.item_shape, "float32", records=records)
    metrics = metrics_of(Store(work.folder), flips)
    write_json(work.folder / "metrics.json", metrics)
    print(f"{stage}: median move {metrics['move_length_median']:.2f}")
    work.publish(LATENTS / f"{latents}_prime")


if __name__ == "__main__":
    run_stage(main)
