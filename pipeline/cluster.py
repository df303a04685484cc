"""Makes the shards of a store: in this process, on local processes, or on a running Dask scheduler.

A task is a shard's number; a worker (`pipeline.worker`) commits the shard to disk and returns its small
record. So a shard is finished when its record is on disk: a lost worker costs the shard that it was making,
no more.
"""

import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from pipeline.content.index import RECORDS
from pipeline.content.stores import committed_shards
from pipeline.errors import UserError, sentence_of_os_error
from pipeline.parameters import Cluster, Runtime
from pipeline.progress import Advance, progress
from pipeline.worker import AT_ONCE_ON_GPU, Advancing, MakeShard, Outcomes, Record, SetUp, Worker

__all__ = ["Advancing", "MakeShard", "Record", "gpus_of", "make_shards"]  # for a stage that makes shards


def make_shards(
    description: str,
    folder: Path,
    sizes: Sequence[int],
    set_up: SetUp,
    cluster: Cluster,
    unit: str = "images",
    runtime: Runtime | None = None,
) -> dict[int, Record]:
    """Make every shard of the store in `folder` that is not committed there.

    A shard that fails does not stop the others: all are tried before the error is raised.

    Args:
        description: what the shards are, as progress and errors name it.
        folder: the folder of the unfinished store.
        sizes: the number of items in each shard, for the progress.
        set_up: called once in each worker's process; returns the function that makes a shard there.
        cluster: where the shards are made, and on how many workers.
        unit: what the progress counts.
        runtime: the device that the workers compute on; None if the shards do not use torch. On a GPU a
            worker makes `AT_ONCE_ON_GPU` shards at a time. Local workers are one per GPU, or a single one if
            the device has a number.

    Returns:
        The records of all shards, by shard number.

    Raises:
        UserError: a shard failed; it says which, why, and how many shards were made.
    """
    records = committed_shards(folder)
    missing = [shard for shard in range(len(sizes)) if shard not in records]
    if not missing:
        return records
    # Made here, not by a worker: a late worker would make the folder again after the store was published.
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    # This machine's GPUs say nothing of those that a scheduler's workers have.
    gpus = gpus_of(runtime) if cluster.mode != "scheduler" and runtime is not None else 0
    # Making one shard here takes less time than starting local workers.
    inline = cluster.mode == "inline" or (cluster.mode == "local" and len(missing) == 1)
    worker = Worker(folder, set_up)
    failures: dict[int, BaseException] = {}
    done = sum(sizes[shard] for shard in records)
    with progress(description, sum(sizes), unit, done) as advance:
        shown = _Shown(advance, sizes)
        if inline:
            outcomes = _run_inline(missing, worker, gpus > 0, shown.at)
        else:
            from pipeline.dask_cluster import run  # lazy: slow import

            outcomes = run(missing, worker, cluster, gpus, shown.at)
        for shard, outcome in outcomes:
            if isinstance(outcome, BaseException):
                failures[shard] = outcome
            else:
                records[shard] = outcome
                shown.at(shard, sizes[shard])
    if failures:
        raise UserError(_sentence_of(description, failures, len(missing))) from failures[min(failures)]
    return records


def gpus_of(runtime: Runtime) -> int:
    """Count the GPUs that `runtime.device` stands for: none, one by its number, or all of this machine."""
    import torch  # lazy: slow import

    from pipeline.runtime import resolve_device

    device = resolve_device(runtime)
    if device.type != "cuda":
        return 0
    return torch.cuda.device_count() if device.index is None else 1


class _Shown:
    """Shows the progress of shards that are made at the same time, or made again after a worker was lost."""

    def __init__(self, advance: Advance, sizes: Sequence[int]) -> None:
        self.advance, self.sizes = advance, sizes
        self.items: dict[int, int] = {}
        self.lock = threading.Lock()

    def at(self, shard: int, items: int) -> None:
        """Show that `items` items of a shard are done; items that were counted before count once."""
        with self.lock:
            more = min(items, self.sizes[shard]) - self.items.get(shard, 0)
            if more > 0:
                self.items[shard] = self.items.get(shard, 0) + more
                self.advance(more)


def _sentence_of(description: str, failures: dict[int, BaseException], tried: int) -> str:
    """Describe the failed shards in one sentence; print the traceback first if a defect is the cause."""
    shard, error = min(failures.items())
    if isinstance(error, UserError):
        reason = str(error)
    elif isinstance(error, OSError) and error.strerror:
        reason = sentence_of_os_error(error)
    elif type(error).__name__ == "KilledWorker":
        reason = "every worker that made it died, killed or out of memory."
    else:
        traceback.print_exception(error)
        reason = f"{type(error).__name__}: {error}."
    others = f" {len(failures)} shards failed;" if len(failures) > 1 else ""
    return (
        f"{description}: shard {shard} failed: {reason}{others} {tried - len(failures)} of {tried} were made "
        "and are kept."
    )


def _run_inline(
    missing: Sequence[int], worker: Worker, on_gpu: bool, at: Callable[[int, int], object]
) -> Outcomes:
    worker.start()
    if not on_gpu:
        for shard in missing:
            try:
                yield shard, worker(shard, at)
            except Exception as error:
                yield shard, error
        return
    with ThreadPoolExecutor(max_workers=AT_ONCE_ON_GPU) as threads:
        futures: dict[Future[Record], int] = {threads.submit(worker, shard, at): shard for shard in missing}
        try:
            for future in as_completed(futures):
                yield futures[future], future.exception() or future.result()
        finally:
            threads.shutdown(cancel_futures=True)
