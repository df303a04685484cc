"""Resumable state: `.work/STAGE/DIGEST/`, and how what is finished moves into out/.

DVC deletes a stage's outputs before it runs the stage, so an interrupted run keeps its state outside
out/, under a digest of its inputs and parameters: only the same work is ever resumed.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.stores import INDEX, sha256_of_file

WORK = Path(".work")


def digest_of(inputs: Sequence[Path], parameters: Any) -> str:
    """A digest of input files or folders (a store by its index) and JSON-like parameters."""
    hashes = []
    for path in inputs:
        if (path / INDEX).is_file():
            hashes.append(sha256_of_file(path / INDEX))
        elif path.is_dir():
            hashes += [sha256_of_file(file) for file in sorted(path.rglob("*")) if file.is_file()]
        else:
            hashes.append(sha256_of_file(path))
    text = json.dumps([hashes, parameters], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def work_folder(stage: str, inputs: Sequence[Path], parameters: Any) -> Path:
    """The folder of this work's state, made if it is not there."""
    folder = WORK / stage / digest_of(inputs, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(folder: Path, output: Path) -> None:
    """Move a finished folder to its place in out/; what stood there before goes."""
    if output.exists():
        shutil.rmtree(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(output)
