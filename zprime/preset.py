"""``zprime preset NAME`` writes params.yaml: presets/base.yaml with what presets/NAME.yaml changes."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from stages.parameters import checked_parameters
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_names, preset_text


def _is_kept_elsewhere(path: Path) -> bool:
    """Return whether a file's content can be restored: a preset writes it, or git has committed it."""
    content = path.read_bytes()
    if any(preset_text(name).encode() == content for name in preset_names()):
        return True
    committed = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True)
    return committed.returncode == 0 and committed.stdout == content


def main(name: Annotated[str, typer.Argument(help="the preset's name: presets/NAME.yaml")]) -> None:
    """Write a preset, complete and commented, as params.yaml; refuses if edits would be lost."""
    text = preset_text(name)
    checked_parameters(yaml.safe_load(text), str(PRESETS / f"{name}.yaml"))
    if PARAMETERS_FILE.exists() and not _is_kept_elsewhere(PARAMETERS_FILE):
        raise UserError(
            f"{PARAMETERS_FILE} has edits that are not committed, and PRESET={name} would overwrite them: "
            "commit or move the file, or run `make repro` without PRESET to use it."
        )
    PARAMETERS_FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
