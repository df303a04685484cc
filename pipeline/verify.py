"""``python -m pipeline.verify PATH...`` hashes again what zprime wrote, and names every file that is wrong.

``--mend`` makes what is wrong again: of a store the shards that have a fault, else the stage's output.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.checkpoints import fault_of_checkpoint
from pipeline.errors import UserError
from pipeline.stage import run_stage
from pipeline.stores import INDEX, ROWS, faulty_files, read_index
from pipeline.work import WORK, reopen

CHECKPOINT = "state.pt"
# What is mended first may be read to mend the next.
ORDER = (
    "prepare", "train_attribute", "train_gan", "load_gan", "sample", "synthesize z", "label z",
    "fit_hyperplanes", "invert", "complement", "synthesize z_prime", "synthesize real_prime", "label z_prime",
    "label real_prime", "balance", "train_judge", "assess", "train", "evaluate", "report", "export",
)  # fmt: skip


def main(
    paths: Annotated[list[Path], typer.Argument(help="outputs of stages, or folders that hold some")],
    mend: Annotated[bool, typer.Option(help="make what is wrong again")] = False,
) -> None:
    """Hash every file below PATHS that an index records; exit with status 1 where one is wrong."""
    folders = {index.parent for path in paths for index in path.rglob(INDEX)}
    folders |= {rows.parent for path in paths for rows in path.rglob(str(ROWS))}  # whose index may be lost
    folders = {folder for folder in folders if WORK not in folder.parents}
    checkpoints = [checkpoint for path in paths for checkpoint in path.rglob(CHECKPOINT)]
    if not folders and not checkpoints:
        raise UserError(f"nothing that zprime wrote is below {', '.join(map(str, paths))}.")
    damaged_checkpoints = [fault for path in checkpoints if (fault := fault_of_checkpoint(path))]
    damaged = {folder: faults for folder in sorted(folders) if (faults := faulty_files(folder))}
    for fault in damaged_checkpoints:
        print(fault)
    for folder, faults in damaged.items():
        for name, fault in faults.items():
            print(f"{folder / name}: {fault}")
    if damaged and mend:
        for folder in sorted(damaged, key=_place):
            _mend(folder, list(damaged[folder]))
    elif damaged or damaged_checkpoints:
        count = sum(map(len, damaged.values())) + len(damaged_checkpoints)
        raise UserError(f"files that are wrong: {count}. --mend makes those of finished outputs again.")
    print(f"{len(folders)} outputs are whole")


def _place(folder: Path) -> int:
    """Where in the pipeline the stage stands that made a folder; last where that is not known."""
    made_by = str(read_index(folder).get("made_by")) if INDEX not in faulty_files(folder) else ""
    return next((k for k, stage in enumerate(ORDER) if f"{made_by} ".startswith(f"{stage} ")), len(ORDER))


def _mend(folder: Path, faulty: list[str]) -> None:
    """Run the stage that made a folder again, for the shards that are faulty or, without shards, for all."""
    if INDEX in faulty:
        raise UserError(f"{folder / INDEX} is lost: remove {folder}, and `dvc repro` makes it again.")
    index = read_index(folder)
    if "shards" in index:
        stage = reopen(folder, faulty)
    else:
        stage = str(index["made_by"])
        shutil.rmtree(folder)
    name, *arguments = stage.split(" ")
    subprocess.run([sys.executable, "-m", f"stages.{name}", *arguments], check=False)
    if not (folder / INDEX).is_file() or faulty_files(folder):
        raise UserError(f"{folder} could not be mended: run `dvc repro`.")
    if read_index(folder)["work"] != index["work"]:
        shutil.rmtree(WORK / index["work"], ignore_errors=True)
        raise UserError(
            f"{folder} was made anew, as parameters or inputs have changed since: run `dvc repro` for what "
            "depends on it."
        )


if __name__ == "__main__":
    run_stage(main)
