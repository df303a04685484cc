"""Resumable state: inputs and parameters name its folder, one process writes it, it moves as a whole."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline import work
from pipeline.content.index import INDEX, RECORDS
from pipeline.content.stores import Store, commit_shard, committed_shards, finish_store
from pipeline.errors import UserError
from pipeline.integrity import faulty_files
from pipeline.work import WORK, Work, digest_of, making, reopen, work_folder
from tests.declared import declare
from tests.support import run_python

PROJECT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    declare("train", "label", "label z", "stage", "prepare", "train_gan")


# Digests


def test_a_digest_depends_on_every_input_and_parameter(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    digests = [
        digest_of([first, second], {"a": 1, "b": 2}),
        digest_of([second, first], {"a": 1, "b": 2}),
        digest_of([first], {"a": 1, "b": 2}),
        digest_of([first, second], {"a": 1, "b": 3}),
        digest_of([first, second], {"a": 1}),
    ]
    assert len(set(digests)) == 5
    assert digests[0] == digest_of([first, second], {"b": 2, "a": 1})  # whatever the order of the keys
    first.write_text("3")
    assert digest_of([first, second], {"a": 1, "b": 2}) not in digests


def test_a_folders_digest_depends_on_the_content_of_its_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("1")
    before = digest_of([tmp_path], None)
    assert digest_of([tmp_path], None) == before
    (tmp_path / "deep" / "file").write_text("2")
    assert digest_of([tmp_path], None) != before


def test_a_folders_digest_depends_on_the_names_of_its_files(tmp_path):
    (tmp_path / "file").write_text("1")
    before = digest_of([tmp_path], None)
    (tmp_path / "file").rename(tmp_path / "name")
    assert digest_of([tmp_path], None) != before


def test_bytecode_changes_no_digest(tmp_path):
    (tmp_path / "module.py").write_text("1")
    before = digest_of([tmp_path], None)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_text("1")
    assert digest_of([tmp_path], None) == before


def test_what_is_missing_has_a_digest_of_its_own(tmp_path):
    missing = digest_of([tmp_path / "file"], None)
    (tmp_path / "file").write_text("1")
    assert digest_of([tmp_path / "file"], None) not in (missing, digest_of([], None))
    assert missing != digest_of([], None)


def test_a_stores_digest_is_that_of_its_index(tmp_path):
    store = tmp_path / "z"
    store.mkdir()
    (store / INDEX).write_text("{}")
    for folder in (store, tmp_path):  # itself, or one of several in a folder
        (store / "shard").unlink(missing_ok=True)
        before = digest_of([folder], None)
        (store / "shard").write_text("large")
        assert digest_of([folder], None) == before
        (store / INDEX).write_text((store / INDEX).read_text() + " ")
        assert digest_of([folder], None) != before


# The folder


def test_the_same_work_finds_its_folder_again():
    held = work_folder("train", [1])
    folder = held.folder
    (folder / "state").write_text("half")
    held.lock.close()
    assert (work_folder("train", [1]).folder / "state").read_text() == "half"
    assert work_folder("train", [2]).folder != folder != work_folder("label", [1]).folder
    assert folder.parent == WORK / "train"
    assert work_folder("label z", [1]).folder.parent == WORK / "label-z"


def test_the_folder_is_that_of_the_declared_code_data_and_parameters(tmp_path, monkeypatch):
    """Other keys of params.yaml, other stages, and other parts of dvc.yaml do not change it."""
    monkeypatch.setattr(work, "PROJECT", tmp_path / "project")
    code, data = tmp_path / "project/data/module.py", tmp_path / "out/real/index.json"
    parameters = tmp_path / "params.yaml"
    entry = {
        "cmd": "exec python -m stages.label ${item.latents}",
        "matrix": {"latents": "${all}"},
        "params": ["label.${item.latents}"],
        "deps": ["data", "out/real", "out/${item.latents}"],
        "outs": ["out/labels/${item.latents}"],
    }
    other = {"cmd": "python -m stages.train", "deps": ["other.py"], "outs": []}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"label": entry, "train": other}}))
    for path, content in (
        (code, "1"),
        (data, "1"),
        (parameters, "{all: [z], label: {z: 1, y: 1}, other: 1}"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def name() -> str:
        return work_folder("label z", writes=False).folder.name

    before = name()
    inputs, made_of = before.split("-")
    code.write_text("2")
    assert name().startswith(f"{inputs}-")
    assert name() != before
    code.write_text("1")
    assert name() == before
    for path, changed in (
        (data, "2"),
        (tmp_path / "out/z", "it was missing"),
        (parameters, "{all: [z], label: {z: 2, y: 1}, other: 1}"),
    ):
        content = path.read_text() if path.exists() else None
        path.write_text(changed)
        assert name() != before
        assert name().endswith(f"-{made_of}")
        path.unlink() if content is None else path.write_text(content)
    assert name() == before
    parameters.write_text("{all: [z, y], label: {z: 1, y: 2}, other: 2}")
    (tmp_path / "project/other.py").write_text("2")
    assert name() == before


def test_a_stage_that_is_not_declared_has_no_folder():
    with pytest.raises(UserError, match=r"dvc\.yaml has no stage that runs `python -m stages\.draw z`"):
        work_folder("draw z")
    assert not WORK.exists()


def test_what_a_killed_run_was_about_to_commit_is_removed():
    held = work_folder("label z", 1)
    folder = held.folder
    for name in (
        "shard-00000.h5.1a2b3c4d.tmp",
        "rows/shard-00000.parquet.1a2b3c4d.tmp",
        "rows/whole.parquet",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    held.lock.close()
    assert work_folder("label z", 1).folder == folder
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["whole.parquet"]


def test_a_process_that_does_not_write_takes_no_lock_and_removes_nothing():
    folder = work_folder("train", 1, writes=False).folder
    (folder / "state.pt.1a2b3c4d.tmp").touch()
    assert not folder.with_name(folder.name + ".lock").exists()
    work_folder("train", 1, writes=False)
    assert (folder / "state.pt.1a2b3c4d.tmp").exists()


# Publishing


def test_publishing_replaces_what_stood_there_and_leaves_no_state():
    output = Path("out/stage")
    for content in ("old", "new"):
        held = work_folder("stage", content)
        (held.folder / content).write_text(content)
        held.publish(output)
        assert not held.folder.exists()
        assert not list(WORK.rglob("*.lock"))
    assert sorted(path.name for path in output.iterdir()) == [INDEX, "new"]


def test_what_is_replaced_leaves_its_place_whole(monkeypatch):
    """Half of an export could be taken for a complete one."""
    output, removed = Path("out/stage"), []
    for name in ("old", "new"):
        held = work_folder("stage", name)
        (held.folder / name).touch()
        monkeypatch.setattr(work.shutil, "rmtree", lambda path, **_: removed.append(Path(path)))
        held.publish(output)
    former = WORK / "stage" / f"{held.folder.name}.former"
    assert former in removed
    assert output not in removed
    assert sorted(path.name for path in former.iterdir()) == [INDEX, "old"]
    assert sorted(path.name for path in output.iterdir()) == [INDEX, "new"]


def test_what_is_published_says_what_made_it_and_records_every_file():
    held = work_folder("label z", 1)
    (held.folder / "deep").mkdir()
    (held.folder / "deep/file").write_text("abc")
    held.publish(Path("out/labels/z"))
    index = json.loads(Path("out/labels/z", INDEX).read_text())
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert index == {
        "files": {"deep/file": {"bytes": 3, "sha256": known}},
        "made_by": "label z",
        "work": f"label-z/{held.folder.name.split('-')[0]}",  # of the inputs: other code may make the same
        "sha256": index["sha256"],  # its own: see test_stores
    }


def test_an_orphan_publishes_nothing_and_leaves_what_it_has_made_to_the_next_run(monkeypatch):
    held, output = finished_store(), Path("out/real")
    monkeypatch.setattr(work, "is_orphan", lambda: True)
    with pytest.raises(SystemExit) as left:
        held.publish(output)
    assert left.value.code == 1
    assert not output.exists()
    assert list(committed_shards(held.folder)) == [0, 1, 2]


def test_of_a_training_the_output_is_published_and_its_state_goes():
    held = work_folder("train_gan", 1)
    folder = held.folder
    (folder / "state.pt").touch()
    (folder / "generator").mkdir()
    (folder / "generator/card.json").write_text("{}")
    held.publish(Path("out/generator"), folder / "generator")
    assert sorted(path.name for path in Path("out/generator").iterdir()) == ["card.json", INDEX]
    assert [path for path in WORK.rglob("*") if path.is_file()] == []
    assert not folder.exists()


def store_of_three(folder: Path, without: int | None = None) -> None:
    for shard in range(3):
        if shard != without:
            rows = pd.DataFrame({"id": [f"{shard}-{k}" for k in range(2)]})
            commit_shard(folder, shard, rows, "images", np.full((2, 2, 2, 3), shard, np.uint8))


def finished_store() -> Work:
    held = work_folder("prepare", 1)
    store_of_three(held.folder)
    finish_store(held.folder, 3, "images", (2, 2, 3), "uint8")
    (held.folder / "labels.parquet").write_text("table")
    return held


def test_a_run_killed_between_finishing_and_publishing_keeps_its_shards():
    held = finished_store()
    held.lock.close()
    again = work_folder("prepare", 1)
    assert again.folder == held.folder
    assert list(committed_shards(again.folder)) == [0, 1, 2]


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline import work

def kill_before(function):
    def killing(path, *arguments, **options):
        if path == Path(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(path, *arguments, **options)
    return killing

if sys.argv[1] == "move":
    Path.replace = kill_before(Path.replace)
else:
    work.shutil.rmtree = kill_before(work.shutil.rmtree)
work.work_folder("prepare", 1).publish(Path("out/real"))
"""


def publish_and_kill(before: str, path: Path) -> None:
    killed = run_python("-c", KILLED, before, path)
    assert killed.returncode == -9


def test_a_run_killed_while_it_publishes_before_the_move_keeps_its_shards():
    held, output = finished_store(), Path("out/real")
    held.lock.close()
    publish_and_kill("move", held.folder)
    assert not output.exists()
    again = work_folder("prepare", 1)
    assert list(committed_shards(again.folder)) == [0, 1, 2]
    (again.folder / "labels.parquet").write_text("as made again, otherwise")
    again.publish(output)
    assert faulty_files(output) == {}


def test_a_run_killed_while_it_publishes_after_the_move_has_published_all():
    held, output = finished_store(), Path("out/real")
    held.lock.close()
    publish_and_kill("removal", output / RECORDS)
    assert not held.folder.exists()
    assert faulty_files(output) == {}
    assert Store(output).read(np.array([0, 2, 4]))[:, 0, 0, 0].tolist() == [0, 1, 2]
    for file in output.rglob("*"):  # DVC has no record of it, and makes it again
        if file.is_file():
            file.unlink()
    finished_store().publish(output)
    assert not (output / RECORDS).exists()
    assert [path for path in WORK.rglob("*") if path.is_file()] == []


def test_a_store_published_and_opened_again_is_the_run_that_was_interrupted():
    held, output = finished_store(), Path("out/real")
    held.publish(output)
    before = (output / INDEX).read_bytes()
    assert faulty_files(output) == {}
    stat = (output / "shard-00000.h5").stat()
    (output / "rows/shard-00001.parquet").unlink()
    reopen(output, ["rows/shard-00001.parquet"])
    assert not output.exists()
    again = work_folder("prepare", 1)
    folder = again.folder
    assert folder == held.folder
    assert list(committed_shards(folder)) == [0, 2]
    assert not (folder / "labels.parquet").exists()
    rows = pd.DataFrame({"id": ["1-0", "1-1"]})
    commit_shard(folder, 1, rows, "images", np.full((2, 2, 2, 3), 1, np.uint8))
    finish_store(folder, 3, "images", (2, 2, 3), "uint8")
    (folder / "labels.parquet").write_text("table")
    again.publish(output)
    assert (output / INDEX).read_bytes() == before
    after = (output / "shard-00000.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert Store(output).read(np.array([0, 2, 4]))[:, 0, 0, 0].tolist() == [0, 1, 2]


# The locks of shards


def test_of_two_that_make_a_shard_the_second_waits_for_the_first():
    held = work_folder("label z", 1)
    folder = held.folder
    (folder / RECORDS).mkdir()
    told = []

    def second() -> None:
        with making(folder, 0):
            told.append("second")

    thread = threading.Thread(target=second)
    with making(folder, 0):
        thread.start()
        with making(folder, 1):  # which is nobody's
            time.sleep(0.2)
        told.append("first")
    thread.join()
    assert told == ["first", "second"]


@pytest.mark.parametrize("waits", [False, True])
def test_who_comes_to_make_a_shard_after_the_store_was_published_is_refused_and_makes_no_folder(waits):
    held = finished_store()
    folder = held.folder
    told: list[str] = []

    def late() -> None:
        with pytest.raises(UserError) as raised, making(folder, 0):
            told.append("it may make it")
        told.append(str(raised.value))

    thread = threading.Thread(target=late)
    with making(folder, 0):
        if waits:
            thread.start()
            time.sleep(0.2)
        held.publish(Path("out/real"))
    if not waits:
        thread.start()
    thread.join()
    assert told == [f"{folder} is not being made any more: it was published or removed."]
    assert not folder.exists()
    assert not Path("out/real", RECORDS).exists()


def test_the_locks_of_shards_are_no_part_of_what_is_published():
    held = finished_store()
    folder = held.folder
    with making(folder, 2):
        assert list(committed_shards(folder)) == [0, 1, 2]
    finish_store(folder, 3, "images", (2, 2, 3), "uint8")
    assert "lock" not in (folder / INDEX).read_text()
    held.publish(Path("out/real"))
    assert list(Path("out").rglob("*.lock")) == []
    assert list(WORK.rglob("*.lock")) == []


# The lock: real processes


HOLDER = """
import sys
from pathlib import Path
from pipeline import work

work.LOCK_SECONDS = float(sys.argv[1])
try:
    held = work.work_folder("train", 1)
except work.UserError as error:
    print(f"refused: {error}", flush=True)
    sys.exit()
print("held", flush=True)
for line in sys.stdin:
    if line == "publish\\n":
        (held.folder / "result").write_text("made")
        held.publish(Path("out/train"))
        print("published", flush=True)
"""


@contextmanager
def holder(seconds: float = 10.0) -> Iterator[subprocess.Popen[str]]:
    """Start a process that asks for the folder, reports the outcome, and publishes when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(seconds)],
        env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_and_told_who_holds_the_folder():
    with holder() as first:
        assert first.stdout.readline() == "held\n"
        with holder(seconds=0.2) as second:
            (folder,) = WORK.glob("train/*.lock")
            assert re.fullmatch(
                rf"refused: {folder.with_suffix('')} is being written by process {first.pid} on \S+: wait "
                r"until it has finished, or stop it, and run again\.\n",
                second.stdout.readline(),
            )


@pytest.mark.timing
def test_a_killed_holder_lets_go_at_once_and_the_folder_is_taken_up_again():
    with holder() as first:
        assert first.stdout.readline() == "held\n"
        first.kill()
        first.wait()
        start = time.monotonic()
        held = work_folder("train", 1)
        assert time.monotonic() - start < 1
        assert Path(f"{held.folder}.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_process_that_waits_gets_the_folder_when_the_holder_dies(monkeypatch):
    with holder() as first:
        assert first.stdout.readline() == "held\n"
        subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {first.pid}"])
        held = work_folder("train", 1)
        assert held.lock is not None
        assert first.wait(1) == -9


def test_who_waited_while_the_holder_published_holds_a_lock_that_others_see(monkeypatch):
    """The lock file that it waited for is gone: a lock on that file would keep no other process out."""
    with holder() as first:
        assert first.stdout.readline() == "held\n"
        (lock,) = WORK.glob("train/*.lock")
        gone = lock.open("a+")
        first.stdin.write("publish\n")
        assert first.stdout.readline() == "published\n"
    files, locked, opens, flock = [gone], [], Path.open, work.fcntl.flock

    def opened(path: Path, *given: Any, **named: Any) -> Any:
        return files.pop() if files and path == lock else opens(path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        patch.setattr(work.fcntl, "flock", lambda file, how: locked.append(file) or flock(file, how))
        held = work_folder("train", 1)
    assert locked[0] is gone
    assert len(locked) == 2
    assert gone.closed
    with holder(seconds=0.2) as other:
        assert f"process {os.getpid()} " in other.stdout.readline()
    held.publish(Path("out/train"))
    assert not list(WORK.rglob("*.lock"))


RACER = """
import sys, os
from pathlib import Path
from pipeline import work

work.LOCK_SECONDS = 60.0
print("ready", flush=True)
sys.stdin.readline()
for turn in range(40):
    held = work.work_folder("train", 1)
    busy = Path("busy")
    os.close(os.open(busy, os.O_CREAT | os.O_EXCL))
    (held.folder / "result").write_text(str(turn))
    busy.unlink()
    held.publish(Path(f"out/{os.getpid()}-{turn}"))
print("done", flush=True)
"""


def test_processes_that_take_and_publish_a_folder_by_turns_never_hold_it_together():
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER],
            env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for racer in racers:
            out, err = racer.communicate(timeout=60)
            assert out == "done\n", err
    finally:
        for racer in racers:
            racer.kill()
    assert len(list(Path("out").glob("*/result"))) == 120
