"""State of a training on disk: committed atomically, loaded as tensors and plain values only."""

from pathlib import Path
from typing import Any

import torch

from pipeline.stores import commit_file


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Commit a training's state, so that a kill leaves either the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    commit_file(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state that `save_checkpoint` wrote, on the CPU; None where there is none."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
