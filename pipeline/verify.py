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
from pipeline.stores import INDEX, faulty_files, read_index
from pipeline.work import reopen

CHECKPOINT = "state.pt"


def main(
    paths: Annotated[list[Path], typer.Argument(help="outputs of stages, or folders that hold some")],
    mend: Annotated[bool, typer.Option(help="make what is wrong again")] = False,
) -> None:
    """Hash every file below PATHS that an index records; exit with status 1 where one is wrong."""
    # In the order in which they were made: what is mended first may be read to mend the next.
    indices = sorted(
        (index for path in paths for index in path.rglob(INDEX)), key=lambda i: i.stat().st_mtime
    )
    checkpoints = [checkpoint for path in paths for checkpoint in path.rglob(CHECKPOINT)]
    if not indices and not checkpoints:
        raise UserError(f"nothing that zprime wrote is below {', '.join(map(str, paths))}.")
    damaged_checkpoints = [fault for path in checkpoints if (fault := fault_of_checkpoint(path))]
    damaged = {index.parent: faults for index in indices if (faults := faulty_files(index.parent))}
    for fault in damaged_checkpoints:
        print(fault)
    for folder, faults in damaged.items():
        for name, fault in faults.items():
            print(f"{folder / name}: {fault}")
    if damaged and mend:
        for folder, faults in damaged.items():
            _mend(folder, list(faults))
    elif damaged or damaged_checkpoints:
        count = sum(map(len, damaged.values())) + len(damaged_checkpoints)
        raise UserError(f"{count} files are wrong: --mend makes those of finished outputs again.")
    print(f"{len(indices)} outputs are whole")


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


if __name__ == "__main__":
    run_stage(main)
