"""Shards over a cluster: this process and others make the same store, whichever process dies meanwhile."""

import asyncio
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from pipeline import dask_cluster
from pipeline.cluster import _Shown, gpus_of, make_shards
from pipeline.content.index import INDEX, RECORDS
from pipeline.content.stores import Store, commit_shard, committed_shards, finish_store
from pipeline.dask_cluster import START_SECONDS, ShardPlugin
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.parameters import Cluster, Runtime
from pipeline.work import WORK, work_folder
from pipeline.worker import Worker
from tests.declared import declare
from tests.support import ForkedPython, environment, is_alive, wait_for

pytestmark = pytest.mark.usefixtures("forked_workers")

INLINE = Cluster(mode="inline")
LOCAL = Cluster(mode="local", workers=2)
FOLDER = Path(".work/store")
SIZES = [3, 3, 3, 3, 2]

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Workers keep their files under .work of the folder they are started in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    FOLDER.mkdir(parents=True)


def log(text: str) -> None:
    descriptor = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text} {os.getpid()}\n".encode())
    os.close(descriptor)


def logged(what: str) -> list[list[str]]:
    lines = Path("log").read_text().splitlines() if Path("log").exists() else []
    return [line.split()[1:] for line in lines if line.startswith(what + " ")]


def new_maker(sizes: list[int] = SIZES, before: Callable[[int], object] = lambda shard: None):
    """Return a maker of shards whose images and ids are their numbers; it logs what it does."""
    log("setup")

    def make(shard: int, advance: Callable[[int], object]) -> dict:
        log(f"make {shard}")
        before(shard)
        for _ in range(sizes[shard]):
            advance(1)
        start = sum(sizes[:shard])
        rows = pd.DataFrame({"id": [f"item-{start + k}" for k in range(sizes[shard])]})
        return commit_shard(FOLDER, shard, rows, "images", np.full((sizes[shard], 4, 4, 3), shard, np.uint8))

    return make


def make_all(cluster: Cluster, before: Callable[[int], object] = lambda shard: None, sizes=SIZES) -> dict:
    return make_shards("draw", FOLDER, sizes, lambda: new_maker(sizes, before), cluster)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(sizes=SIZES) -> dict[str, bytes]:
    finish_store(FOLDER, len(sizes), "images", (4, 4, 3), "uint8")
    assert faulty_files(FOLDER) == {}
    return files_of(FOLDER)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Callable[[list[int]], dict[str, bytes]]:
    """Return the files of the store of these shards as this process makes it."""

    def files(sizes: list[int]) -> dict[str, bytes]:
        before = Path.cwd()
        os.chdir(tmp_path_factory.mktemp("inline"))
        make_all(INLINE, sizes=sizes)
        made = finished(sizes)
        os.chdir(before)
        return made

    return files


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory) -> Iterator[LocalCluster]:
    """Start a scheduler with two workers, independent of the run that uses them."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50,
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture
def running(scheduler) -> Cluster:
    return Cluster(mode="scheduler", address=scheduler.scheduler_address)


# The same everywhere


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "scheduler"])
def test_workers_make_what_this_process_makes_and_are_set_up_once(mode, request, undisturbed):
    cluster = LOCAL if mode == "local" else request.getfixturevalue("running")
    records = make_all(cluster)
    assert sorted(records) == [0, 1, 2, 3, 4]
    assert records == committed_shards(FOLDER)
    made_by = {process for _, process in logged("make")}
    set_up_by = [process for (process,) in logged("setup")]
    assert sorted(int(shard) for shard, _ in logged("make")) == [0, 1, 2, 3, 4]
    assert str(os.getpid()) not in made_by
    assert len(set_up_by) == len(set(set_up_by)) == 2
    assert made_by <= set(set_up_by)
    assert finished() == undisturbed(SIZES)


def test_this_process_is_set_up_once_and_makes_every_shard_in_order():
    assert sorted(make_all(INLINE)) == [0, 1, 2, 3, 4]
    assert logged("setup") == [[str(os.getpid())]]
    assert [shard for shard, _ in logged("make")] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("mode", ["inline", "scheduler"])
def test_committed_shards_are_not_made_again(mode, request):
    cluster = INLINE if mode == "inline" else request.getfixturevalue("running")
    maker = new_maker()
    for shard in (1, 3):
        maker(shard, lambda items: None)
    before = {path: path.stat() for path in FOLDER.rglob("*") if path.is_file()}
    assert len(before) == 6
    Path("log").unlink()
    assert sorted(make_all(cluster)) == [0, 1, 2, 3, 4]
    assert sorted(shard for shard, _ in logged("make")) == ["0", "2", "4"]
    for path, stat in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_with_every_shard_committed_nothing_is_set_up():
    records = make_all(INLINE)
    Path("log").unlink()
    assert make_all(Cluster(mode="scheduler", address="tcp://127.0.0.1:1")) == records
    assert not Path("log").exists()


def test_a_single_missing_shard_is_made_here_where_local_workers_were_asked_for(monkeypatch):
    monkeypatch.setattr(dask_cluster, "run", lambda *arguments: pytest.fail("a cluster was started"))
    maker = new_maker()
    for shard in (0, 1, 2, 4):
        maker(shard, lambda items: None)
    assert sorted(make_all(LOCAL)) == [0, 1, 2, 3, 4]
    assert logged("make")[-1] == ["3", str(os.getpid())]


def test_a_shard_that_a_lost_worker_had_just_committed_is_taken_as_it_is():
    record = new_maker()(2, lambda items: None)
    worker = Worker(FOLDER, lambda: new_maker(before=lambda shard: pytest.fail("it was made again")))
    worker.start()
    assert worker(2, lambda shard, items: None) == record


# Progress


def test_a_shard_made_twice_is_shown_once():
    seen: list[int] = []
    shown = _Shown(seen.append, [4, 3])
    for shard, items in [(0, 1), (0, 3), (1, 2), (0, 1), (0, 2), (0, 4), (0, 9), (1, 3), (1, 3)]:
        shown.at(shard, items)
        assert sum(seen) <= 7
    assert seen == [1, 2, 2, 1, 1]


def test_progress_counts_what_an_earlier_run_made_and_ends_at_the_total(capsys):
    new_maker()(0, lambda items: None)
    make_all(INLINE)
    assert "draw: 14 images in" in capsys.readouterr().out


# Failures


class Defect(Exception):
    pass


def fail_with(error: Exception) -> Callable[[int], object]:
    def before(shard: int) -> None:
        if shard in (1, 3):
            raise error

    return before


FAILURES = [
    (UserError("the picture of row 7 is broken."), "the picture of row 7 is broken."),
    (
        OSError(errno.ENOSPC, "No space left on device", "x.h5"),
        "No space left on device at x.h5: make room and run the same again; finished shards and checkpoints "
        "are kept.",
    ),
    (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero."),
]


@pytest.mark.parametrize("mode", ["inline", "scheduler"])
@pytest.mark.parametrize(("error", "reason"), FAILURES)
def test_a_shard_that_fails_is_named_and_the_others_are_made_and_kept(mode, error, reason, request, capfd):
    cluster = INLINE if mode == "inline" else request.getfixturevalue("running")
    with pytest.raises(UserError) as raised:
        make_all(cluster, fail_with(error))
    assert str(raised.value) == (
        f"draw: shard 1 failed: {reason} 2 shards failed; 3 of 5 were made and are kept."
    )
    assert list(committed_shards(FOLDER)) == [0, 2, 4]
    assert ("Traceback" in capfd.readouterr().err) == isinstance(error, ZeroDivisionError)
    Path("log").unlink()
    assert sorted(make_all(INLINE)) == [0, 1, 2, 3, 4]
    assert [shard for shard, _ in logged("make")] == ["1", "3"]


@pytest.mark.parametrize("mode", ["inline", "scheduler"])
def test_what_a_worker_cannot_load_is_said(mode, request):
    cluster = INLINE if mode == "inline" else request.getfixturevalue("running")

    def set_up():
        raise UserError("out/generator holds no generator.")

    with pytest.raises(UserError, match=r"^out/generator holds no generator\.$"):
        make_shards("draw", FOLDER, SIZES, set_up, cluster)


def test_after_a_failed_set_up_the_scheduler_serves_the_next_run(running):
    def set_up():
        raise UserError("out/generator holds no generator.")

    with pytest.raises(UserError, match="holds no generator"):
        make_shards("draw", FOLDER, SIZES, set_up, running)
    assert sorted(make_all(running)) == [0, 1, 2, 3, 4]


# Workers that die


def die(shard: int) -> None:
    if shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)


@pytest.fixture
def crowded(tmp_path) -> Iterator[Cluster]:
    """Start a scheduler that gives its workers all tasks at once: a death is then blamed on all."""
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": "inf"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
    ):  # fmt: skip
        yield Cluster(mode="scheduler", address=cluster.scheduler_address)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("local", marks=pytest.mark.exhaustive),
        pytest.param("running", marks=pytest.mark.exhaustive),
        "crowded",
    ],
)
def test_a_shard_that_kills_every_worker_is_named_and_all_others_are_made(mode, request):
    sizes = [2] * 12
    cluster = LOCAL if mode == "local" else request.getfixturevalue(mode)
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        make_all(cluster, die, sizes)
    assert time.monotonic() - start < 60
    assert str(raised.value) == (
        "draw: shard 1 failed: every worker that made it died, killed or out of memory. 11 of 12 were made "
        "and are kept."
    )
    assert list(committed_shards(FOLDER)) == [0, *range(2, 12)]


def take_a_while(shard: int) -> None:
    time.sleep(0.2)


def kill_a_worker(random_: random.Random, killed: list[str]) -> None:
    """Kill the worker that was the last to begin a shard, a moment after it began."""
    begun = len(logged("make"))
    wait_for(lambda: len(logged("make")) > begun, 30)
    time.sleep(random_.uniform(0, 0.25))
    process = logged("make")[-1][1]
    os.kill(int(process), signal.SIGKILL)
    killed.append(process)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_killed_workers_cost_a_shard_each_at_most_and_change_nothing(seed, undisturbed):
    sizes, killed = [2] * 24, []

    def kill_some() -> None:
        random_ = random.Random(seed)
        wait_for(lambda: logged("make"), 30)
        for _ in range(3):
            kill_a_worker(random_, killed)

    killer = threading.Thread(target=kill_some)
    killer.start()
    records = make_all(LOCAL, take_a_while, sizes)
    killer.join()
    assert len(killed) == 3
    assert sorted(records) == list(range(24))
    made = [shard for shard, _ in logged("make")]
    assert len(set(made)) == 24
    assert len(made) <= 24 + len(killed)
    assert len(logged("setup")) <= 2 + len(killed)
    assert finished(sizes) == undisturbed(sizes)


def die_while_writing(shard: int) -> None:
    """Kill this worker when it is about to sync shard 1 for the first time."""
    if shard == 1 and len([made for made, _ in logged("make") if made == "1"]) == 1:
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_what_a_killed_worker_was_writing_is_no_part_of_the_store(undisturbed):
    make_all(LOCAL, die_while_writing)
    assert len(logged("make")) == 6
    assert finished() == undisturbed(SIZES)


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
import test_cluster
test_cluster.make_all(test_cluster.LOCAL, test_cluster.take_a_while, [2] * 60)
"""


@pytest.mark.slow
def test_when_this_process_is_killed_its_workers_go_and_the_next_run_finishes(undisturbed):
    sizes = [2] * 60
    # With workers as users have them, too: started anew, from no server.
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(Path(__file__).parent)], env=environment())
    try:
        wait_for(lambda: len(committed_shards(FOLDER)) >= 4, 60)
    finally:
        parent.kill()
        parent.wait()
    workers = [int(process) for (process,) in logged("setup")]
    assert len(workers) == 2
    wait_for(lambda: not any(map(is_alive, workers)), 5)
    done = len(committed_shards(FOLDER))
    assert 4 <= done < 60
    Path("log").unlink()
    for temporary in FOLDER.rglob("*.tmp"):  # as `work_folder` does
        temporary.unlink()
    make_all(INLINE, sizes=sizes)
    assert len(logged("make")) == 60 - done
    assert finished(sizes) == undisturbed(sizes)


# Runs that are killed, and tasks that go on without them


def whole_run(address: str) -> None:
    """Run a whole stage; the first process to make shard 0 waits until it may go on."""
    declare("draw")
    work = work_folder("draw")
    folder = work.folder

    def set_up():
        def make(shard: int, advance: Callable[[int], object]) -> dict:
            log(f"make {shard}")
            if shard == 0 and len([made for made, _ in logged("make") if made == "0"]) == 1:
                wait_for(Path("go").exists, 60)
            record = commit_shard(
                folder, shard, pd.DataFrame({"id": [f"{shard}"]}), "images", np.zeros((1, 4, 4, 3), np.uint8)
            )
            log(f"made {shard}")
            return record

        return make

    cluster = Cluster(mode="scheduler", address=address)
    records = make_shards("draw", folder, [1] * 5, set_up, cluster)
    finish_store(folder, 5, "images", (4, 4, 3), "uint8", records)
    work.publish(Path("out/draw"))


WHOLE_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import test_cluster
test_cluster.whole_run(sys.argv[2])
"""


@pytest.mark.slow
def test_a_task_that_outlives_its_killed_run_writes_over_nothing_that_the_next_one_has(running):
    FOLDER.rmdir()
    command = ["-c", WHOLE_RUN, str(Path(__file__).parent), str(running.address)]
    first = ForkedPython(*command)
    second = None
    try:
        wait_for(lambda: len(logged("made")) == 4, 60)
        first.kill()
        first.wait()
        assert ["0"] in [made[:1] for made in logged("make")]
        second = ForkedPython(*command)
        shards = [next(WORK.glob(f"draw/*/shard-{shard:05d}.h5")) for shard in range(1, 5)]
        before = [path.stat() for path in shards]
        wait_for(lambda: len(logged("make")) == 6 or second.poll() is not None or is_locked_twice(), 30)
        Path("go").touch()
        assert second.wait(60) == 0
        wait_for(lambda: len(logged("made")) == len(logged("make")), 30)
    finally:
        Path("go").touch()
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
    assert sorted(made for made, _ in logged("make")) == ["0", "1", "2", "3", "4"]
    after = [Path("out/draw", path.name).stat() for path in shards]
    assert [(stat.st_ino, stat.st_mtime_ns) for stat in after] == [
        (stat.st_ino, stat.st_mtime_ns) for stat in before
    ]
    assert faulty_files(Path("out/draw")) == {}
    assert sorted(path.name for path in Path("out/draw").iterdir()) == sorted(
        [INDEX, "rows", *(f"shard-{shard:05d}.h5" for shard in range(5))]
    )
    assert [path for path in WORK.rglob("*") if path.name != "draw"] == []


def is_locked_twice() -> bool:
    """Tell whether a process waits for the lock of shard 0 that another holds."""
    (lock,) = WORK.glob(f"draw/*/{RECORDS}/shard-00000.lock")
    inode = f":{lock.stat().st_ino} "
    locks = [line for line in Path("/proc/locks").read_text().splitlines() if inode in line]
    return len(locks) == 2


def test_an_index_takes_the_records_that_workers_gave_where_their_files_are_not_seen_yet(undisturbed):
    records = make_all(INLINE)
    (FOLDER / RECORDS / "shard-00003.json").unlink()
    finish_store(FOLDER, len(SIZES), "images", (4, 4, 3), "uint8", dict(reversed(records.items())))
    assert (FOLDER / INDEX).read_bytes() == undisturbed(SIZES)[INDEX]


# Clusters that die


@pytest.fixture
def start() -> Iterator[Callable[..., ForkedPython]]:
    """Start Dask's own commands, as a user does."""
    started = []

    def start_dask(*arguments: str) -> ForkedPython:
        started.append(ForkedPython("-m", "dask", *arguments, "--no-dashboard"))
        return started[-1]

    yield start_dask
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dying", "sentence"),
    [
        (
            "workers",
            "cluster: there has been no worker for 2 s: start some and run the same again; finished shards "
            "are kept.",
        ),
        (
            "scheduler",
            "cluster: the connection to the Dask scheduler is lost: see whether it still runs, and run the "
            "same again; finished shards are kept.",
        ),
    ],
)
def test_a_cluster_that_dies_in_mid_run_is_said_and_finished_shards_are_kept(
    dying, sentence, start, monkeypatch, capfd
):
    monkeypatch.setattr(dask_cluster, "LOST_SECONDS", 2.0)
    monkeypatch.setattr(dask_cluster, "POLL_SECONDS", 0.3)
    about = Path("scheduler.json")
    scheduler = start(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(about.absolute())
    )
    wait_for(lambda: about.exists() and about.read_text().endswith("}"), 60)
    address = json.loads(about.read_text())["address"]
    workers = [start("worker", address, "--no-nanny", "--nthreads", "1") for _ in range(2)]
    killed_at = []

    def kill() -> None:
        wait_for(lambda: len(committed_shards(FOLDER)) >= 3, 60)
        for process in workers if dying == "workers" else [scheduler]:
            process.kill()
        killed_at.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError) as raised:
        make_all(Cluster(mode="scheduler", address=address), take_a_while, [2] * 60)
    killer.join()
    assert str(raised.value) == sentence
    assert time.monotonic() - killed_at[0] < 15
    assert "Traceback" not in capfd.readouterr().err
    done = len(committed_shards(FOLDER))
    assert 3 <= done < 60
    for process in workers:
        process.kill()
        process.wait()
    Path("log").unlink()
    make_all(INLINE, sizes=[2] * 60)
    assert len(logged("make")) <= 60 - done


# What workers run with


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "expected"), [(3, 3), (1, 1)])
def test_workers_have_the_torch_threads_asked_for(threads, expected, scheduler):
    def count_threads():
        import torch

        def make(shard: int, advance) -> dict:
            return commit_shard(FOLDER, shard, pd.DataFrame({"id": ["a"]}), threads=torch.get_num_threads())

        return make

    cluster = Cluster(mode="scheduler", address=scheduler.scheduler_address, threads=threads)
    records = make_shards("draw", FOLDER, [1, 1, 1], count_threads, cluster)
    assert [record["threads"] for record in records.values()] == [expected] * 3


def test_local_workers_share_the_cores_and_those_of_a_scheduler_keep_what_they_have(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert dask_cluster._threads_per_worker(Cluster(mode="local", workers=3), 0) == 5
    assert dask_cluster._threads_per_worker(Cluster(mode="local"), 0) == 1
    assert dask_cluster._threads_per_worker(Cluster(mode="local", workers=3, threads=2), 0) == 2
    assert dask_cluster._threads_per_worker(Cluster(mode="local", workers=32), 0) == 1
    assert dask_cluster._threads_per_worker(Cluster(mode="scheduler"), 0) is None
    assert dask_cluster._local_workers(Cluster(mode="local", workers=3), 0) == 3
    assert dask_cluster._local_workers(Cluster(mode="local"), 0) == 16


@pytest.mark.parametrize(
    ("device", "gpus", "workers", "threads"),
    [("cpu", 0, 16, 1), ("cuda", 4, 4, 4), ("auto", 4, 4, 4), ("cuda:1", 1, 1, 16), ("cuda:0", 1, 1, 16)],
)
def test_there_is_a_local_worker_for_each_gpu_or_one_for_the_gpu_of_a_number(
    device, gpus, workers, threads, monkeypatch
):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert gpus_of(Runtime(device=device)) == gpus
    assert dask_cluster._local_workers(Cluster(mode="local"), gpus) == workers
    assert dask_cluster._threads_per_worker(Cluster(mode="local"), gpus) == threads


@pytest.mark.parametrize(
    ("gpus", "visible", "seen"),
    [
        (4, None, ["0", "1", "2", "3"]),
        (2, None, ["0", "1", "0", "1"]),
        (2, "5,7", ["5", "7", "5", "7"]),
        (1, None, [None] * 4),  # it is the only one, or runtime.device says its number
        (1, "5,7", ["5,7"] * 4),
        (0, "", [""] * 4),
    ],
)
def test_local_workers_see_one_gpu_each_where_there_are_several(gpus, visible, seen, monkeypatch):
    WORK.mkdir(exist_ok=True)

    def seen_by(number: int) -> str | None:
        with monkeypatch.context() as patch:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            if visible is not None:
                patch.setenv("CUDA_VISIBLE_DEVICES", visible)
            worker = Worker(FOLDER, lambda: lambda shard, advance: {})
            ShardPlugin(worker, Path.cwd(), None, gpus).setup(SimpleNamespace(address="", name=number))
            value = os.environ.get("CUDA_VISIBLE_DEVICES")
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back as it was
        return value

    assert [seen_by(number) for number in range(4)] == seen


def test_a_worker_that_does_not_see_the_projects_folder_is_refused(tmp_path):
    started = SimpleNamespace(address="tcp://10.0.0.7:1234", name="0")
    worker = Worker(FOLDER, lambda: pytest.fail("it was set up"))
    with pytest.raises(UserError) as raised:
        ShardPlugin(worker, tmp_path / "elsewhere", None, 0).setup(started)
    assert str(raised.value) == (
        f"cluster: the worker at tcp://10.0.0.7:1234 does not see {tmp_path}/elsewhere: workers need the "
        "project's folder under the same path, on a shared file system."
    )


def test_workers_of_a_scheduler_that_do_not_see_the_folder_refuse_the_run(running, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"tcp://127\.0\.0\.1:\d+ does not see {tmp_path}/elsewhere"):
        make_all(running)


def test_two_runs_on_one_scheduler_at_once_do_not_disturb_one_another(running, tmp_path):
    """Two stages of `dvc exp run --jobs 2` run like this."""
    folders = [Path(".work/first"), Path(".work/second")]
    sizes, errors = [1] * 6, []

    def set_up_for(number: int, folder: Path):
        def make(shard: int, advance) -> dict:
            time.sleep(0.1)
            rows = pd.DataFrame({"id": [f"{number}-{shard}"]})
            return commit_shard(folder, shard, rows, number=number)

        return lambda: make

    def run(number: int) -> None:
        try:
            records = make_shards(
                "draw", folders[number], sizes, set_up_for(number, folders[number]), running
            )
            assert [record["number"] for record in records.values()] == [number] * 6
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert errors == []
    assert [sorted(committed_shards(folder)) for folder in folders] == [list(range(6))] * 2


# Where nothing answers


def test_a_scheduler_without_an_address_is_refused():
    with pytest.raises(UserError, match=r"set cluster\.address or DASK_SCHEDULER_ADDRESS"):
        make_all(Cluster(mode="scheduler"))


def test_what_does_not_answer_is_said_within_half_a_minute():
    assert START_SECONDS < 30


@pytest.mark.timing
def test_the_scheduler_and_its_workers_have_one_time_limit_together(monkeypatch):
    monkeypatch.setattr(dask_cluster, "START_SECONDS", 4.0)
    greet = dask_cluster._greet

    async def greet_slowly(address: str) -> None:
        await asyncio.sleep(3)
        await greet(address)

    monkeypatch.setattr(dask_cluster, "_greet", greet_slowly)
    with LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as empty:
        start = time.monotonic()
        with pytest.raises(UserError, match="has no worker after 4 s"):
            make_all(Cluster(mode="scheduler", address=empty.scheduler_address))
        assert time.monotonic() - start < 6


@pytest.fixture
def unused_address() -> str:
    """Return an address on this machine where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("from_environment", [False, True])
def test_an_address_where_nothing_answers_is_named(from_environment, unused_address, monkeypatch):
    monkeypatch.setattr(dask_cluster, "START_SECONDS", 1.0)
    if from_environment:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", unused_address)
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        make_all(Cluster(mode="scheduler", address=None if from_environment else unused_address))
    assert str(raised.value) == (
        f"cluster: no Dask scheduler answers at {unused_address} within 1 s: start one (`dask scheduler`), "
        "or correct cluster.address."
    )
    assert time.monotonic() - start < 10


@pytest.mark.timeout(20)
def test_a_port_where_something_else_listens_is_named(monkeypatch):
    monkeypatch.setattr(dask_cluster, "START_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Dask scheduler answers at {address} within 1 s"):
            make_all(Cluster(mode="scheduler", address=address))


@pytest.mark.parametrize("address", ["nonsense://here", "here", "tcp://127.0.0.1:port"])
def test_what_is_no_address_is_named(address, monkeypatch):
    monkeypatch.setattr(dask_cluster, "START_SECONDS", 1.0)
    with pytest.raises(UserError, match=f"answers at {address}"):
        make_all(Cluster(mode="scheduler", address=address))


def test_a_scheduler_without_workers_is_named(monkeypatch):
    monkeypatch.setattr(dask_cluster, "START_SECONDS", 1.0)
    with LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as empty:
        with pytest.raises(UserError) as raised:
            make_all(Cluster(mode="scheduler", address=empty.scheduler_address))
        address = empty.scheduler_address
    assert str(raised.value) == (
        f"cluster: the scheduler at {address} has no worker after 1 s: start some in this folder "
        f"(`python -m dask worker {address}`)."
    )


def test_a_store_made_by_workers_is_read_by_its_ids(running):
    make_all(running)
    finished()
    store = Store(FOLDER)
    assert json.loads((FOLDER / INDEX).read_text())["array"] == "images"
    positions = store.positions(["item-13", "item-0", "item-5"])
    assert store.read(positions)[:, 0, 0, 0].tolist() == [4, 0, 1]


def test_a_run_leaves_the_scheduler_and_its_workers_as_they_were(scheduler, running):
    with Client(scheduler.scheduler_address) as client:
        client.wait_for_workers(2)

        def plugins() -> dict[str, list[str]]:
            return client.run(lambda dask_worker: sorted(dask_worker.plugins))

        before = plugins()
        make_all(running)
        assert plugins() == before
        assert len(client.scheduler_info()["workers"]) == 2
