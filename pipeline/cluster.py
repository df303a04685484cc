"""Maps a function over shards: in this process, on local processes, or on a running Dask scheduler.

A task is a shard's number and small arguments; it writes its shard to disk and returns a small record,
so that a lost worker costs at most its shard.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.errors import UserError
from pipeline.parameters import Cluster
from pipeline.work import WORK

Result = TypeVar("Result")

CONNECT_SECONDS = 30


def map_shards(
    function: Callable[..., Result],
    shards: Sequence[int],
    arguments: Callable[[int], tuple[Any, ...]],
    cluster: Cluster,
    on_result: Callable[[int, Result], None],
) -> None:
    """Call ``function(shard, *arguments(shard))`` for every shard; results come in any order.

    Args:
        function: importable by name, as it may run in another process.
        arguments: the further arguments of a shard, small and picklable.
        on_result: called in this process with (shard, result) as soon as each is there.

    An exception of the function is raised here, after the shards that run have been let go.
    """
    if not shards:
        return
    if cluster.mode == "inline":
        for shard in shards:
            on_result(shard, function(shard, *arguments(shard)))
        return
    from distributed import as_completed

    with _client(cluster) as client:
        futures = {}
        for shard in shards:
            future = client.submit(function, shard, *arguments(shard), pure=False)
            futures[future] = shard
        for future in as_completed(list(futures)):
            on_result(futures.pop(future), future.result())


@contextmanager
def _client(cluster: Cluster) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    if cluster.mode == "local":
        (WORK / "dask").mkdir(parents=True, exist_ok=True)
        with (
            LocalCluster(
                n_workers=cluster.worker_count(os.cpu_count() or 1),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                local_directory=str(WORK / "dask"),
                # What fails in a worker is raised here, and said once.
                silence_logs=logging.CRITICAL,
            ) as local,
            Client(local) as client,
        ):
            yield client
        return
    address = cluster.address or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        raise UserError("cluster.mode is scheduler: set cluster.address or DASK_SCHEDULER_ADDRESS.")
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"cluster: no Dask scheduler answers at {address} within {CONNECT_SECONDS} s."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise UserError(f"cluster: the scheduler at {address} has no worker.") from error
        yield client
