"""Makes shards on Dask workers: local processes, or those of a running scheduler that share this folder."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import dask
from distributed import Client, Future, LocalCluster, WorkerPlugin, get_worker
from distributed import Worker as DaskWorker
from distributed.comm.core import CommClosedError, connect
from distributed.scheduler import KilledWorker

from pipeline.errors import UserError
from pipeline.parameters import Cluster
from pipeline.work import WORK
from pipeline.worker import AT_ONCE_ON_GPU, Outcomes, Record, Worker

START_SECONDS = 25.0  # for a scheduler to answer and to have a worker
LOST_SECONDS = 30.0  # without any worker in mid-run: replacing a lost one may take as long
POLL_SECONDS = 5.0


class ShardPlugin(WorkerPlugin):
    """Worker plugin: sets up the maker of shards once per Dask worker, including workers that join late.

    Args:
        worker: makes the shards.
        project: the folder that all paths are relative to, shared by all workers.
        threads: torch's number of threads; None leaves it as the worker was started.
        gpus: the number of GPUs that local workers share; 0 leaves the visible GPUs as they are.
    """

    def __init__(self, worker: Worker, project: Path, threads: int | None, gpus: int) -> None:
        self.worker, self.project, self.threads, self.gpus = worker, project, threads, gpus

    def setup(self, worker: DaskWorker) -> None:
        """Change to the project's folder, choose this worker's GPU, and set up the maker of shards.

        Args:
            worker: Dask's worker.

        Raises:
            UserError: the worker does not see the project's folder.
        """
        if not (self.project / WORK).is_dir():
            raise UserError(
                f"cluster: the worker at {worker.address} does not see {self.project}: workers need the "
                "project's folder under the same path, on a shared file system."
            )
        os.chdir(self.project)
        if self.gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            os.environ["CUDA_VISIBLE_DEVICES"] = _gpu_of(int(worker.name), self.gpus, visible)
        self.worker.start()


def _make_shard(shard: int, run_name: str) -> Record:
    """Run as a Dask task: make a shard with the plugin that this worker keeps under the name of the run."""
    dask_worker = get_worker()
    plugin = dask_worker.plugins[run_name]
    assert isinstance(plugin, ShardPlugin)
    if plugin.threads and "torch" in sys.modules:  # here: torch keeps this number per thread
        sys.modules["torch"].set_num_threads(plugin.threads)

    def at(shard: int, items: int) -> None:
        dask_worker.log_event(run_name, (shard, items))

    return plugin.worker(shard, at)


def run(
    missing: Sequence[int], worker: Worker, cluster: Cluster, gpus: int, at: Callable[[int, int], object]
) -> Outcomes:
    """Make shards on Dask.

    Args:
        missing: the numbers of the shards to make.
        worker: makes the shards in each worker's process.
        cluster: local workers, or the address of a scheduler.
        gpus: the number of this machine's GPUs, for local workers.
        at: called with a shard's number and how many of its items are done.

    Yields:
        The number of each shard, with its record or with the exception that it failed with, in any order.

    Raises:
        UserError: the scheduler or all workers are lost.
    """
    with _client(cluster, gpus) as client:
        # The name of this locked work folder: a scheduler may serve several; after a kill, the next run of
        # the same work takes over its name.
        name = f"zprime {worker.folder.resolve()}"
        try:
            client.subscribe_topic(name, lambda event: at(*event[1]))
            client.register_plugin(
                ShardPlugin(worker, Path.cwd(), _threads_per_worker(cluster, gpus), gpus), name=name
            )
            blamed: dict[int, KilledWorker] = {}
            for shard, outcome in _made(client, missing, name):
                if isinstance(outcome, KilledWorker):
                    blamed[shard] = outcome
                else:
                    yield shard, outcome
            # Dask blames a worker's death on every task that it held: try each of several once more, alone.
            for shard, killed in blamed.items():
                yield from _made(client, [shard], name) if len(blamed) > 1 else [(shard, killed)]
        except (CommClosedError, CancelledError) as error:  # a lost connection cancels every task
            raise UserError(
                "cluster: the connection to the Dask scheduler is lost: see whether it still runs, and run "
                "the same again; finished shards are kept."
            ) from error
        finally:
            if client.status == "running":  # else this would wait for a scheduler that is gone
                with suppress(OSError):
                    client.unregister_worker_plugin(name)


def _made(client: Client, shards: Sequence[int], run_name: str) -> Outcomes:
    futures = {client.submit(_make_shard, shard, run_name, pure=False): shard for shard in shards}
    for future, outcome in _as_finished(client, list(futures)):
        yield futures.pop(future), outcome


def _as_finished(
    client: Client, futures: Sequence[Future[Record]]
) -> Iterator[tuple[Future[Record], Record | BaseException]]:
    """Yield tasks with their outcomes as they end; raise `UserError` without workers: Dask waits for ever."""
    ended: Queue[Future[Record]] = Queue()
    for submitted in futures:
        submitted.add_done_callback(ended.put)
    left, alive = len(futures), time.monotonic()
    while left:
        future: Future[Record] | None = None
        try:
            future = ended.get(timeout=POLL_SECONDS)
            error = future.exception(POLL_SECONDS)
            outcome = future.result(POLL_SECONDS) if error is None else error
        except (Empty, TimeoutError):
            if future is not None:  # its worker was lost before it sent the record: ask another
                future.add_done_callback(ended.put)
            if client.nthreads():
                alive = time.monotonic()
            elif time.monotonic() - alive > LOST_SECONDS:
                raise UserError(
                    f"cluster: there has been no worker for {LOST_SECONDS:.0f} s: start some and run the "
                    "same again; finished shards are kept."
                ) from None
            continue
        left, alive = left - 1, time.monotonic()
        yield future, outcome


def _gpu_of(worker: int, gpus: int, visible: str | None) -> str:
    """Choose the GPU of a local worker, for CUDA_VISIBLE_DEVICES: the visible GPUs are dealt out in turn."""
    return (visible.split(",") if visible else list(map(str, range(gpus))))[worker % gpus]


def _local_workers(cluster: Cluster, gpus: int) -> int:
    return cluster.workers or gpus or os.cpu_count() or 1


def _threads_per_worker(cluster: Cluster, gpus: int) -> int | None:
    if cluster.threads is None and cluster.mode == "local":
        return max(1, (os.cpu_count() or 1) // _local_workers(cluster, gpus))
    return cluster.threads


async def _greet(address: str) -> None:
    """Connect once: if something else than Dask listens there, the client itself would wait for ever."""
    comm = await connect(address, timeout=START_SECONDS)
    await comm.close()


@contextmanager
def _client(cluster: Cluster, gpus: int) -> Iterator[Any]:
    if cluster.mode == "local":
        (WORK / "dask").mkdir(parents=True, exist_ok=True)
        # One task per thread and no more: Dask blames a worker's death on every task that it holds.
        with (
            dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
            LocalCluster(
                n_workers=_local_workers(cluster, gpus),
                threads_per_worker=AT_ONCE_ON_GPU if gpus else 1,
                memory_limit=0,  # a worker holds nothing but its shard: nothing to spill
                dashboard_address=None,
                local_directory=str(WORK / "dask"),
                silence_logs=logging.CRITICAL,  # errors of workers are raised here, and reported once
            ) as local,
            Client(local) as client,
        ):
            yield client
        return
    address = cluster.address or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        raise UserError("cluster.mode is scheduler: set cluster.address or DASK_SCHEDULER_ADDRESS.")
    for logger in ("distributed.client", "asyncio"):  # `run` reports lost connections itself
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    end = time.monotonic() + START_SECONDS

    def left() -> float:
        return max(end - time.monotonic(), 0.1)

    try:
        asyncio.run(asyncio.wait_for(_greet(address), left()))
        client = Client(address, timeout=left() / 3)  # the client takes this time for each of three steps
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"cluster: no Dask scheduler answers at {address} within {START_SECONDS:.0f} s: start one "
            "(`dask scheduler`), or correct cluster.address."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=left())
        except TimeoutError as error:
            raise UserError(
                f"cluster: the scheduler at {address} has no worker after {START_SECONDS:.0f} s: start some "
                f"in this folder (`python -m dask worker {address}`)."
            ) from error
        yield client
