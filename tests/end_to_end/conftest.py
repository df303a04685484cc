"""One run of the real pipeline, tiny, for all tests that need one."""

import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.running import checked, new_repository

# A run may take as long as this many starts of a stage, whatever the machine: its own 27 are half of it. The
# target, 90 s where a start takes 1.8 s, is 50; the machine that tests may be busy with other work.
STARTS_FOR_SMOKE = 50 * 2


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository with the project's files, after its first `dvc repro` of the smoke preset."""
    folder = new_repository(tmp_path_factory.mktemp("zprime"))
    taken = seconds(folder, "dvc", "repro")
    starts = [seconds(folder, sys.executable, "-m", "stages.train", "--help") for _ in range(3)]
    assert taken < STARTS_FOR_SMOKE * statistics.median(starts)
    return folder


def seconds(repository: Path, *command: str) -> float:
    """How long a command takes."""
    start = time.monotonic()
    checked(repository, *command)
    return time.monotonic() - start
