"""How tests start processes, wait for them, and end them: real ones, that a SIGKILL really ends."""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PROJECT = Path(__file__).parents[1]

# What takes seconds to import and what every stage imports. No module of stages/ is here: tests run those of
# a copy of the project, too, and a module that is run must not have been imported before.
PRELOADED = [
    "accelerate", "distributed", "h5py", "numpy", "pandas", "pyarrow.parquet", "sklearn.svm", "torch",
    "torchvision", "typer",
    "pipeline.content.stores", "pipeline.parameters", "pipeline.stage", "pipeline.work",
]  # fmt: skip
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def start_server() -> None:
    """Start what processes are forked from, before somebody else does who would import other things."""
    multiprocessing.forkserver.ensure_running()


def environment(code: Path = PROJECT, **changes: str) -> dict[str, str]:
    """The environment of a command that is to run the code in a folder, and not as a stage that DVC started.

    With the project's commands, the shell that DVC uses where none is set, and nobody's settings of git.
    """
    own = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", "PYTHONUNBUFFERED")}
    return {
        **own,
        "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(code),
        "SHELL": "/bin/sh",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **changes,
    }


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so; fail where it is not after so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    """Whether the process of a number runs; one that has ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class ForkedPython:
    """A process that does what `python ARGUMENTS` does, without the seconds that imports take.

    It is forked from a server that has imported `PRELOADED`; its number, its end and its exit status are its
    own, and a SIGKILL ends it as any other process. What it says goes to files.

    Args:
        arguments: `-m MODULE`, or `-c SCRIPT`, and what follows.
        cwd: where it runs; its modules come first.
        env: its environment; what libraries read while they are imported is as in the test's.
    """

    def __init__(
        self, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.args = [str(argument) for argument in arguments]
        self._folder = tempfile.TemporaryDirectory(prefix="python-")
        self._said, self._complained = (Path(self._folder.name, name) for name in ("stdout", "stderr"))
        self._process: ForkServerProcess = _context.Process(
            target=_as_python,
            args=(self.args, str(cwd or Path.cwd()), dict(env or environment())),
            kwargs={"said": str(self._said), "complained": str(self._complained)},
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal's number of what a signal ended; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self, timeout: float = 600.0) -> int:
        """Wait for the end, and give the exit status."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def communicate(self, timeout: float = 600.0) -> tuple[str, str]:
        """Wait for the end; what was written to stdout and to stderr."""
        self.wait(timeout)
        return self._said.read_text(), self._complained.read_text()


def run_python(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Run what `python ARGUMENTS` would run, to its end (see `ForkedPython`)."""
    process = ForkedPython(*arguments, cwd=cwd, env=env)
    try:
        said, complained = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), said, complained)


def run_in_two(*arguments: object, cwd: Path | None = None) -> None:
    """Run what `python ARGUMENTS` would run in two processes, as `torchrun` does, but forked."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = [
        ForkedPython(*arguments, cwd=cwd, env=environment(**place, **sizes, RANK=rank, LOCAL_RANK=rank))
        for rank in ("0", "1")
    ]
    try:
        for process in both:
            _, complained = process.communicate()
            assert process.returncode == 0, complained
    finally:
        for process in both:
            process.kill()
            process.wait()


# Asks for what `python ARGUMENTS` does, and ends as it does.
CLIENT = """#!{python} -SE
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
    server.sendall(request.encode() + b"\\n")
    status, said, complained = json.load(server.makefile())
sys.stdout.write(said)
sys.stderr.write(complained)
sys.exit(status)
"""


@contextmanager
def forking_python() -> Iterator[Path]:
    """Give a folder whose `python` does what Python does, in processes that are forked (see `ForkedPython`).

    Where it comes first in `PATH`, a command that starts Python many times is spared its imports each time.
    """
    with tempfile.TemporaryDirectory(prefix="python-") as name, socket.socket(socket.AF_UNIX) as server:
        folder, address = Path(name), str(Path(name, "socket"))
        (folder / "python").write_text(CLIENT.format(python=sys.executable, address=address))
        (folder / "python").chmod(0o755)
        server.bind(address)
        server.listen()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield folder
        server.shutdown(socket.SHUT_RDWR)  # which ends the thread's waiting


def _serve(server: socket.socket) -> None:
    """Do what clients ask for, one after the other, until the server is shut."""
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client, client.makefile("rw") as stream:
            arguments, folder, environment = json.loads(stream.readline())
            done = run_python(*arguments, cwd=Path(folder), env=environment)
            # As a shell reports what a signal has ended.
            status = done.returncode if done.returncode >= 0 else 128 - done.returncode
            json.dump([status, done.stdout, done.stderr], stream)


def _as_python(
    arguments: list[str], folder: str, environment: Mapping[str, str], said: str, complained: str
) -> None:
    """Become what `python ARGUMENTS` is, in this process that was just forked."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, stream, number in ((said, sys.stdout, 1), (complained, sys.stderr, 2)):
        stream.flush()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    kind, what, *rest = arguments
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
