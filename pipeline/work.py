"""Resumable state: the folder `.work/STAGE/INPUTS-CODE/`, and how a finished output moves into out/.

DVC deletes a stage's outputs before it runs the stage, so an interrupted run keeps its state outside
out/. The folder's name is two digests, of all that dvc.yaml says the stage depends on: INPUTS of data and
parameters, CODE of code. Only the same work is ever resumed. An output's index names INPUTS alone: if other
code makes the same output, nothing that reads it runs again.

One process at a time writes to a work folder: it holds `.work/STAGE/INPUTS-CODE.lock`, which the system
releases when the process dies. A worker that makes a shard for it, perhaps on another machine and after that
process has died, holds that shard's lock.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline import is_orphan
from pipeline.content.files import sha256_of_file
from pipeline.content.index import INDEX, RECORDS, read_index, write_index
from pipeline.content.stores import committed_shards, remove_temporaries, shard_name
from pipeline.declaration import PROJECT, Stage, read_entries, stage_of
from pipeline.errors import UserError
from pipeline.integrity import reopen_store
from pipeline.parameters import PARAMETERS_FILE, content_of

WORK = Path(".work")
LOCK_SECONDS = 10.0  # an orphan of a killed `dvc repro` ends within one second


@dataclass(frozen=True)
class Work:
    """The resumable state of a stage, which this process holds until it publishes.

    Attributes:
        command: the stage and its arguments, as on the command line: "synthesize z".
        folder: the folder of the state.
        lock: the file that this process has locked; None if another process writes.
    """

    command: str
    folder: Path
    lock: IO[str] | None

    def publish(self, output: Path, made: Path | None = None) -> None:
        """Move the finished output to its place in out/; remove the former output there, and the state.

        Args:
            output: the place in out/.
            made: a folder in the work folder that is the output; None for the work folder itself.

        Raises:
            SystemExit: this process is an orphan. It leaves everything where it is: the next `dvc repro`
                deletes the output in out/, and finds the state here.
        """
        if is_orphan():
            raise SystemExit(1)
        assert self.lock is not None, f"{self.folder} is another process's to publish"
        made = made or self.folder
        index = read_index(made) if (made / INDEX).exists() else {}
        # Files of no shard are hashed now: a run that was killed here before may have recorded other content.
        inputs, _, _ = str(self.folder.relative_to(WORK)).rpartition("-")
        index |= {"files": {}, "made_by": self.command, "work": inputs}
        write_index(made, index)
        former = self.folder.with_name(f"{self.folder.name}.former")
        shutil.rmtree(former, ignore_errors=True)
        if output.exists():
            output.replace(former)  # as a whole: a half removed output could be taken for a complete one
        output.parent.mkdir(parents=True, exist_ok=True)
        made.replace(output)
        shutil.rmtree(former, ignore_errors=True)
        # After the move: without its records, a run that is killed before it would start from zero.
        shutil.rmtree(output / RECORDS, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # it still holds the state of a training
        Path(self.lock.name).unlink()
        self.lock.close()


def digest_of(inputs: Iterable[Path], parameters: Any) -> str:
    """Hash files, folders and JSON-like parameters.

    Args:
        inputs: files and folders, which need not exist. A folder with an index counts by its index.
        parameters: anything that JSON can write; other values count by their text.

    Returns:
        The first 16 hexadecimal digits of a sha256.
    """
    hashes = [line for path in inputs for line in _hashes(path)]
    text = json.dumps([hashes, parameters], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hashes(path: Path) -> list[str]:
    """Return the sha256 of a file; of a folder its index's or, without one, each file's with its name."""
    if path.is_file():
        return [sha256_of_file(path)]
    if (path / INDEX).is_file():
        return [sha256_of_file(path / INDEX)]
    if path.is_dir():
        entries = sorted(entry for entry in path.iterdir() if entry.name != "__pycache__")
        return [f"{entry.name} {line}" for entry in entries for line in _hashes(entry)]
    return ["missing"]


def _declared(command: str) -> Stage:
    return stage_of(command, read_entries(), content_of(PARAMETERS_FILE))


def _work_of(stage: Stage, inputs: str) -> Path:
    """Return the work folder of a stage with its code as it is now, for the digest of its inputs."""
    code = digest_of((PROJECT / path for path in stage.code), stage.code)
    return WORK / stage.command.replace(" ", "-") / f"{inputs}-{code}"


def work_folder(command: str, found: Any = None, writes: bool = True) -> Work:
    """Take up a stage's work: make its folder if it is not there, and lock it until it is published.

    A `UserError` says so if another process goes on writing there, or if dvc.yaml has no such stage.

    Args:
        command: the stage and its arguments, as on the command line: "synthesize z".
        found: inputs that the stage depends on and that dvc.yaml cannot name, JSON-like: a user's own table.
        writes: false in the processes of a training that leave the writing to the main one.

    Returns:
        The state.
    """
    stage = _declared(command)
    folder = _work_of(stage, digest_of(map(Path, stage.data), [stage.data, stage.params, found]))
    lock = None
    if writes:
        lock = _lock(folder)
        remove_temporaries(folder, committed_shards(folder))
    folder.mkdir(parents=True, exist_ok=True)
    return Work(command, folder, lock)


def reopen(output: Path, faulty: Sequence[str]) -> None:
    """Take an output back from out/, as a run that was interrupted before it made the faulty files again.

    A store is moved to its work folder; an output without shards is removed.

    Args:
        output: the output's folder in out/.
        faulty: the names of its faulty files.

    Raises:
        UserError: the index names a work folder that does not belong to the stage that it names. Files that
            an index names are removed, so it is believed only if both agree.
    """
    index = read_index(output)
    command, work = str(index.get("made_by")), str(index.get("work"))
    name, _, inputs = work.rpartition("/")
    if name != command.replace(" ", "-") or not re.fullmatch("[0-9a-f]{16}", inputs):
        raise UserError(
            f"{output / INDEX} names {work!r} as the work of stage {command!r}, which is none: remove "
            f"{output}, and `dvc repro` makes it again."
        )
    folder = _work_of(_declared(command), inputs)
    lock = _lock(folder)
    if "shards" in index:
        if folder.exists():
            shutil.rmtree(folder)
        output.replace(folder)
        reopen_store(folder, faulty)
    else:
        shutil.rmtree(output)
    Path(lock.name).unlink()
    lock.close()


@contextmanager
def making(folder: Path, shard: int) -> Iterator[None]:
    """Hold a shard's lock, so that no other process makes the shard; wait for the process that holds it.

    A task of a scheduler goes on when the run that asked for it is killed, and the next run asks for the
    same shard: the second to hold the lock finds it committed. The lock file lies among the records: it goes
    with them when the store is published, for which every shard must have been committed under its lock.
    A `UserError` says so if the store was published or removed, and so is not being made any more.

    Args:
        folder: the folder of the unfinished store.
        shard: the shard's number.

    Yields:
        Nothing; the lock is held meanwhile.
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
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(folder: Path) -> IO[str]:
    """Lock a work folder for this process; the lock file says which process holds it."""
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
