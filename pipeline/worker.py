"""What makes shards in one process: set up once, it makes the shard of a number as often as it is asked.

Setting up loads what all shards need (a generator, a table) and gives the function that makes one of them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.content.stores import committed_shard
from pipeline.work import making

Record = dict[str, Any]
Advancing = Callable[[int], object]  # called with the number of items just done
MakeShard = Callable[[int, Advancing], Record]  # commits the shard of a number
SetUp = Callable[[], MakeShard]  # picklable: it may run in another process

Outcomes = Iterator[tuple[int, Record | BaseException]]  # of shards by number, in any order

AT_ONCE_ON_GPU = 2  # shards of a worker: one computes while the other is written


class Worker:
    """What makes shards in one process. `start` sets it up, where it is to run."""

    def __init__(self, folder: Path, set_up: SetUp) -> None:
        self.folder, self.set_up = folder, set_up

    def start(self) -> None:
        """Load what makes shards, which later calls use."""
        self.make = self.set_up()

    def __call__(self, shard: int, at: Callable[[int, int], object]) -> Record:
        """The record of a shard: made now, unless a worker, lost or of a killed run, has committed it."""
        done = 0

        def advance(items: int) -> None:
            nonlocal done
            done += items
            at(shard, done)

        with making(self.folder, shard):
            record = committed_shard(self.folder, shard)
            return self.make(shard, advance) if record is None else record
