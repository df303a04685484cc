"""Shards on Dask workers: local processes, or those of a running scheduler that share this folder."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed import Worker as DaskWorker
from distributed.comm import connect

from pipeline.cluster import Outcomes, Record, Worker
from pipeline.errors import UserError
from pipeline.parameters import Cluster
from pipeline.work import WORK

CONNECT_SECONDS = 12.0  # for a scheduler to answer
WORKER_SECONDS = 15.0  # for its first worker


class ShardPlugin(WorkerPlugin):
    """Gives every Dask worker, one that joins later too, what makes shards: loaded once, kept.

    Args:
        project: the folder that all paths are relative to, shared by all workers.
        threads: of torch; None leaves them as the worker was started.
        gpus: of this machine, where local workers share them out; 0 leaves that as it is.
    """

    def __init__(self, worker: Worker, project: Path, threads: int | None, gpus: int) -> None:
        self.worker, self.project, self.threads, self.gpus = worker, project, threads, gpus

    def setup(self, worker: DaskWorker) -> None:
        if not (self.project / WORK).is_dir():
            raise UserError(
                f"cluster: the worker at {worker.address} does not see {self.project}: workers need the "
                "project's folder under the same path, on a shared file system."
            )
        os.chdir(self.project)
        if self.gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
            os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(worker.name) % self.gpus]
        self.worker.start()


def _make_shard(shard: int, run_name: str) -> Record:
    """The task: the shard of a number, made by what the plugin of that name keeps on this worker."""
    dask_worker = get_worker()
    plugin = dask_worker.plugins[run_name]
    assert isinstance(plugin, ShardPlugin)
    if plugin.threads and "torch" in sys.modules:  # here, as each thread has a number of its own
        sys.modules["torch"].set_num_threads(plugin.threads)

    def at(shard: int, items: int) -> None:
        dask_worker.log_event(run_name, (shard, items))

    return plugin.worker(shard, at)


def run(
    missing: Sequence[int], worker: Worker, cluster: Cluster, on_gpu: bool, at: Callable[[int, int], object]
) -> Outcomes:
    """Make shards on Dask; each with its record, or with the exception that it failed with, in any order."""
    with _client(cluster, on_gpu) as client:
        # Of this work, which is locked: a scheduler may serve several, and one that was killed is taken over.
        name = f"zprime {worker.folder.resolve()}"
        client.subscribe_topic(name, lambda event: at(*event[1]))
        gpus = _gpus() if on_gpu and cluster.mode == "local" else 0
        client.register_plugin(ShardPlugin(worker, Path.cwd(), _threads(cluster), gpus), name=name)
        try:
            futures = {client.submit(_make_shard, shard, name, pure=False): shard for shard in missing}
            for future in as_completed(list(futures)):
                error = future.exception()
                yield futures.pop(future), future.result() if error is None else error
        finally:
            client.unregister_worker_plugin(name)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _local_workers(cluster: Cluster, on_gpu: bool) -> int:
    return cluster.workers or (_gpus() if on_gpu else os.cpu_count()) or 1


def _threads(cluster: Cluster) -> int | None:
    if cluster.threads is None and cluster.mode == "local":
        return max(1, (os.cpu_count() or 1) // _local_workers(cluster, on_gpu=False))
    return cluster.threads


async def _greet(address: str) -> None:
    """Connect once: the client itself would wait for ever where something else listens."""
    comm = await connect(address, timeout=CONNECT_SECONDS)
    await comm.close()


@contextmanager
def _client(cluster: Cluster, on_gpu: bool) -> Iterator[Any]:
    if cluster.mode == "local":
        (WORK / "dask").mkdir(parents=True, exist_ok=True)
        # A task for each thread and no more: a worker's death is blamed on all that it holds.
        with (
            dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
            LocalCluster(
                n_workers=_local_workers(cluster, on_gpu),
                threads_per_worker=2 if on_gpu else 1,
                memory_limit=0,  # a shard is all that a worker holds: nothing to spill
                dashboard_address=None,
                local_directory=str(WORK / "dask"),
                silence_logs=logging.CRITICAL,  # what fails in a worker is raised here, and said once
            ) as local,
            Client(local) as client,
        ):
            yield client
        return
    address = cluster.address or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        raise UserError("cluster.mode is scheduler: set cluster.address or DASK_SCHEDULER_ADDRESS.")
    try:
        asyncio.run(asyncio.wait_for(_greet(address), CONNECT_SECONDS))
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"cluster: no Dask scheduler answers at {address} within {CONNECT_SECONDS:.0f} s: start one "
            "(`dask scheduler`), or correct cluster.address."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise UserError(
                f"cluster: the scheduler at {address} has no worker after {WORKER_SECONDS:.0f} s: start some "
                f"in this folder (`dask worker {address}`)."
            ) from error
        yield client
