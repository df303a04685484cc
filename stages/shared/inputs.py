"""The real images with their labels, split by split, as several stages read them."""

import numpy as np
from numpy.typing import NDArray

from classifiers.networks.images import LabelledImages
from pipeline.content.groups import protected_columns, protected_groups
from pipeline.content.stores import Store
from pipeline.content.tables import join_by_id, read_table
from stages.parameters import AllParameters
from stages.shared.paths import REAL


def real_images(
    parameters: AllParameters, split: str, store: Store, attribute: str | None = None
) -> LabelledImages:
    """Read the real images of a split with their labels.

    Args:
        parameters: as params.yaml holds them.
        split: the split's name.
        store: of the real images.
        attribute: whose labels are the targets; None for the target attribute.

    Returns:
        the images; their groups are those of all attributes.
    """
    labels = read_table(REAL / "labels.parquet", ("id", "split", *parameters.attributes))
    labels = join_by_id(labels[labels["split"] == split][["id"]], labels, f"{REAL}/labels.parquet")
    positions = store.positions(labels["id"])
    protected, n_protected = protected_groups(labels[parameters.protected].to_numpy(dtype=np.int64))
    return LabelledImages(
        ids=labels["id"].to_numpy(dtype=object),
        read=lambda chosen: store.read(positions[chosen]),
        targets=labels[attribute or parameters.target].to_numpy(dtype=np.int64),
        groups=labels[parameters.target].to_numpy(dtype=np.int64) * n_protected + protected,
    )


def protected_of(images: LabelledImages, parameters: AllParameters) -> dict[str, NDArray[np.int64]]:
    """Return the protected attributes of n images by name, each [n] in {0, 1}."""
    columns = protected_columns(images.groups % parameters.n_protected, len(parameters.protected))
    return dict(zip(parameters.protected, columns.T, strict=True))
