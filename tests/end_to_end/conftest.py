"""One run of the real pipeline, tiny, for all tests that need one."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.running import checked

PROJECT = Path(__file__).parents[2]
SECONDS_FOR_SMOKE = 90 * 2  # the target is 90; the machine that tests may be busy with other work


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh repository with the project's files, after its first `dvc repro` of the smoke preset."""
    folder = tmp_path_factory.mktemp("zprime")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file() and name not in ("dvc.lock", "metrics.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    shutil.copy(folder / "presets" / "smoke.yaml", folder / "params.yaml")
    checked(folder, "git", "init", "--quiet")
    checked(folder, "git", "add", ".")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    checked(folder, "git", *identity, "commit", "--quiet", "-m", "start")
    start = time.monotonic()
    checked(folder, "dvc", "repro")
    assert time.monotonic() - start < SECONDS_FOR_SMOKE
    return folder
