"""``zprime verify PATH...`` hashes again what zprime wrote, and names every file that is wrong.

``--mend`` makes what is wrong again: of a store the shards that have a fault, else the stage's output. The
checkpoint of a training that is wrong it removes, so that the training starts anew.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.checkpoints import CHECKPOINT, fault_of_checkpoint
from pipeline.content.stores import INDEX, ROWS, read_index
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.stage import run_stage
from pipeline.work import WORK, reopen

# What is mended first may be read to mend the next.
ORDER = (
    "prepare", "train_attribute", "train_gan", "load_gan", "sample", "synthesize z", "label z",
    "fit_hyperplanes", "invert", "complement", "synthesize z_prime", "synthesize real_prime", "label z_prime",
    "label real_prime", "balance", "train_judge", "assess", "train", "export",
)  # fmt: skip
# What stages publish with an index, which may be lost.
OUTPUTS = (
    "out/real", "out/attributes/*", "out/generator", "out/latents/*", "out/synthetic/*", "out/labels/*",
    "out/hyperplanes", "out/balanced", "out/judges/*", "out/quality", "out/runs/*/*/*", "out/export/*",
)  # fmt: skip


def main(
    paths: Annotated[list[Path], typer.Argument(help="outputs of stages, or folders that hold some; .work")],
    mend: Annotated[bool, typer.Option(help="make what is wrong again")] = False,
) -> None:
    """Hash every checkpoint below PATHS and every file that an index records; exit with status 1 where one is
    wrong.
    """
    below = [path for given in paths for path in (given, *given.rglob("*"))]
    folders = {path for path in below if _is_output(path)}
    checkpoints = {path for path in below if path.name == CHECKPOINT and _is_in_work(path)}
    if not folders and not checkpoints:
        raise UserError(f"nothing that zprime wrote is below {', '.join(map(str, paths))}.")
    damaged_checkpoints = {path: fault for path in sorted(checkpoints) if (fault := _fault_of(path))}
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
    for folder in sorted(damaged, key=lambda folder: _place(folder, damaged[folder])):
        _mend(folder, list(damaged[folder]))
    whole = len(checkpoints) - len(damaged_checkpoints)
    print(f"{len(folders)} outputs{f' and {whole} checkpoints' if whole else ''} are whole")


def _is_in_work(path: Path) -> bool:
    return WORK.absolute() in path.absolute().parents


def _is_output(path: Path) -> bool:
    """Whether a stage published this folder; its index, or what else tells, may be lost."""
    if not path.is_dir() or _is_in_work(path):
        return False
    known = any(path.absolute().match(pattern) for pattern in OUTPUTS)
    return known or (path / INDEX).is_file() or (path / ROWS).is_dir()


def _fault_of(checkpoint: Path) -> str | None:
    try:
        return fault_of_checkpoint(checkpoint)
    except OSError as error:
        return f"{checkpoint} cannot be read ({error.strerror})."


def _place(folder: Path, faults: dict[str, str]) -> int:
    """Where in the pipeline the stage stands that made a folder; last where that is not known."""
    made_by = str(read_index(folder).get("made_by")) if INDEX not in faults else ""
    return next((k for k, stage in enumerate(ORDER) if f"{made_by} ".startswith(f"{stage} ")), len(ORDER))


def _mend(folder: Path, faulty: list[str]) -> None:
    """Run the stage that made a folder again, for the shards that are faulty or, without shards, for all."""
    if INDEX in faulty:
        raise UserError(f"{folder / INDEX} is lost: remove {folder}, and `dvc repro` makes it again.")
    index = read_index(folder)
    stage = str(index.get("made_by")).split(" ")[0]
    if stage not in {known.split(" ")[0] for known in ORDER}:
        raise UserError(
            f"{folder / INDEX} names a stage that zprime has not, {stage!r}: remove {folder}, and "
            "`dvc repro` makes it again."
        )
    name, *arguments = reopen(folder, faulty).split(" ")
    sys.stdout.flush()  # what was found comes before what the stage says of it
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
