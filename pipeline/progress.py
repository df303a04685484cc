"""Shows the progress of long work: a bar with rate and time left, or plain lines without a terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 15.0


class Advance(Protocol):
    """The function that `progress` yields: call it with the number of items just done, and a note to show."""

    def __call__(self, items: int = 1, note: str = "") -> None:
        """Count `items` as done; show `note` beside them."""
        ...


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Show the task's rate, in units per second."""
        return Text(f"{task.speed or 0.0:,.1f} {self.unit}/s", style="progress.data.speed")


def _plain_line(description: str, done: int, total: int, rate: float, unit: str, note: str) -> str:
    left = (total - done) / rate if rate > 0 else 0.0
    line = f"{description}: {done:,}/{total:,} {unit}, {rate:,.1f} {unit}/s, {left:,.0f} s left"
    return f"{line}, {note}" if note else line


@contextmanager
def progress(description: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show the progress of `total` items, of which `done` were finished by an earlier run."""
    console = Console()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            _RateColumn(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total, completed=done, note="")

            def advance(items: int = 1, note: str = "") -> None:
                bar.update(task, advance=items, note=note)

            yield advance
        return

    start = last = time.monotonic()
    finished = done

    def advance_plainly(items: int = 1, note: str = "") -> None:
        nonlocal last, finished
        finished += items
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            rate = (finished - done) / (now - start)
            print(_plain_line(description, finished, total, rate, unit, note), flush=True)

    yield advance_plainly
    seconds = time.monotonic() - start
    print(f"{description}: {finished:,} {unit} in {seconds:,.1f} s", flush=True)
