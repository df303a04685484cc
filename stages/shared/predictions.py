"""What `train` and `finish` choose by on validation, and the rows that they write of a network's scores."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray

from classifiers.counts import count_table
from classifiers.networks.backbones import Classifier
from classifiers.networks.images import LabelledImages
from classifiers.networks.inference import predict
from classifiers.selection import HALF, accuracy, worst_group_accuracy
from stages.parameters import AllParameters
from stages.shared.inputs import protected_of

SAVED = "worst_group_accuracy"  # the selection whose weights are saved
SELECTIONS = {SAVED: worst_group_accuracy, "accuracy": accuracy}


def selection_value(
    name: str, n_protected: int, scores: NDArray[np.float64], validation: LabelledImages
) -> float:
    """Compute a metric on validation, over the groups of all protected attributes together.

    Args:
        name: a key of `SELECTIONS`.
        n_protected: the number of protected groups.
        scores: of the validation images, [n] in [0, 1].
        validation: the images.

    Returns:
        in [0, 1].
    """
    predictions = (scores >= HALF).astype(np.int64)
    protected = validation.groups % n_protected
    return float(SELECTIONS[name](count_table(validation.targets, protected, predictions, n_protected)))


def predictions(
    network: Classifier,
    splits: Mapping[str, LabelledImages],
    selection: str,
    parameters: AllParameters,
    accelerator: Accelerator,
) -> pd.DataFrame:
    """Return the rows of predictions.parquet of one selection.

    Args:
        network: the trained classifier.
        splits: images by the split's name.
        selection: a key of `SELECTIONS`, which chose the network's weights.
        parameters: as params.yaml holds them.
        accelerator: runs the network.

    Returns:
        id, split, selection, target, one column for each protected attribute, and score.
    """
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "id": images.ids,
                    "split": split,
                    "selection": selection,
                    "target": images.targets,
                    **protected_of(images, parameters),
                    "score": predict(network, images.read, len(images), accelerator),
                }
            )
            for split, images in splits.items()
        ],
        ignore_index=True,
    )
