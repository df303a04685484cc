"""A training in several processes: as many as `runtime.processes` says, or as a launcher has started."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import ParamSpec

import torch

from pipeline.errors import UserError
from pipeline.parameters import Runtime, read_runtime
from pipeline.runtime import resolve_device

STARTED = "ZPRIME_STARTED"  # in the environment of the processes that `_run_again` started

Arguments = ParamSpec("Arguments")


def in_processes(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """A training stage's function, so that calling it runs it in `runtime.processes` processes.

    The stage's command is started again in each of them. Where a launcher has done that already
    (`accelerate launch`, `torchrun`), its processes are used.
    """

    @functools.wraps(main)
    def in_each(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if "WORLD_SIZE" in os.environ:
            _join()
        elif (runtime := read_runtime()).processes > 1:
            sys.exit(_run_again(runtime))
        main(*args, **kwargs)

    return in_each


def _run_again(runtime: Runtime) -> int:
    """Run this very command in several processes at once; gives the status to exit with."""
    _refuse_missing_gpus(runtime)
    main = sys.modules["__main__"].__spec__
    assert main is not None  # a stage is run by `python -m`
    # What `accelerate launch` starts with --multi_gpu; with --cpu, and without MPI, it is a single process.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, f"--nproc-per-node={runtime.processes}", "-m", main.name, *sys.argv[1:]]
    threads = max(1, (os.cpu_count() or 1) // runtime.processes)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, STARTED: "1"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as processes:
        assert processes.stderr is not None
        _pass_on(processes.stderr)
    return processes.returncode


def _refuse_missing_gpus(runtime: Runtime) -> None:
    device = resolve_device(runtime)
    if device.type != "cuda":
        return
    if device.index is not None:
        raise UserError(
            f"runtime.device {runtime.device} is one GPU, and runtime.processes is {runtime.processes}: use "
            "cuda, or 1 process."
        )
    if runtime.processes > torch.cuda.device_count():
        raise UserError(
            f"runtime.processes is {runtime.processes}, but torch finds {torch.cuda.device_count()} GPU(s): "
            "each process needs one."
        )


def _pass_on(lines: Iterable[str]) -> None:
    """Show what the processes say on stderr, up to the first error in one sentence.

    The other processes may say the same, or that they have lost the first; the launcher repeats it all.
    """
    lines = iter(lines)
    for line in lines:
        print(line, end="", file=sys.stderr, flush=True)
        if line.startswith("error: "):
            break
    for _ in lines:  # or writing them would block the processes
        pass


def _join() -> None:
    """Make this one of several processes: only the first prints, and none outlives whoever started it."""
    if os.environ.get("RANK", "0") != "0":
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if STARTED in os.environ:
        threading.Thread(target=_end_with_the_starter, daemon=True).start()


def _end_with_the_starter() -> None:
    """Leave when the process that holds the other end of stdin is gone, killed perhaps."""
    os.read(0, 1)
    os._exit(1)
