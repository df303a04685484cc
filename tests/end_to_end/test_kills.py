"""`dvc repro` killed in its stages, for real: the next one goes on, and ends as if nothing had been.

There are four ways in which a stage writes: in shards, with the state of a training or of a GAN's, and whole.
`make test` kills one stage of each, `make test-all` every stage.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from distributed import LocalCluster

from pipeline.content.files import sha256_of_file
from tests.end_to_end.running import edit, reproduce
from tests.support import ForkedPython, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Each stage, its output, and what it leaves in .work that is worth a kill: a shard's record, a state.
STAGES = {
    "prepare": ("out/real", "records/*.json"),
    "train_attribute@Male": ("out/attributes/Male", "state.pt"),
    "generator": ("out/generator", "state.pt"),
    "sample": ("out/latents/z", ""),
    "synthesize@z": ("out/synthetic/z", "records/*.json"),
    "label@z": ("out/labels/z", "records/*.json"),
    "fit_hyperplanes": ("out/hyperplanes", ""),
    "complement": ("out/latents/z_prime", ""),
    "balance": ("out/balanced", ""),
    "train_judge@Male": ("out/judges/Male", "state.pt"),
    "assess": ("out/quality", ""),
    "train_real@original-erm-0": ("out/runs/original/erm/0", "state.pt"),
    "train_balanced@augmented-group_dro-0": ("out/runs/augmented/group_dro/0", "state.pt"),
    "evaluate": ("out/evaluation", ""),
    "report": ("out/report", ""),
    "export@webdataset": ("out/export/webdataset", "records/*.json"),
}
OF_EACH_WAY = ("synthesize@z", "train_real@original-erm-0", "generator", "balance")
CASES = [
    pytest.param(stage, marks=[] if stage in OF_EACH_WAY else pytest.mark.exhaustive) for stage in STAGES
]

TRIES = 6  # of a kill, until it comes before the end


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, after its run that nothing disturbed, where every step is saved."""
    folder = tmp_path_factory.mktemp("kills") / "project"
    shutil.copytree(repository, folder, symlinks=True)
    edit(folder, "runtime", checkpoint_seconds=0.001)
    return folder


def content_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_of_file(p) for p in folder.rglob("*") if p.is_file()}


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def signal_all(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """To a process that leads a group and to all in it, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def has_begun(process: psutil.Process) -> bool:
    """Whether it is a stage that knows who started it, which it asks before it imports numpy."""
    try:
        return "/numpy/" in Path(f"/proc/{process.pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that has may be listed until somebody asks how it did."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_all(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after so long."""
    end = time.monotonic() + seconds
    while (alive := [process for process in processes if runs(process)]) and time.monotonic() < end:
        time.sleep(0.01)
    return alive


def work_files(project: Path, pattern: str) -> list[Path]:
    """The files of .work/ whose path ends in a pattern; a folder that vanishes meanwhile has none."""
    found = [Path(folder) / name for folder, _, names in os.walk(project / ".work") for name in names]
    return [path for path in found if path.match(pattern)]


def committed_in(project: Path) -> Iterator[Path]:
    """The files of the shards that have a record."""
    for record in work_files(project, "records/*.json"):
        yield from (record.parents[1] / name for name in json.loads(record.read_text())["files"])


def lost_in(project: Path) -> list[Path]:
    """The locks of the shards that were begun and have no record: what is made again."""
    return [lock for lock in work_files(project, "records/*.lock") if not lock.with_suffix(".json").exists()]


def killed_run(
    project: Path, stage: str, worth_a_kill: str, wanted: int, patience: float, alone: bool
) -> None:
    """Run a stage, and kill it when there is something to lose, or some time after it has begun.

    Not while `dvc` writes dvc.lock, which it does in place: half a lock is none, and git has the former.

    Args:
        project: the repository's folder.
        stage: the stage as `dvc repro` names it.
        worth_a_kill: the pattern of the files in .work/ that a kill may cost; empty for none.
        wanted: of what is worth a kill, how much there is to be; a state is one.
        patience: for a stage that leaves nothing, seconds from its start.
        alone: kill `dvc` alone, whose stage must then end by itself; or all of them at once.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", stage]
    said = project.with_name("dvc.log")
    with said.open("w") as log:
        process = subprocess.Popen(
            command, cwd=project, env=environment(project), stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None:
        if worth_a_kill:
            found = work_files(project, worth_a_kill)
            if len(found) >= wanted:
                break
        elif any(has_begun(child) for child in descendants(process)):
            time.sleep(patience)
            break
        time.sleep(0.001)
    assert not process.returncode, said.read_text()
    # To list the children takes longer than a shard: all of them stand still meanwhile.
    signal_all(process, signal.SIGSTOP)
    children = descendants(process)
    process.kill()
    if alone:
        signal_all(process, signal.SIGCONT)
    for child in [] if alone else children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    alive = wait_for_all(children, seconds=10)
    assert not alive, f"{alive} outlived the dvc that started them"


def check_kills(project: Path, stage: str, workers: int) -> None:
    """Kill a stage, or twice where it leaves something, and run it to its end: nothing shows of the kills."""
    output, worth_a_kill = STAGES[stage]
    undisturbed = content_of(project / output)
    chance = random.Random(stage)
    kept: dict[str, int] = {}
    for kills, alone in enumerate((False, True) if worth_a_kill else (True,), start=1):
        wanted = 1 if worth_a_kill == "state.pt" else chance.randint(1, 6)
        # A kill may come too late, when the stage has ended and DVC has not yet said so: then an earlier one.
        for sooner in range(TRIES):
            killed_run(
                project,
                stage,
                worth_a_kill,
                max(wanted - sooner, 1),
                chance.uniform(0.0, 0.5) / 2**sooner,
                alone,
            )
            if not (project / output).exists():
                break
            kept.clear()
        else:
            pytest.fail(
                f"{TRIES} kills of {stage} came too late: {(project.with_name('dvc.log')).read_text()}"
            )
        for path in committed_in(project):
            assert kept.setdefault(path.name, path.stat().st_ino) == path.stat().st_ino
        assert len(lost_in(project)) <= workers * kills
    if worth_a_kill == "records/*.json":
        assert kept
    killed = time.time()
    reproduce(project, "--single-item", "--force", stage)
    assert content_of(project / output) == undisturbed
    for path in (project / output).rglob("*"):
        if path.name in kept:
            assert path.stat().st_ino == kept.pop(path.name)
            assert path.stat().st_mtime < killed
    assert not kept
    assert not list(project.rglob("*.tmp"))
    own = [path for path in (project / ".work").iterdir() if path.name != "dask"]
    assert not [path for folder in own for path in (folder, *folder.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("stage", CASES)
def test_a_killed_stage_ends_as_an_undisturbed_one(project: Path, stage: str) -> None:
    """Of the shards that it has begun, a kill costs one at most."""
    check_kills(project, stage, workers=1)


@pytest.mark.exhaustive
def test_a_killed_stage_on_two_workers_ends_as_an_undisturbed_one(project: Path) -> None:
    """A kill costs a shard of each worker at most."""
    edit(project, "cluster", mode="local", workers=2)
    try:
        check_kills(project, "synthesize@z", workers=2)
    finally:
        edit(project, "cluster", mode="inline", workers=None)


@pytest.mark.exhaustive
def test_a_schedulers_workers_that_are_killed_cost_a_shard_each(project: Path) -> None:
    """Twice in a run, at random moments; what was committed before is not made again."""
    output, chance = project / "out/synthetic/z", random.Random("workers")
    arguments = ["--single-item", "--force", "synthesize@z"]
    edit(project, "synthesize", shard_size=4)
    try:
        reproduce(project, *arguments)
        undisturbed = content_of(output)
        shards = len(list(output.glob("*.h5")))
        with patch.dict(os.environ), LocalCluster(  # which leaves its workers' threads in the environment
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50,
            local_directory=str(project / ".work/dask"),
        ) as cluster:  # fmt: skip
            edit(project, "cluster", mode="scheduler", address=cluster.scheduler_address)
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", *arguments], cwd=project, env=environment(project)
            )
            kept: dict[str, int] = {}
            for worker, share in enumerate((chance.uniform(0.0, 0.3), chance.uniform(0.4, 0.7))):
                while len(work_files(project, "records/*.json")) <= share * shards:
                    assert process.poll() is None
                    time.sleep(0.001)
                for path in committed_in(project):
                    assert kept.setdefault(path.name, path.stat().st_ino) == path.stat().st_ino
                os.kill(cluster.workers[worker].pid, signal.SIGKILL)
            assert process.wait(timeout=600) == 0
    finally:
        edit(project, "cluster", mode="inline", address=None)
        edit(project, "synthesize", shard_size=32)
    assert content_of(output) == undisturbed
    found = {path.name: path.stat().st_ino for path in output.rglob("*") if path.name in kept}
    assert found == kept
    assert not list(project.rglob("*.tmp"))
    reproduce(project, *arguments)  # as the other tests find it


def test_two_runs_of_a_stage_never_write_at_once(project: Path) -> None:
    """Two at the same time: one of them does the work, the other waits or says that it cannot."""
    undisturbed, index = content_of(project / "out/synthetic/z"), project / "out/synthetic/z/index.json"
    before = index.stat().st_mtime_ns
    command = ("-m", "stages.synthesize", "z")
    both = [ForkedPython(*command, cwd=project, env=environment(project)) for _ in range(2)]
    for process in both:
        _, complaint = process.communicate(timeout=600)
        assert process.returncode == 0 or "is being written by process" in complaint, complaint
    assert 0 in [process.returncode for process in both]
    assert index.stat().st_mtime_ns > before
    assert content_of(project / "out/synthetic/z") == undisturbed
