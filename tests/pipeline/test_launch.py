"""Trainings in several processes: started, ended, and killed for real."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.content.checkpoints import load_checkpoint
from pipeline.errors import UserError
from pipeline.launch import _refuse_missing_gpus
from pipeline.parameters import Runtime
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_values
from tests.support import PROJECT, ForkedPython, environment, is_alive, run_in_two, run_python, wait_for

SECONDS = 60  # for what takes five

STAGE = """
import os, time
from pathlib import Path
from pipeline.errors import UserError
from pipeline.launch import in_processes
from pipeline.stage import run_stage

def main(what: str, also: str = "") -> None:
    process, threads = os.environ.get("RANK"), os.environ.get("OMP_NUM_THREADS")
    Path(f"{what}-{process}").write_text(f"{os.getpid()} {threads} {also}")
    print("process", process)
    if what == "all-fail" or (what == "second-fails" and process == "1"):
        raise UserError(f"{what} as was wanted.")
    if what in ("second-fails", "waits"):
        time.sleep(1000)

if __name__ == "__main__":
    run_stage(in_processes(main))
"""


def without_threads() -> dict[str, str]:
    """Return the environment of a user who has not set a number of threads."""
    return {name: value for name, value in environment().items() if name != "OMP_NUM_THREADS"}


def write_parameters(folder: Path, **changes: dict[str, object]) -> None:
    parameters = preset_values("smoke", PROJECT / PRESETS)
    for section, values in {"runtime": {}, **changes}.items():
        parameters[section] |= values
    parameters["runtime"] |= {"device": "cpu", "precision": "fp32"}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))


@pytest.fixture
def stage(tmp_path) -> Callable[..., ForkedPython]:
    """Start a small stage with arguments, in as many processes as asked for."""
    (tmp_path / "small_stage.py").write_text(STAGE)

    def start(processes: int, *arguments: str) -> ForkedPython:
        write_parameters(tmp_path, runtime={"processes": processes})
        return ForkedPython("-m", "small_stage", *arguments, cwd=tmp_path, env=without_threads())

    return start


def test_one_process_is_this_one(stage, tmp_path):
    process = stage(1, "works")
    assert process.communicate(timeout=SECONDS) == ("process None\n", "")
    assert process.returncode == 0
    assert (tmp_path / "works-None").read_text().split()[0] == str(process.pid)


@pytest.mark.slow
def test_several_processes_run_the_same_command_and_the_first_prints(stage, tmp_path):
    process = stage(2, "works", "--also", "an argument")
    assert process.communicate(timeout=SECONDS) == ("process 0\n", "")
    assert process.returncode == 0
    notes = [(tmp_path / f"works-{number}").read_text().split(maxsplit=2) for number in range(2)]
    assert len({note[0] for note in notes} | {str(process.pid)}) == 3
    assert [note[2] for note in notes] == ["an argument"] * 2
    assert [int(note[1]) for note in notes] == [max(1, (os.cpu_count() or 1) // 2)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_the_processes_of_accelerate_launch_are_used_whatever_the_parameters_say(processes, tmp_path):
    (tmp_path / "small_stage.py").write_text(STAGE)
    write_parameters(tmp_path, runtime={"processes": processes})
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"]
    options = ["--num_processes", "2", "--main_process_port", "0", "-m", "small_stage", "works"]
    done = subprocess.run(
        [*launcher, *options], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "process 0\n"
    assert sorted(path.name for path in tmp_path.glob("works-*")) == ["works-0", "works-1"]


@pytest.mark.slow
@pytest.mark.parametrize("what", [pytest.param("all-fail", marks=pytest.mark.exhaustive), "second-fails"])
def test_an_error_is_one_sentence_said_once_and_ends_all_processes(what, stage, tmp_path):
    process = stage(2, what)
    _, errors = process.communicate(timeout=SECONDS)
    assert errors == f"error: {what} as was wanted.\n"
    assert process.returncode == 1
    assert_ended(tmp_path, what)


@pytest.mark.slow
def test_no_process_outlives_the_one_that_was_started(stage, tmp_path):
    process = stage(2, "waits")
    wait_for(lambda: all((tmp_path / f"waits-{number}").is_file() for number in range(2)))
    process.kill()
    process.wait()
    assert_ended(tmp_path, "waits")


def assert_ended(folder: Path, what: str) -> None:
    notes = [folder / f"{what}-{number}" for number in range(2)]
    pids = [int(note.read_text().split()[0]) for note in notes if note.is_file()]
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


# GPUs


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cuda:1", "runtime.device cuda:1 is one GPU, and runtime.processes is 3: use cuda, or 1 process"),
        ("cuda", r"runtime.processes is 3, but torch finds 2 GPU\(s\): each process needs one"),
        ("auto", r"runtime.processes is 3, but torch finds 2 GPU\(s\)"),
    ],
)
def test_more_processes_than_gpus_are_refused(device, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=sentence):
        _refuse_missing_gpus(Runtime(device=device, processes=3))
    _refuse_missing_gpus(Runtime(device="cuda", processes=2))
    _refuse_missing_gpus(Runtime(device="cpu", processes=64))


# Stages on a small store, killed


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Return a folder with out/real of the smoke preset."""
    folder = tmp_path_factory.mktemp("prepared")
    write_parameters(folder)
    run(["-m", "stages.prepare"], folder)
    return folder


def run(command: list[str], folder: Path) -> None:
    done = run_python(*command, cwd=folder)
    assert done.returncode == 0, done.stderr


def outputs_after(
    kills: int, prepared: Path, folder: Path, command: list[str], processes: int
) -> dict[str, str]:
    """Run a stage in so many processes, killed a few steps after each start; return its outputs' digests.

    What is killed starts its processes itself; where the stage is run to its end, they are forked.
    """
    shutil.copytree(prepared, folder)

    def done() -> int:
        for path in (folder / ".work").rglob("state.pt"):
            return load_checkpoint(path)["done"]
        return 0

    write_parameters(folder, runtime={"processes": processes, "checkpoint_seconds": 1e-9})
    for _ in range(kills):
        before = done()
        process = ForkedPython(*command, cwd=folder)
        wait_for(lambda before=before, process=process: done() >= before + 4 or process.poll() is not None)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    write_parameters(folder, runtime={"processes": processes})
    run(command, folder) if processes == 1 else run_in_two(*command, cwd=folder)
    assert not [path for path in (folder / ".work").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "out").rglob("*"))
        if path.is_file() and "real" not in path.parts
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "processes"),
    [
        # As test_kills kills it, by another way.
        pytest.param("train original group_dro 0", 1, marks=pytest.mark.exhaustive),
        ("train_gan", 2),
    ],
)
def test_a_killed_stage_writes_what_an_undisturbed_one_does(name, processes, prepared, tmp_path):
    """The files are the same to the byte; no state, lock or half-written file is left."""
    command = ["-m", *f"stages.{name}".split()]
    whole, killed = (
        outputs_after(kills, prepared, tmp_path / str(kills), command, processes) for kills in (0, 1)
    )
    assert len(whole) >= 4
    assert killed == whole
