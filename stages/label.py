"""label LATENTS: out/synthetic/LATENTS and the classifiers -> out/labels/LATENTS/: scores and labels."""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated

import numpy as np
import typer

from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.parameters import Label, Runtime, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, commit_shard, finish_store
from pipeline.work import publish, work_folder
from stages.paths import ATTRIBUTES, LABELS, SYNTHETIC


def new_labeller(
    latents: str, attributes: list[str], section: Label, runtime: Runtime, work: Path
) -> MakeShard:
    """What labels a shard of images, with every attribute's classifier on the device."""
    from classifiers.backbones import load_network
    from classifiers.training import predict
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(runtime)
    networks = {}
    for attribute in attributes:
        network, card = load_network(ATTRIBUTES / attribute)
        networks[attribute] = network.to(accelerator.device), card["threshold"]
    store = Store(SYNTHETIC / latents)
    device = Lock()

    def make(shard: int, advance: Advancing) -> Record:
        start, stop = store.bounds(shard)
        images = store.read_between(start, stop)
        table = store.rows_between(start, stop)[["id"]].copy()
        for attribute, (network, threshold) in networks.items():
            with device:
                scores = predict(
                    network, images.__getitem__, len(images), accelerator, section.batch_size, advance
                )
            table[f"{attribute}_score"] = scores
            table[attribute] = (scores >= threshold).astype(np.int64)
        return commit_shard(work, shard, table)

    return make


def main(latents: Annotated[str, typer.Argument(help="z or z_prime")]) -> None:
    """Score every synthetic image for every attribute; the label is the score cut at the threshold."""
    parameters = read_parameters()
    attributes, section = parameters.attributes, parameters.label
    images = SYNTHETIC / latents
    sizes = Store(images).items_per_shard
    scores = [size * len(attributes) for size in sizes]
    inputs = [images, *(ATTRIBUTES / attribute for attribute in attributes)]
    work = work_folder(f"label {latents}", inputs, attributes)
    set_up = partial(new_labeller, latents, attributes, section, parameters.runtime, work)
    make_shards(f"label {latents}", work, scores, set_up, parameters.cluster, "scores", parameters.runtime)
    finish_store(work, len(sizes))
    publish(work, LABELS / latents)


if __name__ == "__main__":
    run_stage(main)
