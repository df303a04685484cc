"""Resumable state: `.work/STAGE/DIGEST/`, and how what is finished moves into out/.

DVC deletes a stage's outputs before it runs the stage, so an interrupted run keeps its state outside
out/, under a digest of its inputs and parameters: only the same work is ever resumed. One process at a
time writes there: it holds `.work/STAGE/DIGEST.lock`, which the system lets go when the process dies. Whoever
makes a shard for it, perhaps on another machine and after that process has died, holds that shard's lock.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline import is_orphan
from pipeline.content.files import sha256_of_file
from pipeline.content.stores import (
    INDEX,
    RECORDS,
    committed_shards,
    read_index,
    remove_temporaries,
    shard_name,
    write_index,
)
from pipeline.errors import UserError
from pipeline.integrity import reopen_store

WORK = Path(".work")
LOCK_SECONDS = 10.0  # an orphan of a killed `dvc repro` ends within one


@dataclass(frozen=True)
class _Held:
    """A work folder that this process writes: for which stage, and the file that it has locked."""

    stage: str
    lock: IO[str]


_held: dict[Path, _Held] = {}


def digest_of(inputs: Sequence[Path], parameters: Any) -> str:
    """A digest of input files or folders (one with an index by that) and JSON-like parameters."""
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


def work_folder(stage: str, inputs: Sequence[Path], parameters: Any, writes: bool = True) -> Path:
    """The folder of this work's state, made if it is not there, and locked until `publish`.

    Args:
        stage: the stage and its arguments, as on the command line: "synthesize z".
        writes: false in the processes of a training that leave the writing to the main one.

    Raises `UserError` where another process goes on writing there.
    """
    folder = WORK / stage.replace(" ", "-") / digest_of(inputs, parameters)
    if writes:
        if folder not in _held:
            _held[folder] = _Held(stage, _lock(folder))
        remove_temporaries(folder, committed_shards(folder))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(folder: Path, output: Path) -> None:
    """Move what is finished to its place in out/; what stood there before goes, and so does the state.

    Args:
        folder: a work folder, or a folder in one. Its index says what made it, and names every file.

    An orphan leaves it where it is, and exits: the next `dvc repro` deletes what stands in out/, and finds
    what stands here.
    """
    if is_orphan():
        raise SystemExit(1)
    work = folder if folder in _held else folder.parent
    held = _held.pop(work)
    index = read_index(folder) if (folder / INDEX).exists() else {}
    # What is no shard's is hashed now: a run that was killed here before may have recorded other content.
    index |= {"files": {}, "made_by": held.stage, "work": str(work.relative_to(WORK))}
    write_index(folder, index)
    former = work.with_name(f"{work.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if output.exists():
        output.replace(former)  # whole: what is half removed may be taken for complete
    output.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(output)
    shutil.rmtree(former, ignore_errors=True)
    # Only now: without its records, a run that is killed before the move would start from zero.
    shutil.rmtree(output / RECORDS, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)  # where the state of a training still is
    Path(held.lock.name).unlink()
    held.lock.close()


def reopen(output: Path, faulty: Sequence[str]) -> str:
    """Take an output back from out/, as a run that was interrupted before it made the faulty files again.

    A store is moved to its work folder; an output without shards is removed.

    Gives the stage that goes on with it, as on the command line.

    Raises `UserError` where the index names another folder than one for that stage's work: what it says is
    removed, so it is believed only that.
    """
    index = read_index(output)
    stage, name = str(index.get("made_by")), str(index.get("work"))
    folder = re.escape(stage.replace(" ", "-"))
    if not re.fullmatch(r"\w[^/]*", stage) or not re.fullmatch(f"{folder}/[0-9a-f]{{16}}", name):
        raise UserError(
            f"{output / INDEX} names {name!r} as the work folder of stage {stage!r}, which is none: remove "
            f"{output}, and `dvc repro` makes it again."
        )
    work = WORK / name
    lock = _lock(work)
    if "shards" in index:
        if work.exists():
            shutil.rmtree(work)
        output.replace(work)
        reopen_store(work, faulty)
    else:
        shutil.rmtree(output)
    Path(lock.name).unlink()
    lock.close()
    return stage


@contextmanager
def making(folder: Path, shard: int) -> Iterator[None]:
    """Hold a shard's lock, so that nobody else makes it; waits for who does.

    A task of a scheduler goes on when the run that asked for it is killed, and the next run asks for the
    same shard: the second to hold the lock finds it committed. The lock stands among the records: it goes
    with them when the store is published, for which every shard must have been committed under its lock.

    Raises `UserError` where the store is not being made any more.
    """
    path = folder / RECORDS / f"{shard_name(shard)}.lock"
    gone = UserError(f"{folder} is not being made any more: it was published or removed.")
    try:
        file = path.open("a")
    except FileNotFoundError:
        raise gone from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not _is_at(file, path):
            raise gone
        yield


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(folder: Path) -> IO[str]:
    """Lock a work folder for this process; the lock file says who holds it."""
    path = folder.with_name(folder.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + LOCK_SECONDS
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                break  # else its last holder has just removed the file, and the lock is on nothing
        except BlockingIOError:
            if time.monotonic() > end:
                file.seek(0)
                raise UserError(
                    f"{folder} is being written by {file.read().strip() or 'another process'}: wait until it "
                    "has finished, or stop it, and run again."
                ) from None
            time.sleep(0.1)
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file
