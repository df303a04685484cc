"""invert real: real training images and the generator -> out/latents/real/: their latents, and how near
the images are that the generator makes of those.
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
from pipeline.content.files import write_json
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
from stages.shared.paths import GENERATOR, LATENTS, REAL

GENERATED = 256  # the generator's own images, whose latents are known, to measure with
COLUMNS = 16  # of samples.png

Figures = dict[str, float]


def chosen_images(groups: NDArray[np.int64], per_group: int | None, seed: int) -> NDArray[np.int64]:
    """The positions of at most `per_group` images of each group, in their order; of a smaller number the
    images are among those of a larger one.
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
    """What inverts the real images of a shard, with the generator and the encoder on the device."""
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


def figures_of(error: NDArray[np.float64], psnr: NDArray[np.float64]) -> Figures:
    """How near reconstructions are: errors [n] of 255, PSNR [n] in dB."""
    return {
        "error_mean": float(error.mean()),
        "error_median": float(np.median(error)),
        "psnr_median": float(np.median(psnr)),
    }


def figures_of_generated(
    generator: LoadedGenerator,
    encoder: Encoder,
    normalises: bool,
    section: Invert,
    accelerator: Accelerator,
) -> dict[str, int | Figures]:
    """The same of the generator's own images, and how far their latents are from the true ones.

    `distance_median` is a share of √(2 D), what two random latents are apart.
    """
    latents = sample_latents(section.seed, "inverted", 0, GENERATED, generator.latent_dim)
    images = render(generator, latents, section.batch_size, accelerator)
    true = to_sphere(latents) if normalises else latents

    def figures(inversion: Inversion) -> Figures:
        distances = latent_distances(inversion.latents, true)
        return {
            **figures_of(inversion.error, inversion.psnr),
            "distance_median": float(np.median(distances)),
        }

    encoded, refined = invert(generator, encoder, normalises, images, section, accelerator)
    return {"images": GENERATED, "encoder": figures(encoded), "refined": figures(refined)}


def sample_rows(
    images: NDArray[np.uint8], reconstructions: NDArray[np.uint8], groups: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Two rows for each group: some of its images [n, H, W, 3], and their reconstructions below them."""
    rows = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)[:COLUMNS]
        for pictures in (images, reconstructions):
            row = np.full((COLUMNS, *images.shape[1:]), 255, np.uint8)
            row[: len(members)] = pictures[members]
            rows.append(row)
    return np.concatenate(rows)


def main(images: Annotated[str, typer.Argument(help="real")]) -> None:
    """Find the latents of real training images, to be complemented as sampled ones are.

    The encoder is trained first; its state and finished shards of an interrupted run are kept.
    """
    if images != "real":
        raise UserError(f"{images!r} cannot be inverted: real is what can.")
    parameters = read_parameters()
    section, runtime = parameters.invert, parameters.runtime
    training = real_images(parameters, "train", Store(REAL))
    chosen = chosen_images(training.groups, section.per_group, section.seed)
    ids, groups = training.ids[chosen], training.groups[chosen]
    normalises = bool(read_card(GENERATOR)["normalises_latents"])
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
    real = {"images": len(rows), "encoder": encoded, "refined": refined}
    write_json(work.folder / "metrics.json", {"real": real, "generated": generated})
    shown = np.concatenate([np.flatnonzero(groups == group)[:COLUMNS] for group in np.unique(groups)])
    reconstructions = render(generator, store.read(shown), section.batch_size, accelerator)
    pictures = sample_rows(training.read(chosen[shown]), reconstructions, groups[shown])
    save_grid(work.folder / "samples.png", pictures, COLUMNS)
    print(
        f"invert real: {len(rows)} images, with pixels off by {refined['error_mean']:.1f} of 255 "
        f"(mean; by the encoder alone {encoded['error_mean']:.1f})"
    )
    work.publish(LATENTS / "real")


def refuse_another_resolution(generator: LoadedGenerator, image: NDArray[np.uint8]) -> None:
    """Raises `UserError` where real and generated images are not of one size."""
    if image.shape[1] != generator.resolution:
        raise UserError(
            f"real images have {image.shape[1]} px and the generator's {generator.resolution} px: to invert "
            "real images, make prepare.resolution the generator's."
        )


if __name__ == "__main__":
    run_stage(main)
