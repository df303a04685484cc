"""invert real: find the latents of real training images; writes out/latents/real/.

An encoder is trained first and its latents are refined. metrics.json says how closely the generator
reconstructs the images from their latents. The encoder's state and the finished shards of an interrupted run
are kept.
"""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from accelerate import Accelerator
from numpy.typing import NDArray

from generators.inversion.encoders import Encoder, load_encoder, train_encoder
from generators.inversion.latents import Inversion, invert, latent_distances, refuse_without_gradients
from generators.inversion.parameters import Invert
from generators.latents import sample_latents, to_sphere
from generators.networks.cards import read_card
from generators.networks.loading import LoadedGenerator, load_generator
from generators.synthesis import render
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.checkpoints import CHECKPOINT
from pipeline.content.pictures import save_grid
from pipeline.content.resumable import Session
from pipeline.content.seeds import generator_for
from pipeline.content.stores import Store, commit_shard, finish_store, shard_sizes
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.inputs import real_images
from stages.shared.inversion import (
    Errors,
    ErrorsOfKnown,
    InversionMetrics,
    InvertedGenerated,
    InvertedReal,
)
from stages.shared.paths import GENERATOR, LATENTS, REAL

GENERATED = 256  # images of the generator itself, with known latents, to measure with
COLUMNS = 16  # of samples.png


def chosen_images(groups: NDArray[np.int64], per_group: int | None, seed: int) -> NDArray[np.int64]:
    """Choose at most `per_group` images of each group; a smaller choice is a subset of a larger one.

    Args:
        groups: of each image, [n].
        per_group: images; None chooses all.
        seed: of the random choice.

    Returns:
        the positions of the chosen images, in ascending order.
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = [
        positions[generator_for(seed, "inverted", int(groups[positions[0]])).permutation(len(positions))]
        for positions in members
    ]
    return np.sort(np.concatenate([positions[:per_group] for positions in drawn]))


def new_inverter(
    ids: NDArray[np.object_], normalises: bool, section: Invert, runtime: Runtime, work: Path
) -> MakeShard:
    """Return the function that inverts a shard of real images, with generator and encoder on the device.

    Args:
        ids: of the images to invert, in the order of the shards.
        normalises: whether the generator projects its input to the sphere.
        section: `invert` of params.yaml.
        runtime: the device and its precision.
        work: the folder of the shards; it has the trained encoder.

    Returns:
        makes a shard, by its number.
    """
    accelerator = new_accelerator(runtime)
    generator = load_generator(GENERATOR, accelerator.device)
    encoder = load_encoder(work / CHECKPOINT, generator, section.encoder, accelerator)
    store = Store(REAL)
    device = Lock()

    def make(shard: int, advance: Advancing) -> Record:
        real_ids = ids[shard * section.shard_size : (shard + 1) * section.shard_size]
        images = store.read(store.positions(real_ids))
        with device:
            encoded, refined = invert(generator, encoder, normalises, images, section, accelerator, advance)
        rows = pd.DataFrame({"id": "inverted-" + pd.Series(real_ids), "real_id": real_ids})
        rows = rows.assign(error=refined.error, psnr=refined.psnr)
        rows = rows.assign(encoder_error=encoded.error, encoder_psnr=encoded.psnr)
        return commit_shard(work, shard, rows, "latents", refined.latents)

    return make


def figures_of(error: NDArray[np.float64], psnr: NDArray[np.float64]) -> Errors:
    """Summarise the errors of reconstructions: errors [n] on the scale 0 to 255, PSNR [n] in dB."""
    return Errors(
        error_mean=float(error.mean()),
        error_median=float(np.median(error)),
        psnr_median=float(np.median(psnr)),
    )


def figures_of_generated(
    generator: LoadedGenerator,
    encoder: Encoder,
    normalises: bool,
    section: Invert,
    accelerator: Accelerator,
) -> InvertedGenerated:
    """Invert images of the generator itself, whose latents are known, and measure the result.

    Args:
        generator: renders the images.
        encoder: the trained encoder.
        normalises: whether the generator projects its input to the sphere.
        section: `invert` of params.yaml.
        accelerator: runs the networks.

    Returns:
        the part `generated` of metrics.json.
    """
    latents = sample_latents(section.seed, "inverted", 0, GENERATED, generator.latent_dim)
    images = render(generator, latents, section.batch_size, accelerator)
    true = to_sphere(latents) if normalises else latents

    def figures(inversion: Inversion) -> ErrorsOfKnown:
        errors = figures_of(inversion.error, inversion.psnr)
        distance = float(np.median(latent_distances(inversion.latents, true)))
        return ErrorsOfKnown(**errors.model_dump(), distance_median=distance)

    encoded, refined = invert(generator, encoder, normalises, images, section, accelerator)
    return InvertedGenerated(images=GENERATED, encoder=figures(encoded), refined=figures(refined))


def sample_rows(
    images: NDArray[np.uint8], reconstructions: NDArray[np.uint8], groups: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Lay out some images of each group in a row, and their reconstructions in the row below.

    Args:
        images: [n, H, W, 3].
        reconstructions: [n, H, W, 3].
        groups: of each image, [n].

    Returns:
        `COLUMNS` pictures for each row, [2 groups * COLUMNS, H, W, 3]; white where a group has fewer images.
    """
    rows = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)[:COLUMNS]
        for pictures in (images, reconstructions):
            row = np.full((COLUMNS, *images.shape[1:]), 255, np.uint8)
            row[: len(members)] = pictures[members]
            rows.append(row)
    return np.concatenate(rows)


def main(images: Annotated[str, typer.Argument(help="real")]) -> None:
    """Find the latents of real training images, to be complemented as sampled ones are."""
    if images != "real":
        raise UserError(f"{images!r} cannot be inverted: expected real.")
    parameters = read_parameters()
    section, runtime = parameters.invert, parameters.runtime
    training = real_images(parameters, "train", Store(REAL))
    chosen = chosen_images(training.groups, section.per_group, section.seed)
    ids, groups = training.ids[chosen], training.groups[chosen]
    normalises = read_card(GENERATOR).normalises_latents
    accelerator = new_accelerator(runtime)
    generator = load_generator(GENERATOR, accelerator.device)
    refuse_another_resolution(generator, training.read(chosen[:1]))
    refuse_without_gradients(generator, accelerator.device)

    work = work_folder("invert real")
    session = Session(
        "invert, the encoder", accelerator, work.folder / CHECKPOINT, runtime.checkpoint_seconds
    )
    encoder = train_encoder(session, generator, normalises, section.encoder, section.seed)
    sizes = shard_sizes(len(ids), section.shard_size)
    set_up = partial(new_inverter, ids, normalises, section, runtime, work.folder)
    records = make_shards("invert real", work.folder, sizes, set_up, parameters.cluster, runtime=runtime)
    generated = figures_of_generated(generator, encoder, normalises, section, accelerator)

    (work.folder / CHECKPOINT).unlink()
    finish_store(work.folder, len(sizes), "latents", (generator.latent_dim,), "float32", records=records)
    store = Store(work.folder)
    rows = store.rows
    encoded = figures_of(rows["encoder_error"].to_numpy(), rows["encoder_psnr"].to_numpy())
    refined = figures_of(rows["error"].to_numpy(), rows["psnr"].to_numpy())
    real = InvertedReal(images=len(rows), encoder=encoded, refined=refined)
    InversionMetrics(real=real, generated=generated).write(work.folder / "metrics.json")
    shown = np.concatenate([np.flatnonzero(groups == group)[:COLUMNS] for group in np.unique(groups)])
    reconstructions = render(generator, store.read(shown), section.batch_size, accelerator)
    pictures = sample_rows(training.read(chosen[shown]), reconstructions, groups[shown])
    save_grid(work.folder / "samples.png", pictures, COLUMNS)
    print(
        f"invert real: {len(rows)} images, with pixels off by {refined.error_mean:.1f} of 255 "
        f"(mean; by the encoder alone {encoded.error_mean:.1f})"
    )
    work.publish(LATENTS / "real")


def refuse_another_resolution(generator: LoadedGenerator, image: NDArray[np.uint8]) -> None:
    """Check that real and generated images have the same size.

    Args:
        generator: makes square images.
        image: a real image, [H, W, 3].

    Raises:
        UserError: they differ in size.
    """
    if image.shape[1] != generator.resolution:
        raise UserError(
            f"real images have {image.shape[1]} px and the generator's {generator.resolution} px: to invert "
            "real images, make prepare.resolution the generator's."
        )


if __name__ == "__main__":
    run_stage(main)
