"""finish DATA RECIPE NAME SEED: finish a trained classifier; writes out/runs/DATA/RECIPE+NAME/SEED/.

A finish changes the network of out/runs/DATA/RECIPE/SEED/, whose weights worst-group accuracy chose on all of
validation; nothing is trained again. It fits on one half of the real validation images, if not on training
images, and chooses on the other half, by worst-group accuracy too. predictions.parquet has the scores of that
other half and of the test images: what was fitted on is in no later choice. cost.json counts the training and
the finish.
"""

from functools import partial
from typing import Annotated

import typer

from classifiers.elsewhere.importing import load_run
from classifiers.finishing.base import Material
from classifiers.finishing.halves import validation_halves
from classifiers.finishing.settings import finish_network
from classifiers.networks.backbones import save_network
from classifiers.training.cost import counted
from pipeline.content.checkpoints import CHECKPOINT
from pipeline.content.resumable import Session
from pipeline.content.stores import Store
from pipeline.content.tables import write_table
from pipeline.content.trust import TRUST, Trust, read_judgements
from pipeline.errors import UserError
from pipeline.runtime import new_accelerator
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.controls import TRAINING_DATA
from stages.shared.costs import Cost
from stages.shared.inputs import real_images
from stages.shared.paths import REAL, RUNS
from stages.shared.predictions import SAVED, predictions, selection_value
from stages.shared.training_data import training_images


def main(
    data: Annotated[str, typer.Argument(help=", ".join(TRAINING_DATA))],
    recipe: Annotated[str, typer.Argument(help="the recipe of the trained network")],
    finish: Annotated[str, typer.Argument(help="a key of finish.definitions")],
    seed: Annotated[int, typer.Argument(help="of the trained network; the finish's random numbers too")],
) -> None:
    """Finish one trained classifier."""
    parameters = read_parameters()
    definitions = parameters.finish.definitions
    if finish not in definitions:
        raise UserError(f"finish: {finish!r} is none of {', '.join(definitions)}.")
    accelerator = new_accelerator(parameters.runtime)
    trained = RUNS / data / recipe / str(seed)
    network, card = load_run(trained, accelerator.device)
    store = Store(REAL)
    validation, test = (real_images(parameters, split, store) for split in ("validation", "test"))
    fitting, selecting = validation_halves(validation, seed)
    name = f"finish {data} {recipe} {finish} {seed}"
    work = work_folder(name)
    material = Material(
        training=training_images(data, seed, parameters, store),
        fitting=fitting,
        selecting=selecting,
        select=partial(selection_value, SAVED, parameters.n_protected),
        n_protected=parameters.n_protected,
        session=Session(name, accelerator, work.folder / CHECKPOINT, parameters.runtime.checkpoint_seconds),
        seed=seed,
    )
    with counted(network) as count:
        facts = finish_network(definitions[finish], network, material)
    output, finished = work.folder / "run", f"{recipe}+{finish}"
    save_network(output, network, card.model_copy(update={"recipe": finished, "finish": facts}))
    splits = {"validation": selecting, "test": test}
    rows = predictions(network, splits, SAVED, parameters, accelerator)
    write_table(output / "predictions.parquet", rows)
    before = Cost.read(trained / "cost.json")
    cost = Cost(forward=before.forward + count.forward, backward=before.backward + count.backward)
    cost.write(output / "cost.json")
    # A network that never left its plateau is no result either when it is finished.
    Trust(judgements=read_judgements(trained)).write(output / TRUST)
    work.publish(RUNS / data / finished / str(seed), output)


if __name__ == "__main__":
    run_stage(main)
