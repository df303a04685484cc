"""The command `zprime`: its commands, their help and examples, and where they work."""

import importlib
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.errors import UserError
from zprime.__main__ import COMMANDS, application, command_of

PROJECT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `python -m zprime` in a folder, whose own modules Python would find first."""
    return subprocess.run(
        [sys.executable, *options, "-m", "zprime", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_list_of_commands_appears_at_once(tmp_path: Path) -> None:
    """No command's module is imported for it, and none of the libraries that take seconds."""
    start = time.monotonic()
    shown = run(tmp_path, "--help", options=("-X", "importtime"))
    seconds = time.monotonic() - start
    assert shown.returncode == 0
    for name, command in COMMANDS.items():
        assert f"  {name}" in shown.stdout and command.summary in shown.stdout
    imported = {line.split("|")[-1].strip() for line in shown.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "numpy", "pandas", "pydantic", "matplotlib", "distributed"}
    assert seconds < 5  # a quarter of a second on a quiet machine


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_the_command_understands(name: str) -> None:
    shown = CliRunner().invoke(application, [name, "--help"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.output
    assert COMMANDS[name].examples
    for example in COMMANDS[name].examples:
        assert f"  {example}\n" in shown.output
        words = shlex.split(example.split("&&")[0].split("|")[0])
        assert words[:2] == ["zprime", name]
        command_of(name).make_context(name, words[2:])  # raises where an option or a value is not known


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.in_project])
def test_outside_a_project_a_command_says_where_it_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(application, [name, *(["smoke"] if name == "preset" else [])])
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == (
        f"zprime {name} works on a project, and {tmp_path} has no dvc.yaml: go to the folder of your "
        "clone of zprime, and run it there."
    )


def test_an_error_is_one_line_beside_a_data_of_ones_own(tmp_path: Path) -> None:
    """Python would find the user's own modules before zprime's: none of them is imported."""
    for name in ("data", "pipeline", "classifiers", "stages"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is the user's own module')")
    table = tmp_path / "theirs.csv"
    table.write_text("id,y,score,g\na,1,0.9,m\nb,0,0.2,m\nc,1,0.8,f\nd,0,0.7,f\n")
    wrong = run(tmp_path, "evaluate", "theirs.csv", "--protected", "age")
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert wrong.stderr == "error: theirs.csv has no column 'age'; it has id, y, score, g.\n"
    right = run(tmp_path, "evaluate", "theirs.csv", "--protected", "g")
    assert right.returncode == 0, right.stderr
    assert right.stdout.endswith(
        "theirs.csv: 4 samples, matched threshold 0.8; theirs.metrics.json has every metric\n"
    )


def test_params_prints_the_values_of_params_yaml_and_of_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    from stages.parameters import AllParameters, read_parameters

    monkeypatch.chdir(PROJECT)
    printed = CliRunner().invoke(application, ["params"])
    expected = read_parameters()
    found = AllParameters.model_validate(yaml.safe_load(printed.output))
    assert found.prepare.source.items() >= expected.prepare.source.items()  # with the source's defaults
    assert found.model_copy(update={"prepare": expected.prepare}) == expected
    smoke = CliRunner().invoke(application, ["params", "--preset", "smoke"])
    assert smoke.exit_code == 0
    assert smoke.output != printed.output


def test_every_command_is_also_a_module() -> None:
    for command in COMMANDS.values():
        assert callable(importlib.import_module(command.module).main)
