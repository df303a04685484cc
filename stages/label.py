"""label LATENTS: out/synthetic/LATENTS and the classifiers -> out/labels/LATENTS/: scores and labels."""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.parameters import Label, Runtime, read_parameters
from pipeline.stage import run_stage
from pipeline.stores import Store, commit_shard, finish_store
from pipeline.work import publish, work_folder
from stages.paths import ATTRIBUTES, LABELS, SYNTHETIC

# Images. What kernels make of an image is the same, to the last bit, in batches of this size and of its
# multiples, and not in all others; at a threshold the last bit is the label.
BATCH_UNIT = 64


def new_labeller(
    latents: str, attributes: list[str], section: Label, runtime: Runtime, work: Path
) -> MakeShard:
    """What labels a shard of images, with every attribute's classifier on the device."""
    import torch

    from classifiers.backbones import load_network
    from classifiers.training import per_image
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(runtime)
    loaded = [load_network(ATTRIBUTES / attribute, accelerator.device) for attribute in attributes]
    networks = torch.nn.ModuleList([network for network, _ in loaded]).eval()
    thresholds = [float(card["threshold"]) for _, card in loaded]
    store = Store(SYNTHETIC / latents)
    batch_size = max(section.batch_size // BATCH_UNIT, 1) * BATCH_UNIT
    device = Lock()

    def scores_of(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.sigmoid(network(images).float()) for network in networks], dim=1)

    def make(shard: int, advance: Advancing) -> Record:
        start, stop = store.bounds(shard)
        images = store.read_between(start, stop)
        table = store.rows_between(start, stop)[["id"]].copy()

        def read(positions: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
            """The shard's images of a range; beyond them the last one, to fill the last batch."""
            if positions[-1] < len(images):
                return images[positions[0] : positions[-1] + 1]  # not a copy
            chosen: NDArray[np.uint8] = images[np.minimum(positions, len(images) - 1)]
            return chosen

        count = -(-len(images) // BATCH_UNIT) * BATCH_UNIT
        with device:
            scores = per_image(networks, scores_of, read, count, accelerator, batch_size, advance)
        for attribute, threshold, of in zip(attributes, thresholds, scores[: len(images)].T, strict=True):
            table[f"{attribute}_score"] = of
            table[attribute] = (of >= threshold).astype(np.int64)
        return commit_shard(work, shard, table)

    return make


def main(latents: Annotated[str, typer.Argument(help="z or z_prime")]) -> None:
    """Score every synthetic image for every attribute; the label is the score cut at the threshold."""
    parameters = read_parameters()
    attributes, section = parameters.attributes, parameters.label
    images = SYNTHETIC / latents
    sizes = Store(images).items_per_shard
    inputs = [images, *(ATTRIBUTES / attribute for attribute in attributes)]
    work = work_folder(f"label {latents}", inputs, attributes)
    set_up = partial(new_labeller, latents, attributes, section, parameters.runtime, work)
    records = make_shards(
        f"label {latents}", work, sizes, set_up, parameters.cluster, runtime=parameters.runtime
    )
    finish_store(work, len(sizes), records=records)
    publish(work, LABELS / latents)


if __name__ == "__main__":
    run_stage(main)
