"""How the tests run commands in a repository."""

import os
import subprocess
import sys
from pathlib import Path

import yaml


def environment(repository: Path) -> dict[str, str]:
    """Of a command that is to run the code of `repository`."""
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": str(repository),
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
