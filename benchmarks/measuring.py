"""Ratios from alternating runs, the memory of a process, and the table of results."""

import ctypes
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5  # alternating runs of what is compared
SHORTEST = 0.5  # seconds of a run: what is quicker is called several times


@dataclass(frozen=True)
class Result:
    """One figure and what it should be.

    Attributes:
        key: its name in results.json.
        value: a ratio, unless the key names a unit.
        target: the bound; None for a figure that is given for information.
        at_least: whether `value` is to be at least the target, or at most.
        detail: the absolute figures behind it.
    """

    key: str
    value: float
    target: float | None
    at_least: bool
    detail: str

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def seconds(run: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    """How long a call takes, from as many calls as fill `SHORTEST`; what comes before each does not count."""
    calls, taken = 0, 0.0
    while calls == 0 or taken < SHORTEST:
        prepare()
        start = time.perf_counter()
        run()
        taken += time.perf_counter() - start
        calls += 1
    return taken / calls


def compare(
    baseline: Callable[[], object],
    ours: Callable[[], object],
    rounds: int = ROUNDS,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[float, float, float]:
    """(baseline / ours, seconds of the baseline, seconds of ours): medians of alternating runs.

    Each is called once before, to warm up.

    Args:
        prepare: what is to be done before each of ours, and does not count.
    """
    baseline()
    prepare()
    ours()
    times = [(seconds(baseline), seconds(ours, prepare)) for _ in range(rounds)]
    ratio = statistics.median(b / o for b, o in times)
    return ratio, statistics.median(b for b, _ in times), statistics.median(o for _, o in times)


def resident_bytes() -> int:
    """The memory that this process has in use (resident set), in bytes; what it has freed does not count."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc's
        libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most memory that this process ever had in use, in bytes (not what its parent had, as in rusage)."""
    return _status_bytes("VmHWM")


def own_bytes() -> int:
    """The memory that is this process's alone, in bytes: without the files that it maps."""
    return _status_bytes("RssAnon")


def _status_bytes(name: str) -> int:
    """An entry of the kernel's account of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
