"""What several stages read: the real images with their labels, split by split."""

import numpy as np

from classifiers.training import LabelledImages
from pipeline.parameters import AllParameters
from pipeline.stores import Store, join_by_id, read_table
from stages.paths import REAL


def real_images(
    parameters: AllParameters, split: str, store: Store, attribute: str | None = None
) -> LabelledImages:
    """The real images of a split, with the labels of an attribute (the target by default)."""
    labels = read_table(REAL / "labels.parquet", ("id", "split", *parameters.attributes))
    labels = join_by_id(labels[labels["split"] == split][["id"]], labels, f"{REAL}/labels.parquet")
    positions = store.positions(labels["id"])
    return LabelledImages(
        ids=labels["id"].to_numpy(dtype=object),
        read=lambda chosen: store.read(positions[chosen]),
        targets=labels[attribute or parameters.target].to_numpy(dtype=np.int64),
        groups=(labels[parameters.target] * 2 + labels[parameters.protected]).to_numpy(dtype=np.int64),
    )
