"""fill_labels: predict the protected labels that training images lack; writes out/real_labels/.

labels.parquet there has the labels of every real image without a gap, and says which are predicted and how
sure the labellers are. Where nothing is missing it has the labels as the source gave them, whatever the
labellers are, so that nothing that reads it runs again.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classifiers.selection import HALF, log_odds
from data.names import UNKNOWN
from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.stores import Store
from pipeline.content.tables import read_table, write_table
from pipeline.parameters import Runtime
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.paths import ATTRIBUTES, REAL, REAL_LABELS


def probabilities(attribute: str, ids: pd.Series, targets: IntArray, runtime: Runtime) -> FloatArray:
    """Predict an attribute of real images, for the share of positives that those of each target seem to have.

    The attribute goes with the target in biased data: what is frequent among all images may be rare here.

    Args:
        attribute: the attribute.
        ids: of the images, [n].
        targets: of the images, [n] in {0, 1}.
        runtime: the device and its precision.

    Returns:
        The probability of label 1, [n].
    """
    # Lazy, as torch is slow to import: most data have no gap.
    from classifiers.labellers import load_labeller, prior_of
    from classifiers.networks.inference import predict
    from pipeline.runtime import new_accelerator

    accelerator = new_accelerator(runtime)
    labeller, card = load_labeller(ATTRIBUTES / attribute, accelerator.device)
    store = Store(REAL)
    positions = store.positions(ids)
    scores = predict(labeller, lambda chosen: store.read(positions[chosen]), len(ids), accelerator)
    moved = np.empty(len(ids))
    for target in np.unique(targets):
        own = scores[targets == target]
        shift = log_odds(prior_of(own, card.prior)) - log_odds(card.prior)
        moved[targets == target] = 1 / (1 + np.exp(-(log_odds(own) + shift)))
    return moved


def main() -> None:
    """Fill the gaps in the protected labels of the training images."""
    parameters = read_parameters()
    labels = read_table(REAL / "labels.parquet", ("id", "split", *parameters.attributes))
    known = np.ones(len(labels), dtype=np.bool_)
    columns: dict[str, FloatArray] = {}
    for name in parameters.protected:
        missing: NDArray[np.bool_] = labels[name].to_numpy() == UNKNOWN
        share: FloatArray = np.asarray(labels[name] == 1, dtype=np.float64)
        if missing.any():
            targets = labels[parameters.target].to_numpy(dtype=np.int64)[missing]
            share[missing] = probabilities(name, labels["id"][missing], targets, parameters.runtime)
            print(f"fill_labels: {name} is predicted for {missing.sum():,} of {len(labels):,} images")
        labels[name] = (share >= HALF).astype(np.int64)
        columns[f"{name}_probability"] = share
        known = known & ~missing
    work = work_folder("fill_labels")
    filled = labels[["id", "split", *parameters.attributes]].assign(**columns, known=known)
    write_table(work.folder / REAL_LABELS.name, filled)
    work.publish(REAL_LABELS.parent)


if __name__ == "__main__":
    run_stage(main)
