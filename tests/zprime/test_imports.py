"""Imports go one way, and no packages import one another in a circle: the contracts in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ("zprime", "benchmarks", "stages", "generators", "classifiers", "data", "pipeline")
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """See whether the packages in a folder keep the contracts of its pyproject.toml."""
    return subprocess.run(
        [sys.executable, "-P", "-c", LINT],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_go_one_way() -> None:
    found = lint(PROJECT)
    assert found.returncode == 0, found.stdout
    assert "2 kept, 0 broken" in found.stdout


@pytest.mark.parametrize(
    ("importer", "imported", "contract"),
    [
        ("pipeline", "data", "Imports go one way"),
        ("generators", "classifiers", "Imports go one way"),
        ("data", "stages", "Imports go one way"),
        ("stages", "zprime", "Imports go one way"),
        ("pipeline.first", "pipeline.second", "No circles within a package"),
    ],
)
def test_the_contracts_see_what_breaks_them(
    tmp_path: Path, importer: str, imported: str, contract: str
) -> None:
    """An import within a function counts too: it is how a circle is hidden."""
    (tmp_path / "pyproject.toml").write_bytes((PROJECT / "pyproject.toml").read_bytes())
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "pipeline" / "first.py").touch()
    (tmp_path / "pipeline" / "second.py").write_text("import pipeline.first\n")
    assert "2 kept, 0 broken" in lint(tmp_path).stdout
    path = (tmp_path / importer.replace(".", "/")).with_suffix(".py")
    if importer in PACKAGES:
        path = tmp_path / importer / "__init__.py"
    path.write_text(f"def late():\n    import {imported}\n")
    broken = lint(tmp_path)
    assert broken.returncode == 1
    assert f"{contract} BROKEN" in broken.stdout
    assert "1 kept, 1 broken" in broken.stdout
