"""label LATENTS: out/synthetic/LATENTS and the classifiers -> out/labels/LATENTS/labels.parquet."""

from typing import Annotated

import numpy as np
import typer

from classifiers.backbones import load_network
from classifiers.training import predict
from pipeline.parameters import read_parameters
from pipeline.progress import progress
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.stores import Store, write_table
from stages.paths import ATTRIBUTES, LABELS, SYNTHETIC


def main(latents: Annotated[str, typer.Argument(help="z or z_prime")]) -> None:
    """Score every synthetic image for every attribute; the label is the score cut at the threshold."""
    parameters = read_parameters()
    store = Store(SYNTHETIC / latents)
    accelerator = new_accelerator(parameters.runtime)
    table = store.rows[["id"]].copy()
    total = len(store) * len(parameters.attributes)
    with progress(f"label {latents}", total, "images") as advance:
        for attribute in parameters.attributes:
            network, card = load_network(ATTRIBUTES / attribute)
            network.to(accelerator.device)
            scores = predict(
                network, store.read, len(store), accelerator, parameters.label.batch_size, advance
            )
            table[f"{attribute}_score"] = scores
            table[attribute] = (scores >= card["threshold"]).astype(np.int64)
    write_table(LABELS / latents / "labels.parquet", table)


if __name__ == "__main__":
    run_stage(main)
