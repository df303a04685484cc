"""Makes shards in one process: after one set-up, it makes the shard of a number as often as it is asked.

Setting up loads what all shards need (a generator, a table) and returns the function that makes one shard.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.content.index import ShardRecord
from pipeline.content.stores import committed_shard
from pipeline.work import making

Record = ShardRecord
Advancing = Callable[[int], object]  # called with the number of items just done
MakeShard = Callable[[int, Advancing], Record]  # commits the shard of a number
SetUp = Callable[[], MakeShard]  # picklable: it may run in another process

Outcomes = Iterator[tuple[int, Record | BaseException]]  # the shards' numbers and outcomes, in any order

AT_ONCE_ON_GPU = 2  # shards of a worker: one computes while the other is written


class Worker:
    """Makes shards in one process, after `start` has set it up there.

    Args:
        folder: the folder of the unfinished store.
        set_up: returns the function that makes a shard; called once, in the process that makes shards.
    """

    def __init__(self, folder: Path, set_up: SetUp) -> None:
        self.folder, self.set_up = folder, set_up

    def start(self) -> None:
        """Load the data that making shards needs; later calls use it."""
        self.make = self.set_up()

    def __call__(self, shard: int, at: Callable[[int, int], object]) -> Record:
        """Return a shard's record; make the shard unless another worker, lost perhaps, has committed it."""
        done = 0

        def advance(items: int) -> None:
            nonlocal done
            done += items
            at(shard, done)

        with making(self.folder, shard):
            record = committed_shard(self.folder, shard)
            return self.make(shard, advance) if record is None else record
