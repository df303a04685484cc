"""synthesize LATENTS: generator and out/latents/LATENTS -> out/synthetic/LATENTS/: an image store."""

from typing import Annotated

import numpy as np
import typer

from generators.synthesis import load_generator, render
from pipeline.parameters import read_parameters
from pipeline.progress import progress
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.stores import Store, StoreWriter, write_shard
from pipeline.work import publish, work_folder
from stages.paths import GENERATOR, LATENTS, SYNTHETIC


def main(latents: Annotated[str, typer.Argument(help="z or z_prime")]) -> None:
    """Render every latent of a store; a shard that an interrupted run finished is kept."""
    parameters = read_parameters()
    section = parameters.synthesize
    accelerator = new_accelerator(parameters.runtime)
    generator = load_generator(GENERATOR, accelerator.device)
    store = Store(LATENTS / latents)
    work = work_folder("synthesize", [GENERATOR, LATENTS / latents], section.shard_size)
    shape = (generator.resolution, generator.resolution, 3)
    rows = store.rows.drop(columns=["shard", "row"])
    writer = StoreWriter(work, "images", shape, "uint8", rows, section.shard_size)
    missing = writer.missing()
    finished = len(store) - sum(len(writer.rows_of(shard)) for shard in missing)
    with progress(f"synthesize {latents}", len(store), "images", finished) as advance:
        for shard in missing:
            start = shard * section.shard_size
            positions = np.arange(start, start + len(writer.rows_of(shard)))
            images = render(generator, store.read(positions), section.batch_size, accelerator, advance)
            writer.record(shard, write_shard(work, shard, "images", images))
    writer.finish()
    publish(work, SYNTHETIC / latents)


if __name__ == "__main__":
    run_stage(main)
