"""Measurement: ratios from alternating runs, the memory of a process, and the table of results."""

import ctypes
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5  # alternating runs of each function
SHORTEST = 0.5  # seconds of a run; quicker functions are called several times


@dataclass(frozen=True)
class Result:
    """One figure and its target.

    Attributes:
        key: its name in results.json.
        value: a ratio, unless the key names a unit.
        target: the bound; None for a figure that is given for information.
        at_least: whether the target is a lower bound, or an upper one.
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
    """Return how long a call takes, from as many calls as fill `SHORTEST`; `prepare` does not count."""
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
    """Compare two functions by the medians of alternating runs, after one call of each to warm up.

    Args:
        baseline: the function to compare with.
        ours: the function to measure.
        rounds: how often each is timed.
        prepare: runs before each call of ours, and does not count.

    Returns:
        baseline / ours, seconds of the baseline, seconds of ours.
    """
    baseline()
    prepare()
    ours()
    times = [(seconds(baseline), seconds(ours, prepare)) for _ in range(rounds)]
    ratio = statistics.median(b / o for b, o in times)
    return ratio, statistics.median(b for b, _ in times), statistics.median(o for _, o in times)


def resident_bytes() -> int:
    """Return the memory that this process uses (resident set), in bytes, without what it has freed."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # only glibc has it
        libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """Return the peak memory of this process, in bytes (unlike rusage, without its parent's)."""
    return _status_bytes("VmHWM")


def own_bytes() -> int:
    """Return the memory that is this process's alone, in bytes: without the files that it maps."""
    return _status_bytes("RssAnon")


def _status_bytes(name: str) -> int:
    """Return an entry of the kernel's status of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
