"""synthesize LATENTS: render out/latents/LATENTS with the generator; writes out/synthetic/LATENTS/."""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated

import typer

from generators.networks.cards import read_card
from generators.parameters import Synthesize
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.stores import Store, commit_shard, finish_store, shard_sizes
from pipeline.parameters import Runtime
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.paths import GENERATOR, LATENTS, SYNTHETIC


def new_renderer(latents: str, section: Synthesize, runtime: Runtime, work: Path) -> MakeShard:
    """Return the function that renders the images of a shard, with the generator on the device."""
    from generators.networks.loading import load_generator
    from generators.synthesis import render
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(runtime)
    generator = load_generator(GENERATOR, accelerator.device)
    store = Store(LATENTS / latents)
    device = Lock()

    def make(shard: int, advance: Advancing) -> Record:
        start = shard * section.shard_size
        stop = min(start + section.shard_size, len(store))
        z = store.read_between(start, stop)
        with device:
            images = render(generator, z, section.batch_size, accelerator, advance)
        return commit_shard(work, shard, store.rows_between(start, stop), "images", images)

    return make


def main(latents: Annotated[str, typer.Argument(help="z or z_prime")]) -> None:
    """Render every latent of a store; shards that an interrupted run finished are kept."""
    parameters = read_parameters()
    section = parameters.synthesize
    resolution = read_card(GENERATOR).resolution
    sizes = shard_sizes(len(Store(LATENTS / latents)), section.shard_size)
    work = work_folder(f"synthesize {latents}")
    set_up = partial(new_renderer, latents, section, parameters.runtime, work.folder)
    records = make_shards(
        f"synthesize {latents}", work.folder, sizes, set_up, parameters.cluster, runtime=parameters.runtime
    )
    finish_store(work.folder, len(sizes), "images", (resolution, resolution, 3), "uint8", records=records)
    work.publish(SYNTHETIC / latents)


if __name__ == "__main__":
    run_stage(main)
