"""Saves the state of a training: committed atomically, hashed, loaded as tensors and plain values only.

A file holds the sha256 of its remaining bytes (32 bytes), and then what `torch.save` wrote.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from pipeline.content.files import committed
from pipeline.errors import UserError

CHECKPOINT = "state.pt"  # the name of every such file
DIGEST_BYTES = 32


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Commit a training's state, so that a kill leaves either the old or the new one."""
    body = io.BytesIO()
    torch.save(state, body)
    with committed(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(body.getbuffer()).digest())
        file.write(body.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Load the state that `save_checkpoint` wrote; no code in the file is ever run.

    Args:
        path: the file.

    Returns:
        The state, its tensors on the CPU; None if there is no such file.

    Raises:
        UserError: the file's sha256 does not match, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        digest, body = file.read(DIGEST_BYTES), file.read()
    if digest != hashlib.sha256(body).digest():
        raise UserError(f"{path} is damaged: remove it to train from the start.")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds of exceptions
        raise UserError(
            f"{path} is no state of a training, readable as tensors and plain values only: remove it to "
            "train from the start."
        ) from error
    return state


def fault_of_checkpoint(path: Path) -> str | None:
    """Say in one line what is wrong with a file of `save_checkpoint`; None if nothing is."""
    try:
        load_checkpoint(path)
    except UserError as error:
        return str(error)
    return None
