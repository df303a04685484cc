"""The training images of every data set that classifiers are compared on: `stages.parameters.DATA`."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.networks.images import LabelledImages
from data.controls import duplicated_rows
from pipeline.content.stores import Store
from pipeline.content.tables import read_table
from pipeline.errors import UserError
from stages.parameters import DATA, AllParameters
from stages.shared.inputs import real_images
from stages.shared.paths import BALANCED, REAL

SPLITS = {"original": "train", "duplicated": "train", "oracle": "oracle"}  # of real images alone
MANIFESTS = {"sampled": BALANCED / "sampled.parquet", "augmented": BALANCED / "manifest.parquet"}


def manifest_images(manifest: pd.DataFrame, n_protected: int) -> LabelledImages:
    """The images of a manifest's rows, real and synthetic, with the labels that it gives them."""
    names = manifest["store"].unique().tolist()
    stores = [Store(Path(name)) for name in names]
    which = manifest["store"].map({name: k for k, name in enumerate(names)}).to_numpy()
    positions = np.empty(len(manifest), dtype=np.int64)
    for k, store in enumerate(stores):
        positions[which == k] = store.positions(manifest["id"][which == k])

    def read(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(chosen), *stores[0].item_shape), np.uint8)
        for k, store in enumerate(stores):
            here = which[chosen] == k
            images[here] = store.read(positions[chosen[here]])
        return images

    targets = manifest["target"].to_numpy(dtype=np.int64)
    return LabelledImages(
        ids=manifest["id"].to_numpy(dtype=object),
        read=read,
        targets=targets,
        groups=targets * n_protected + manifest["protected"].to_numpy(dtype=np.int64),
        synthetic=(manifest["source"] != "real").to_numpy(dtype=bool),
    )


def training_images(data: str, seed: int, parameters: AllParameters, store: Store) -> LabelledImages:
    """The training images of a data set of `DATA`.

    Args:
        seed: of the run: the images that `duplicated` has once more than others are drawn from it.
        store: of the real images.
    """
    if data in MANIFESTS:
        columns = ("id", "store", "target", "protected", "split", "source")
        manifest = read_table(MANIFESTS[data], columns)
        manifest = manifest[manifest["split"] == "train"].reset_index(drop=True)
        return manifest_images(manifest, parameters.n_protected)
    if data not in SPLITS:
        raise UserError(f"{data!r} is no training data; expected one of {', '.join(DATA)}.")
    images = real_images(parameters, SPLITS[data], store)
    if not len(images):
        raise UserError(f"train: {REAL} has no split {SPLITS[data]!r}, which the data {data!r} are made of.")
    if data == "duplicated":
        images = images.subset(duplicated_rows(images.groups, 2 * parameters.n_protected, seed))
    return images
