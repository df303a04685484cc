"""Makes the shards of a store: in this process, on local processes, or on a running Dask scheduler.

A task is a shard's number; a worker (`pipeline.worker`) commits the shard to disk and gives its small record
back. So completion lives on disk: a lost worker costs the shard that it was making, no more.
"""

import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from pipeline.content.stores import RECORDS, committed_shards
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
    """Make every shard of the store in `folder` that is not committed there; the records of all, by number.

    Args:
        sizes: the number of items in each shard, for the progress.
        set_up: gives a worker its function, once; it runs where the function will.
        runtime: what the workers compute on; None where that is no matter of torch. On a GPU a worker makes
            `AT_ONCE_ON_GPU` shards, and local workers are one per GPU, or a single one where the device has
            a number.

    A shard that fails does not stop the others: a `UserError` names it at the end.
    """
    records = committed_shards(folder)
    missing = [shard for shard in range(len(sizes)) if shard not in records]
    if not missing:
        return records
    # Here: a worker that made it would do so where another run has published the store.
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    # What a scheduler's workers have is no matter of this machine.
    gpus = gpus_of(runtime) if cluster.mode != "scheduler" and runtime is not None else 0
    # One shard is quicker made here than local workers are started.
    inline = cluster.mode == "inline" or (cluster.mode == "local" and len(missing) == 1)
    worker = Worker(folder, set_up)
    failures: dict[int, BaseException] = {}
    done = sum(sizes[shard] for shard in records)
    with progress(description, sum(sizes), unit, done) as advance:
        shown = _Shown(advance, sizes)
        if inline:
            outcomes = _run_inline(missing, worker, gpus > 0, shown.at)
        else:
            from pipeline.dask_cluster import run  # a second to import, and most runs do without

            outcomes = run(missing, worker, cluster, gpus, shown.at)
        for shard, outcome in outcomes:
            if isinstance(outcome, BaseException):
                failures[shard] = outcome
            else:
                records[shard] = outcome
                shown.at(shard, sizes[shard])
    if failures:
        raise _error_of(description, failures, len(missing)) from failures[min(failures)]
    return records


def gpus_of(runtime: Runtime) -> int:
    """How many GPUs the parameters' device stands for: none, one by its number, or all of this machine."""
    import torch  # which takes seconds

    from pipeline.runtime import resolve_device

    device = resolve_device(runtime)
    if device.type != "cuda":
        return 0
    return torch.cuda.device_count() if device.index is None else 1


class _Shown:
    """The progress of shards that are made at the same time, or once more after a worker was lost."""

    def __init__(self, advance: Advance, sizes: Sequence[int]) -> None:
        self.advance, self.sizes = advance, sizes
        self.items: dict[int, int] = {}
        self.lock = threading.Lock()

    def at(self, shard: int, items: int) -> None:
        """`items` of a shard are done."""
        with self.lock:
            more = min(items, self.sizes[shard]) - self.items.get(shard, 0)
            if more > 0:
                self.items[shard] = self.items.get(shard, 0) + more
                self.advance(more)


def _error_of(description: str, failures: dict[int, BaseException], tried: int) -> UserError:
    """What went wrong with the shards, in one sentence; the traceback of a defect goes before it."""
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
    return UserError(
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
