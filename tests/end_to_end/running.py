"""How the tests run commands in a repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from stages.shared.presets import PRESETS, preset_text

PROJECT = Path(__file__).parents[2]


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


def environment(repository: Path) -> dict[str, str]:
    """Of a command that is to run the code of `repository`, in the shell that DVC uses where none is set."""
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(repository),
        "SHELL": "/bin/sh",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def run(repository: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=repository, env=environment(repository), capture_output=True, text=True
    )


def checked(repository: Path, *command: str) -> str:
    done = run(repository, *command)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def edit(repository: Path, section: str, **values: object) -> None:
    path = repository / "params.yaml"
    parameters = yaml.safe_load(path.read_text())
    parameters[section] |= values
    path.write_text(yaml.safe_dump(parameters))


def replace(repository: Path, **values: object) -> None:
    """Give top-level parameters other values."""
    path = repository / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))
