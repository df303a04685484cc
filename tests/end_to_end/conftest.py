"""One run of the real pipeline, tiny, for all tests that need one."""

import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.running import edit, new_repository, reproduce, seconds

# A run may take as long as this many starts of a stage, whatever the machine: its own 28 are half of it. The
# target, 90 s where a start takes 1.8 s, is 50; the machine that tests may be busy with other work.
STARTS_FOR_SMOKE = 50 * 2
STAGES = 28  # which are forked here, and so have hardly to start


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository with the project's files, after its first `dvc repro` of the smoke preset.

    In small shards, and with an export: there is something to kill in every stage.
    """
    folder = new_repository(tmp_path_factory.mktemp("zprime"))
    edit(folder, "prepare", shard_size=64)
    edit(folder, "synthesize", shard_size=32, batch_size=32)
    edit(folder, "export", formats=["webdataset"], images_per_file=64)
    begun = time.monotonic()
    reproduce(folder)
    taken = time.monotonic() - begun
    start = seconds(folder, sys.executable, "-m", "stages.train", "--help")
    assert taken < (STARTS_FOR_SMOKE - STAGES) * start
    return folder
