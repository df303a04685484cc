"""A stage ends with one sentence if a user can mend the error, and with the `dvc repro` that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.support import PROJECT, environment, is_alive, run_python, wait_for

STAGE = """
import sys
from pipeline.errors import UserError
from pipeline.stage import run_stage

def main(what: str) -> None:
    if what == "user":
        raise UserError("params.yaml: no.")
    if what == "disk":
        open("/nowhere/file", "w")
    if what == "read-only":
        open("/proc/version", "w")
    if what == "without number":
        raise OSError("Can't read data")
    if what == "defect":
        raise ZeroDivisionError("division by zero")

run_stage(main)
"""


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("user", "params.yaml: no."),
        (
            "disk",
            "No such file or directory at /nowhere/file: mend that and run the same again; finished shards "
            "and checkpoints are kept.",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_on_stderr_and_status_1(what, sentence):
    done = run_python("-c", STAGE, what)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {sentence}\n")


@pytest.mark.parametrize(("what", "error"), [("defect", "ZeroDivisionError"), ("without number", "OSError")])
def test_a_defect_keeps_its_traceback(what, error):
    done = run_python("-c", STAGE, what)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(error)


def test_success_is_status_0():
    done = run_python("-c", STAGE, "nothing")
    assert (done.returncode, done.stderr) == (0, "")


# Orphans


RUNNING = """
import os, time
from pathlib import Path
from pipeline.stage import run_stage

def main() -> None:
    Path("pid.tmp").write_text(str(os.getpid()))
    Path("pid.tmp").rename("pid")
    while True:
        Path("alive").touch()
        time.sleep(0.05)

run_stage(main)
"""


@pytest.fixture
def orphaned(tmp_path, monkeypatch, request) -> Iterator[int]:
    """Return the process id of a running stage whose parent shell was just killed."""
    monkeypatch.chdir(tmp_path)
    command = ["sh", "-c", '"$0" -c "$1"; true', sys.executable, RUNNING]
    shell = subprocess.Popen(command, env=environment(**request.param), cwd=tmp_path)
    wait_for(Path("pid").exists, 30)
    stage = int(Path("pid").read_text())
    assert stage != shell.pid
    shell.kill()
    shell.wait()
    yield stage
    with suppress(ProcessLookupError):
        os.kill(stage, signal.SIGKILL)


@pytest.mark.parametrize("orphaned", [{"DVC_ROOT": "/somewhere"}], indirect=True)
def test_a_stage_ends_with_the_dvc_that_started_it(orphaned):
    wait_for(lambda: not is_alive(orphaned), 2)
    assert not is_alive(orphaned)


@pytest.mark.parametrize("orphaned", [{}], indirect=True)
def test_a_stage_started_by_hand_outlives_its_shell(orphaned):
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert is_alive(orphaned)
        time.sleep(0.1)
    before = Path("alive").stat().st_mtime_ns
    wait_for(lambda: Path("alive").stat().st_mtime_ns > before, 2)


def test_no_shell_stands_between_dvc_and_a_stage():
    """If /bin/sh is dash, such a shell would stay when `dvc` is killed."""
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    commands = [stage["cmd"] for stage in stages.values()]
    assert "exec python -m stages.prepare" in commands
    assert [command for command in commands if not command.startswith("exec python -m stages.")] == []
