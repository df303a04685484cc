"""A dvc.yaml and a params.yaml of stages that a test invents."""

from pathlib import Path

import yaml


def declare(*commands: str) -> None:
    """Declare stages without dependencies in the working folder: "label z"."""
    stages = {
        command.replace(" ", "-"): {"cmd": f"python -m stages.{command}", "deps": [], "outs": []}
        for command in commands
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("params.yaml").write_text("{}\n")
