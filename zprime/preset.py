"""``zprime preset NAME`` makes presets/NAME.yaml the project's params.yaml."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from stages.parameters import read_parameters
from stages.shared.paths import PRESETS


def _is_kept_elsewhere(path: Path) -> bool:
    """Whether a file's content can be had again: it equals a preset, or what git has committed."""
    if any(preset.read_bytes() == path.read_bytes() for preset in PRESETS.glob("*.yaml")):
        return True
    committed = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True)
    return committed.returncode == 0 and committed.stdout == path.read_bytes()


def main(name: Annotated[str, typer.Argument(help="the preset's name, without .yaml")]) -> None:
    """Copy a preset over params.yaml; refuses where edits would be lost."""
    preset = PRESETS / f"{name}.yaml"
    if not preset.is_file():
        known = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
        raise UserError(f"there is no preset {name!r}: presets/ has {known}.")
    read_parameters(preset)
    if PARAMETERS_FILE.exists() and not _is_kept_elsewhere(PARAMETERS_FILE):
        raise UserError(
            f"{PARAMETERS_FILE} has edits that are not committed, and PRESET={name} would overwrite them: "
            "commit or move the file, or run `make repro` without PRESET to use it."
        )
    shutil.copyfile(preset, PARAMETERS_FILE)


if __name__ == "__main__":
    run_stage(main)
