"""``zprime verify PATH...`` hashes again what zprime wrote, and names every file that is wrong.

``--mend`` makes the wrong files again: the faulty shards of a store, or else the stage's whole output. It
removes a wrong checkpoint, so that its training starts anew.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.content.checkpoints import CHECKPOINT, fault_of_checkpoint
from pipeline.content.index import INDEX, read_index
from pipeline.content.stores import ROWS
from pipeline.declaration import output_patterns, read_entries, stage_of, stages_in_order
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.parameters import PARAMETERS_FILE, content_of
from pipeline.stage import run_stage
from pipeline.work import WORK, reopen


def main(
    paths: Annotated[
        list[Path], typer.Argument(help="outputs of stages, folders with such outputs, or .work")
    ],
    mend: Annotated[bool, typer.Option(help="make wrong files again")] = False,
) -> None:
    """Hash every checkpoint and every indexed file below PATHS; exit with status 1 if one is wrong."""
    below = [path for given in paths for path in (given, *given.rglob("*"))]
    patterns = output_patterns(read_entries())
    folders = {path for path in below if _is_output(path, patterns)}
    checkpoints = {path for path in below if path.name == CHECKPOINT and _is_in_work(path)}
    if not folders and not checkpoints:
        raise UserError(f"nothing that zprime wrote is below {', '.join(map(str, paths))}.")
    damaged_checkpoints = {path: fault for path in sorted(checkpoints) if (fault := _fault_at(path))}
    damaged = {folder: faults for folder in sorted(folders) if (faults := faulty_files(folder))}
    for fault in damaged_checkpoints.values():
        print(fault)
    for folder, faults in damaged.items():
        for name, fault in faults.items():
            print(f"{folder / name}: {fault}")
    count = sum(map(len, damaged.values())) + len(damaged_checkpoints)
    if count and not mend:
        raise UserError(
            f"files that are wrong: {count}. --mend makes those of finished outputs again, and removes "
            "checkpoints, so that their trainings start anew."
        )
    for path in damaged_checkpoints:
        path.unlink()
        print(f"{path} is removed: its training starts anew")
    lost = [folder for folder, faults in damaged.items() if INDEX in faults]
    for folder, command in _in_order([folder for folder in damaged if folder not in lost]):
        _mend(folder, command, list(damaged[folder]))
    for folder in lost:
        raise UserError(f"{folder / INDEX} is lost: remove {folder}, and `dvc repro` makes it again.")
    whole = len(checkpoints) - len(damaged_checkpoints)
    print(f"{len(folders)} outputs{f' and {whole} checkpoints' if whole else ''} are whole")


def _is_in_work(path: Path) -> bool:
    return WORK.absolute() in path.absolute().parents


def _is_output(path: Path, patterns: list[str]) -> bool:
    """Return whether a stage published this folder; True even if its index is missing."""
    if not path.is_dir() or _is_in_work(path):
        return False
    known = any(path.absolute().match(pattern) for pattern in patterns)
    return known or (path / INDEX).is_file() or (path / ROWS).is_dir()


def _fault_at(checkpoint: Path) -> str | None:
    try:
        return fault_of_checkpoint(checkpoint)
    except OSError as error:
        return f"{checkpoint} cannot be read ({error.strerror})."


def _in_order(folders: list[Path]) -> list[tuple[Path, str]]:
    """Sort damaged folders so that each comes after those that its stage reads.

    Args:
        folders: outputs of stages.

    Returns:
        each folder with the stage and arguments that made it.

    Raises:
        UserError: the index of a folder names a stage that dvc.yaml does not have.
    """
    if not folders:
        return []
    entries, parameters = read_entries(), content_of(PARAMETERS_FILE)
    made = {}
    for folder in folders:
        command = str(read_index(folder).get("made_by"))
        try:
            made[folder] = stage_of(command, entries, parameters)
        except UserError:
            raise UserError(
                f"{folder / INDEX} names a stage that zprime has not, {command!r}: remove {folder}, and "
                "`dvc repro` makes it again."
            ) from None
    commands = [stage.command for stage in stages_in_order(entries, parameters, made.values())]
    placed = sorted(made, key=lambda folder: commands.index(made[folder].command))
    return [(folder, made[folder].command) for folder in placed]


def _mend(folder: Path, command: str, faulty: list[str]) -> None:
    """Run the stage that made a folder again, for the faulty shards or, without shards, for all of it.

    Args:
        folder: the output.
        command: the stage that made it, and its arguments.
        faulty: the names of its faulty files.

    Raises:
        UserError: the folder is still not whole, or was made of other inputs.
    """
    index = read_index(folder)
    reopen(folder, faulty)
    name, *arguments = command.split(" ")
    sys.stdout.flush()  # prints the faults before the stage's own output
    subprocess.run([sys.executable, "-m", f"stages.{name}", *arguments], check=False)
    if not (folder / INDEX).is_file() or faulty_files(folder):
        raise UserError(f"{folder} could not be mended: run `dvc repro`.")
    if read_index(folder)["work"] != index["work"]:
        for left in WORK.glob(f"{index['work']}-*"):
            shutil.rmtree(left, ignore_errors=True)
        raise UserError(
            f"{folder} was made anew, as code, parameters or inputs have changed since: run `dvc repro` for "
            "what depends on it."
        )


if __name__ == "__main__":
    run_stage(main)
