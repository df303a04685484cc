"""Shards over a cluster: every result once, the same in this process and on others; what goes wrong."""

import os
import socket
from contextlib import nullcontext

import pytest

from pipeline import cluster
from pipeline.cluster import map_shards
from pipeline.errors import UserError
from pipeline.parameters import Cluster
from pipeline.seeds import derived_seed

INLINE = Cluster(mode="inline")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Workers keep their files under .work of the folder they are started in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)


def results_of(settings: Cluster, shards: list[int], function=derived_seed) -> list[tuple[int, object]]:
    results: list[tuple[int, object]] = []
    map_shards(
        function, shards, lambda shard: ("purpose", shard * 10), settings, lambda *pair: results.append(pair)
    )
    return results


EXPECTED = [(shard, derived_seed(shard, "purpose", shard * 10)) for shard in (4, 0, 7, 2, 9)]


def test_inline_gives_each_shard_its_arguments_and_its_result():
    assert results_of(INLINE, [4, 0, 7, 2, 9]) == EXPECTED


def test_inline_results_come_as_they_are_made():
    """So that what was finished before a failure has been recorded."""
    seen: list[int] = []

    def function(shard: int) -> int:
        if shard == 3:
            raise RuntimeError("shard 3 fails")
        return shard

    with pytest.raises(RuntimeError, match="shard 3 fails"):
        map_shards(
            function, [1, 2, 3, 4], lambda shard: (), INLINE, lambda shard, result: seen.append(result)
        )
    assert seen == [1, 2]


@pytest.mark.parametrize("mode", ["inline", "local", "scheduler"])
def test_without_shards_nothing_is_started(mode, monkeypatch):
    monkeypatch.setattr(cluster, "_client", lambda settings: pytest.fail("a cluster was started"))
    assert results_of(Cluster(mode=mode), []) == []


def test_two_processes_give_what_this_one_gives_and_raise_what_it_raises(monkeypatch):
    """On one cluster for all of it, as it takes seconds to start."""

    def seed_and_process(shard: int, purpose: str, number: int) -> tuple[int, int]:
        return derived_seed(shard, purpose, number), os.getpid()

    def failing(shard: int, purpose: str, number: int) -> int:
        if shard == 7:
            raise UserError("shard 7 fails")
        return shard

    settings = Cluster(mode="local", workers=2)
    with cluster._client(settings) as client:
        monkeypatch.setattr(cluster, "_client", lambda settings: nullcontext(client))
        assert len(client.scheduler_info()["workers"]) == 2
        results = results_of(settings, [4, 0, 7, 2, 9], seed_and_process)
        assert sorted((shard, seed) for shard, (seed, _) in results) == sorted(EXPECTED)
        processes = {process for _, (_, process) in results}
        assert os.getpid() not in processes
        assert 1 <= len(processes) <= 2
        with pytest.raises(UserError, match="shard 7 fails"):
            results_of(settings, [4, 0, 7, 2, 9], failing)


def test_a_scheduler_without_an_address_is_refused():
    with pytest.raises(UserError, match=r"set cluster\.address or DASK_SCHEDULER_ADDRESS"):
        results_of(Cluster(mode="scheduler"), [1])


@pytest.fixture
def unused_address() -> str:
    """An address on this machine where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("from_environment", [False, True])
def test_an_address_where_nothing_answers_is_named(from_environment, unused_address, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    if from_environment:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", unused_address)
    settings = Cluster(mode="scheduler", address=None if from_environment else unused_address)
    with pytest.raises(UserError, match=f"no Dask scheduler answers at {unused_address} within 1 s"):
        results_of(settings, [1])


def test_an_address_of_no_known_kind_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match="nonsense://here"):
        results_of(Cluster(mode="scheduler", address="nonsense://here"), [1])


def test_worker_count_is_the_one_asked_for_or_one_per_core():
    assert Cluster(workers=3).worker_count(16) == 3
    assert Cluster().worker_count(16) == 16
