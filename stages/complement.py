"""complement LATENTS: move latents across hyperplanes; writes out/latents/LATENTS_prime/ with pair ids."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

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
from pipeline.content.groups import protected_groups
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.tables import join_by_id
from pipeline.errors import UserError
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.moves import Moves, MovesOfFlips
from stages.shared.paths import GENERATOR, HYPERPLANES, LABELS, LATENTS
from stages.shared.refining import RefineComplements, new_refiner, original_labels

# Bins of move lengths: counts take the same memory for any number of latents.
LENGTHS = np.linspace(0.0, 64.0, 6401)


@dataclass(frozen=True)
class FirstOfEachGroup:
    """Chooses the first `per_group` latents to pair of every group, as the attribute classifiers label z.

    A shard needs only its own labels and the group counts of the shards before it: memory does not grow with
    the number of latents.

    Attributes:
        attributes: the target, then the protected attributes; their labels define the groups.
        per_group: how many latents to pair are chosen from each group.
        before: for each shard, the number of latents to pair in earlier shards, by group: [shards, groups].
    """

    attributes: list[str]
    per_group: int
    before: NDArray[np.int64]

    def among(self, rows: pd.DataFrame, shard: int, start: int) -> NDArray[np.bool_]:
        """Return which latents of a shard are chosen to be paired.

        Args:
            rows: the rows of the shard, [n].
            shard: its number.
            start: the position of its first row in the store.

        Returns:
            a mask of the rows, [n].
        """
        to_pair = (rows["part"] == "pair").to_numpy(copy=True)
        groups = groups_of_latents(rows, start, self.attributes)[to_pair]
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
        groups = groups_of_latents(rows, start, attributes)[(rows["part"] == "pair").to_numpy()]
        counts[shard + 1] = np.bincount(groups, minlength=counts.shape[1])
    return FirstOfEachGroup(attributes, per_group, counts.cumsum(axis=0)[:-1])


def groups_of_latents(rows: pd.DataFrame, start: int, attributes: list[str]) -> NDArray[np.int64]:
    """Return the group of each row, [n], by the attribute classifiers' labels of z.

    Labels stand in the order of the latents, so only the labels of these rows are read.

    Args:
        rows: the rows of z from position `start` on.
        start: the position of the first row in the store.
        attributes: the target, then the protected attributes.
    """
    labels = Store(LABELS / "z").rows_between(start, start + len(rows))
    joined = join_by_id(rows[["id"]], labels[["id", *attributes]], "labels of z")
    return protected_groups(joined[attributes].to_numpy(np.int64))[0]


def originals_of(
    latents: str, rows: pd.DataFrame, shard: int, start: int, chosen: FirstOfEachGroup | None
) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Return which latents of a shard get complements, and the ids of these complements.

    Of z, the latents to pair get complements; of inverted real images, all latents do.

    Args:
        latents: "z" or "real".
        rows: the rows of the shard, [n].
        shard: its number.
        start: the position of its first row in the store.
        chosen: picks those of z's latents to pair that are paired; None pairs all of them.

    Returns:
        a mask of the rows, [n]; and a table with `id` (of the complement) and `pair_id`: the id of the latent
        z, or of the real image.
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
    refiner: Callable[[], RefineComplements] | None,
    work: Path,
) -> MakeShard:
    """Return the function that moves a shard's latents, once per flip, into the shard of the same number.

    Args:
        latents: "z" or "real".
        flips: the subsets of protected attributes to flip, each with its constraints by domain.
        planes: of the target and of the protected attributes.
        covariance: of the latents, [D, D], for moves by Mahalanobis distance; None for Euclidean distance.
        on_sphere: whether latents and complements lie on the sphere of radius √D.
        normalises: whether the generator projects its input to this sphere.
        chosen: picks those of z's latents to pair that are paired; None pairs all of them.
        refiner: returns the function that refines linear complements; None leaves them as they are.
        work: the folder of the shards.

    Returns:
        makes a shard, by its number.
    """
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
        # A generator that normalises its input renders the projection, so the projection's side counts.
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


def metrics_of(store: Store, flips: list[Flip]) -> Moves:
    """Summarise how far the latents moved, and how many complements are rendered in the intended domain.

    Args:
        store: the complements.
        flips: the subsets of protected attributes that were flipped.

    Returns:
        the content of metrics.json. As rendered means: on the sphere if the generator normalises its input.
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

    by_flips: dict[str, MovesOfFlips] = {}
    for flip, counts, count in zip(flips, lengths, flipped, strict=True):
        angles = [angle for of in flip.by_domain if (angle := angle_to_what_is_kept(of)) is not None]
        by_flips[flip.name] = MovesOfFlips(
            complements=int(counts.sum()),
            condition_number=max(map(condition_number, flip.by_domain)),
            angle_degrees=min(angles, default=None),
            **moves(counts, int(count)),
        )
    return Moves(
        condition_number=max(condition_number(of) for flip in flips for of in flip.by_domain),
        **moves(lengths.sum(axis=0), int(flipped.sum())),
        by_flips=by_flips,
    )


def main(latents: Annotated[str, typer.Argument(help="z or real")]) -> None:
    """Move each latent to its complements; their pair_id is the id of the latent or of the real image."""
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
    normalises = read_card(GENERATOR).normalises_latents
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
    runtime = parameters.runtime if section.refine.steps else None  # linear complements need no device
    records = make_shards(
        stage, work.folder, sizes, set_up, parameters.cluster, unit="latents", runtime=runtime
    )
    finish_store(work.folder, len(sizes), "latents", store.item_shape, "float32", records=records)
    metrics = metrics_of(Store(work.folder), flips)
    metrics.write(work.folder / "metrics.json")
    print(f"{stage}: median move {metrics.move_length_median:.2f}")
    work.publish(LATENTS / f"{latents}_prime")


if __name__ == "__main__":
    run_stage(main)
