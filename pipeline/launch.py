"""Runs a training in several processes: as many as `runtime.processes` says, or as a launcher has started."""

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
    """Wrap a training stage's function, so that calling it runs it in `runtime.processes` processes.

    The stage's command is started again in each of them. If a launcher has done that already
    (`accelerate launch`, `torchrun`), its processes are used.

    Args:
        main: the stage's function.

    Returns:
        A function with the same arguments. The process that starts the others does not return from it: it
        exits with their status.
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
    """Run this very command in several processes at once; return the status to exit with."""
    _refuse_missing_gpus(runtime)
    main = sys.modules["__main__"].__spec__
    assert main is not None  # a stage is run by `python -m`
    # As `accelerate launch --multi_gpu` starts it; with --cpu and without MPI it would start one process.
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
    """Print what the processes write to stderr, up to the first error in one sentence.

    The other processes may report the same error, or that they have lost the first process; the launcher
    repeats it all.

    Args:
        lines: the lines of their stderr.
    """
    lines = iter(lines)
    for line in lines:
        print(line, end="", file=sys.stderr, flush=True)
        if line.startswith("error: "):
            break
    for _ in lines:  # read on, or the processes would block when they write
        pass


def _join() -> None:
    """Make this one of several processes: only the first prints; none outlives the one that started it."""
    if os.environ.get("RANK", "0") != "0":
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if STARTED in os.environ:
        threading.Thread(target=_end_with_the_starter, daemon=True).start()


def _end_with_the_starter() -> None:
    """Exit when the process that holds the other end of stdin is gone (killed, say)."""
    os.read(0, 1)
    os._exit(1)
