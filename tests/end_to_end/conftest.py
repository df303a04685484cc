"""One run of the real pipeline, tiny, for all tests that need one."""

import time
from pathlib import Path

import pytest

from tests.end_to_end.running import checked, new_repository

SECONDS_FOR_SMOKE = 90 * 2  # the target is 90; the machine that tests may be busy with other work


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository with the project's files, after its first `dvc repro` of the smoke preset."""
    folder = new_repository(tmp_path_factory.mktemp("zprime"))
    start = time.monotonic()
    checked(folder, "dvc", "repro")
    assert time.monotonic() - start < SECONDS_FOR_SMOKE
    return folder
