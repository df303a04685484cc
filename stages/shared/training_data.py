"""The images and labels of every data set that classifiers are compared on: `TRAINING_DATA`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.networks.images import LabelledImages
from pipeline.content.arrays import BoolArray, IntArray
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import read_table
from pipeline.errors import UserError
from stages.parameters import AllParameters
from stages.shared.controls import TRAINING_DATA, Rows
from stages.shared.inputs import real_images
from stages.shared.paths import REAL, REAL_LABELS


def manifest_images(manifest: pd.DataFrame, n_protected: int) -> LabelledImages:
    """Return the images of a manifest's rows, real and synthetic, with the manifest's labels."""
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


def with_missing_labels(images: LabelledImages, parameters: AllParameters) -> LabelledImages:
    """Say which training images have a predicted protected group, as `train.missing_labels` treats them.

    Args:
        images: real images and synthetic ones; their groups are complete.
        parameters: as params.yaml holds them.

    Returns:
        the images.
    """
    strategy, protected = parameters.train.missing_labels, parameters.protected
    labels = read_table(REAL_LABELS, ("id", "known"))
    missing = labels[~labels["known"]].set_index("id")
    known = ~np.isin(images.ids.astype(str), missing.index.to_numpy().astype(str))
    if images.synthetic is not None:  # a real image may be called like one of them
        known |= images.synthetic
    if strategy == "predicted" or known.all():
        return replace(images, known=None)
    if strategy == "left_out":
        return replace(images, known=known)
    memberships = np.zeros((len(images), 2 * parameters.n_protected))
    memberships[np.arange(len(images)), images.groups] = 1.0
    gaps = np.flatnonzero(~known)
    columns = [f"{name}_probability" for name in protected]
    shares = missing.loc[images.ids[gaps].tolist(), columns].to_numpy(dtype=np.float64)
    of_groups = np.ones((len(gaps), parameters.n_protected))
    for group, values in enumerate(protected_columns(np.arange(parameters.n_protected), len(protected))):
        of_groups[:, group] = np.where(values == 1, shares, 1 - shares).prod(axis=1)
    of_both = np.concatenate([of_groups, of_groups], axis=1)
    same_target = np.repeat([[0, 1]], parameters.n_protected, axis=1) == images.targets[gaps, None]
    memberships[gaps] = of_both * same_target
    return replace(images, known=known, memberships=memberships)


def training_images(data: str, seed: int, parameters: AllParameters, store: Store) -> LabelledImages:
    """Return the images of an entry of `TRAINING_DATA`.

    Args:
        data: the entry's name.
        seed: of the run; some controls repeat images that are drawn with it.
        parameters: as params.yaml holds them.
        store: of the real images.

    Returns:
        the images with their labels.

    Raises:
        UserError: there is no such entry, or its split has no images.
    """
    if data not in TRAINING_DATA:
        raise UserError(f"{data!r} is no training data; expected one of {', '.join(TRAINING_DATA)}.")
    entry = TRAINING_DATA[data]
    if entry.manifest is not None:
        columns = ("id", "store", "target", "protected", "split", "source")
        manifest = read_table(entry.manifest, columns)
        manifest = manifest[manifest["split"] == "train"].reset_index(drop=True)
        return with_missing_labels(manifest_images(manifest, parameters.n_protected), parameters)
    images = real_images(parameters, entry.split, store)
    if not len(images):
        raise UserError(f"train: {REAL} has no split {entry.split!r}, which the data {data!r} are made of.")
    images = with_missing_labels(images, parameters)
    if entry.repeat is not None:
        images = images.subset(repeated(entry.repeat, images.groups, images.has_group, parameters, seed))
    return images


def repeated(
    repeat: Rows, groups: IntArray, has_group: BoolArray, parameters: AllParameters, seed: int
) -> IntArray:
    """Choose the rows of a data set that repeats real images.

    Args:
        repeat: the entry's function.
        groups: of the images, [n].
        has_group: the images that are taken into their groups, [n]; each other one occurs once.
        parameters: as params.yaml holds them.
        seed: of the run.

    Returns:
        The rows in ascending order, [m].
    """
    grouped, others = np.flatnonzero(has_group), np.flatnonzero(~has_group)
    rows = grouped[repeat(groups[grouped], 2 * parameters.n_protected, seed)]
    return np.sort(np.concatenate([rows, others]))


def real_labels(parameters: AllParameters, split: str) -> pd.DataFrame:
    """Read the labels of a split's real images: target, protected (the group), known (whether it was)."""
    labels = read_table(REAL_LABELS, ("split", "known", *parameters.attributes))
    labels = labels[labels["split"] == split]
    groups, _ = protected_groups(labels[parameters.protected].to_numpy(dtype=np.int64))
    targets, known = (labels[name].to_numpy() for name in (parameters.target, "known"))
    return pd.DataFrame({"target": targets.astype(np.int64), "protected": groups, "known": known})


def training_labels(data: str, parameters: AllParameters) -> pd.DataFrame:
    """Read the labels of an entry of `TRAINING_DATA`, one row per image: target and protected (an id)."""
    entry = TRAINING_DATA[data]
    if entry.manifest is not None:
        manifest = read_table(entry.manifest, ("target", "protected", "split"))
        return manifest[manifest["split"] == "train"]
    rows = real_labels(parameters, entry.split)
    if entry.repeat is not None:
        groups = (rows["target"] * parameters.n_protected + rows["protected"]).to_numpy()
        has_group = rows["known"].to_numpy() | (parameters.train.missing_labels != "left_out")
        return rows.iloc[repeated(entry.repeat, groups, has_group, parameters, 0)]  # of any seed equally many
    return rows
