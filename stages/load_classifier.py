"""load_classifier NAME: bring in a classifier from elsewhere; writes out/runs/elsewhere/NAME/0/.

The folder is as `train` writes it, so that `finish` and `evaluate` take the network for one more recipe. It
is one network, so that it has one run, whose deviation is that of the bootstrap. Nothing is trained, so that
cost.json counts nothing. predictions.parquet has the scores of the real validation and test images.
"""

from typing import Annotated

import numpy as np
import typer

from classifiers.elsewhere.cards import RunKey
from classifiers.elsewhere.importing import import_classifier
from classifiers.elsewhere.probing import check_classifier
from classifiers.networks.backbones import save_network
from pipeline.content.stores import Store
from pipeline.content.tables import write_table
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.controls import ELSEWHERE, SEED_ELSEWHERE
from stages.shared.costs import Cost
from stages.shared.inputs import real_images
from stages.shared.paths import REAL, RUNS
from stages.shared.predictions import SAVED, predictions

PROBED = 4  # validation images that are looked at first


def main(name: Annotated[str, typer.Argument(help="a key of load_classifier.definitions")]) -> None:
    """Bring in one classifier."""
    parameters = read_parameters()
    definitions, where = parameters.load_classifier.definitions, f"load_classifier.definitions.{name}"
    if name not in definitions:
        raise UserError(f"load_classifier: {name!r} is none of {', '.join(definitions) or 'no definitions'}.")
    accelerator = new_accelerator(parameters.runtime)
    work = work_folder(f"load_classifier {name}")
    run = RunKey(ELSEWHERE, name, SEED_ELSEWHERE)
    network, card = import_classifier(definitions[name], where, run, accelerator.device)
    store = Store(REAL)
    splits = {split: real_images(parameters, split, store) for split in ("validation", "test")}
    some = splits["validation"].read(np.arange(min(PROBED, len(splits["validation"]))))
    check_classifier(network, images_to_tensor(some, accelerator.device), where)
    rows = predictions(network, splits, SAVED, parameters, accelerator)
    if rows["score"].isna().any():
        raise UserError(f"{where} gives NaN for the image {rows['id'][rows['score'].isna()].iloc[0]}.")
    output = work.folder / "run"
    save_network(output, network, card)
    write_table(output / "predictions.parquet", rows)
    Cost(forward=0, backward=0).write(output / "cost.json")
    work.publish(RUNS / ELSEWHERE / name / str(SEED_ELSEWHERE), output)


if __name__ == "__main__":
    run_stage(main)
