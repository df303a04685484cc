"""How the tests run commands in a repository."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import yaml

from stages.shared.paths import PRESETS
from stages.shared.presets import preset_text
from tests.support import PROJECT, environment, forking_python


def new_repository(folder: Path) -> Path:
    """Fill a folder with the project's files, the smoke preset among them as params.yaml, and commit them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (PROJECT / name).is_file() and name not in ("dvc.lock", "metrics.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    (folder / "params.yaml").write_text(preset_text("smoke", folder / PRESETS))
    checked(folder, "git", "init", "--quiet")
    checked(folder, "git", "add", ".")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    checked(folder, "git", *identity, "commit", "--quiet", "-m", "start")
    return folder


def run(repository: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=repository, env=environment(repository, **variables), capture_output=True, text=True
    )


def checked(repository: Path, *command: str, **variables: str) -> str:
    done = run(repository, *command, **variables)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def reproduce(repository: Path, *arguments: str) -> None:
    """`dvc repro`, whose stages are forked: each would take seconds to start."""
    with forking_python() as folder:
        path = os.pathsep.join([str(folder), environment(repository)["PATH"]])
        checked(repository, "dvc", "repro", *arguments, PATH=path)


def seconds(repository: Path, *command: str) -> float:
    """How long a command takes."""
    start = time.monotonic()
    checked(repository, *command)
    return time.monotonic() - start


def edit(repository: Path, section: str, **values: object) -> None:
    path = repository / "params.yaml"
    parameters = yaml.safe_load(path.read_text())
    parameters[section] |= values
    path.write_text(yaml.safe_dump(parameters))


def replace(repository: Path, **values: object) -> None:
    """Give top-level parameters other values."""
    path = repository / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))
