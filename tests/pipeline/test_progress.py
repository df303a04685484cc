"""Progress shows rate and time left, in lines or in a bar, and sums the work of several workers."""

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pandas as pd
import pytest
from distributed import LocalCluster
from rich.console import Console

from pipeline import progress as progress_module
from pipeline.cluster import make_shards
from pipeline.content.stores import commit_shard, committed_shards
from pipeline.parameters import Cluster
from pipeline.progress import _plain_line, progress

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock(monkeypatch) -> Callable[[float], None]:
    """Return a function that lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_line_tells_what_is_done_how_fast_and_the_time_left():
    line = "draw: 2,500/10,000 images, 50.0 images/s, 150 s left"
    assert _plain_line("draw", 2500, 10000, 50.0, "images", "") == line
    assert _plain_line("draw", 2500, 10000, 50.0, "images", "loss 0.1") == f"{line}, loss 0.1"


def test_lines_come_every_few_seconds_and_count_the_speed_of_this_run_alone(clock, capsys):
    with progress("draw", 1000, "images", done=400) as advance:
        for _ in range(4):
            clock(8)
            advance(80)
    assert capsys.readouterr().out.splitlines() == [
        "draw: 560/1,000 images, 10.0 images/s, 44 s left",
        "draw: 720/1,000 images, 10.0 images/s, 28 s left",
        "draw: 720 images in 32.0 s",
    ]


def test_a_terminal_has_a_bar_with_the_speed_and_the_time_left(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(
        progress_module, "Console", lambda: Console(file=shown, force_terminal=True, width=140)
    )
    with progress("draw", 1000, "images", done=400) as advance:
        for _ in range(4):
            time.sleep(0.1)
            advance(50, "loss 0.1")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).splitlines()[-1]
    found = re.fullmatch(r"draw \S+ +600/1,000 ([\d,.]+) images/s (\d:\d\d:\d\d) loss 0\.1 *", last)
    assert found, last
    assert 100 < float(found[1].replace(",", "")) < 1000
    assert found[2].startswith("0:00:0")


def half_then_wait() -> Callable[[int, Callable[[int], object]], dict]:
    def make(shard: int, advance: Callable[[int], object]) -> dict:
        for _ in range(8):
            advance(1)
        end = time.monotonic() + 30
        while not Path("go").exists() and time.monotonic() < end:
            time.sleep(0.02)
        advance(2)
        return commit_shard(Path(".work/store"), shard, pd.DataFrame({"id": [str(shard)]}))

    return make


def test_what_two_workers_do_comes_together_in_one_sum_while_they_do_it(monkeypatch):
    """Each has reported 8 of its 10 images, and waits until the line of 16 has been shown."""
    lines: list[tuple[str, int]] = []

    def show(line: str, flush: bool) -> None:
        lines.append((line, len(committed_shards(Path(".work/store")))))
        if line.startswith("draw: 16/20 images, "):
            Path("go").touch()

    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress_module, "print", show, raising=False)
    Path(".work").mkdir()
    start = time.monotonic()
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, local_directory="dask"
    ) as scheduler:
        cluster = Cluster(mode="scheduler", address=scheduler.scheduler_address)
        make_shards("draw", Path(".work/store"), [10, 10], half_then_wait, cluster)
    assert time.monotonic() - start < 25
    shown = [
        re.fullmatch(r"draw: (\d+)/20 images, ([\d.]+) images/s, (\d+) s left", line) for line, _ in lines
    ]
    counts = [int(found[1]) for found in shown if found]
    assert counts == sorted(counts)
    assert counts[-1] == 20
    assert next(done for line, done in lines if line.startswith("draw: 16/20")) == 0
    assert lines[-1][0].startswith("draw: 20 images in ")
