"""The real images with their labels, split by split, as several stages read them."""

import numpy as np
from numpy.typing import NDArray

from classifiers.networks.images import LabelledImages
from data.names import UNKNOWN
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from stages.parameters import AllParameters
from stages.shared.paths import REAL, REAL_LABELS


def real_images(
    parameters: AllParameters,
    split: str,
    store: Store,
    attribute: str | None = None,
    filled: bool = True,
) -> LabelledImages:
    """Read the real images of a split with their labels.

    A protected group that was not known is the most likely one, or, before the stage `fill_labels` has
    predicted it, group 0.

    Args:
        parameters: as params.yaml holds them.
        split: the split's name.
        store: of the real images.
        attribute: whose labels are the targets; None for the target attribute.
        filled: whether to read the labels that `fill_labels` has completed; else the source's.

    Returns:
        the images; their groups are those of all attributes.
    """
    path = REAL_LABELS if filled else REAL / "labels.parquet"
    labels = read_table(path, ("id", "split", *parameters.attributes))
    labels = join_by_id(labels[labels["split"] == split][["id"]], labels, str(path))
    positions = store.positions(labels["id"])
    values = labels[parameters.protected].to_numpy(dtype=np.int64)
    known = labels["known"].to_numpy(dtype=bool) if filled else (values != UNKNOWN).all(axis=1)
    protected, n_protected = protected_groups(np.maximum(values, 0))
    return LabelledImages(
        ids=labels["id"].to_numpy(dtype=object),
        read=lambda chosen: store.read(positions[chosen]),
        targets=labels[attribute or parameters.target].to_numpy(dtype=np.int64),
        groups=labels[parameters.target].to_numpy(dtype=np.int64) * n_protected + protected,
        known=None if known.all() else known,
    )


def of_known_groups(images: LabelledImages) -> LabelledImages:
    """Return the images whose protected group is known."""
    return images if images.known is None else images.subset(np.flatnonzero(images.known))


def protected_of(images: LabelledImages, parameters: AllParameters) -> dict[str, NDArray[np.int64]]:
    """Return the protected attributes of n images by name, each [n] in {0, 1}."""
    columns = protected_columns(images.groups % parameters.n_protected, len(parameters.protected))
    return dict(zip(parameters.protected, columns.T, strict=True))
