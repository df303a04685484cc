"""sample: draw latents of the generator's size; writes out/latents/z/, each with the part that it plays."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from generators.latents import sample_latents
from generators.networks.cards import read_card
from generators.parameters import Sample
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.stores import commit_shard, finish_store, shard_sizes
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.paths import GENERATOR, LATENTS

SHARD = 65536  # latents


def new_sampler(section: Sample, latent_dim: int, sizes: list[int], work: Path) -> MakeShard:
    """Return the function that draws a shard of latents: first those to fit, then to validate, to pair."""
    ends = np.cumsum([section.fit, section.validation, section.pair])

    def make(shard: int, advance: Advancing) -> Record:
        numbers = np.arange(shard * SHARD, shard * SHARD + sizes[shard])
        latents = sample_latents(section.seed, "z", int(numbers[0]), len(numbers), latent_dim)
        parts = np.array(["fit", "validation", "pair"])[np.searchsorted(ends, numbers, side="right")]
        rows = pd.DataFrame({"id": [f"z-{number:08d}" for number in numbers], "part": parts})
        return commit_shard(work, shard, rows, "latents", latents)

    return make


def main() -> None:
    """Draw the latents to fit and to validate the hyperplanes with, and those to pair."""
    parameters = read_parameters()
    section = parameters.sample
    latent_dim = read_card(GENERATOR).latent_dim
    sizes = shard_sizes(section.fit + section.validation + section.pair, SHARD)
    work = work_folder("sample")
    set_up = partial(new_sampler, section, latent_dim, sizes, work.folder)
    records = make_shards("sample", work.folder, sizes, set_up, parameters.cluster, unit="latents")
    finish_store(work.folder, len(sizes), "latents", (latent_dim,), "float32", records=records)
    work.publish(LATENTS / "z")


if __name__ == "__main__":
    run_stage(main)
