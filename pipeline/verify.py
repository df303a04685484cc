"""``python -m pipeline.verify PATH...`` hashes stores again and names every file that is wrong."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from pipeline.stage import run_stage
from pipeline.stores import INDEX, faults_of_store


def main(
    paths: Annotated[list[Path], typer.Argument(help="stores, or folders that hold stores")],
) -> None:
    """Hash every store below PATHS again; exit with status 1 where one has a fault."""
    folders = sorted({index.parent for path in paths for index in path.rglob(INDEX)})
    if not folders:
        raise UserError(f"no store below {', '.join(map(str, paths))}: a store has an {INDEX}.")
    faults = [fault for folder in folders for fault in faults_of_store(folder)]
    for fault in faults:
        print(fault)
    if faults:
        raise UserError(
            f"{len(folders)} stores were checked and have faults: {len(faults)}. `dvc repro --force` makes "
            "them again."
        )
    print(f"{len(folders)} stores are whole")


if __name__ == "__main__":
    run_stage(main)
