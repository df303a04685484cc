"""sample: the generator's card -> out/latents/z/: latents, with the part that each plays."""

import pandas as pd

from generators.cards import CARD, read_card
from generators.latents import sample_latents
from pipeline.parameters import read_parameters
from pipeline.stage import run_stage
from pipeline.stores import StoreWriter, write_shard
from pipeline.work import publish, work_folder
from stages.paths import GENERATOR, LATENTS

SHARD = 65536  # latents


def main() -> None:
    """Draw the latents to fit and to validate the hyperplanes with, and those to pair."""
    parameters = read_parameters()
    section = parameters.sample
    latent_dim = read_card(GENERATOR)["architecture"]["latent_dim"]
    parts = ["fit"] * section.fit + ["validation"] * section.validation + ["pair"] * section.pair
    rows = pd.DataFrame({"id": [f"z-{number:08d}" for number in range(len(parts))], "part": parts})
    work = work_folder("sample", [GENERATOR / CARD], section.model_dump())
    writer = StoreWriter(work, "latents", (latent_dim,), "float32", rows, SHARD)
    for shard in writer.missing():
        start, count = shard * SHARD, len(writer.rows_of(shard))
        latents = sample_latents(section.seed, "z", start, count, latent_dim)
        writer.record(shard, write_shard(work, shard, "latents", latents))
    writer.finish()
    publish(work, LATENTS / "z")


if __name__ == "__main__":
    run_stage(main)
