"""docs/files.md against the files of a finished run: every file and column is described, and no other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest
import yaml

from stages.reporting.outputs import COMMON, METRICS, OUTPUTS, SAME, File, described
from stages.reporting.schema_texts import schema_fields

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# What stands for several names: each is one or more characters.
PLACEHOLDERS = re.compile("NAME|METRIC|DATA|K|H")


def names_in(path: Path) -> list[str] | None:
    """The columns of a table, or the keys of JSON; None of other files."""
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_schema(path).names)
    if path.suffix == ".csv":
        return list(pd.read_csv(path, nrows=0).columns)
    return list(json.loads(path.read_text())) if path.suffix == ".json" else None


def patterns(file: File) -> dict[str, re.Pattern[str]]:
    """The names that a file's description has -> what they match."""
    listed = [name for names in file.fields for name in names.split(", ")]
    listed += [name for place, schema in file.schemas.items() if not place for name in schema_fields(schema)]
    return {name: re.compile(PLACEHOLDERS.sub(r"\\w+", name)) for name in listed}


def files_of(repository: Path) -> Iterator[tuple[str, Path, str]]:
    """Stage, path and name in its output of every file of a finished run."""
    for stage, entry in yaml.safe_load((repository / "dvc.yaml").read_text())["stages"].items():
        if entry.get("matrix", {}).get("latents") == "${inverted}":
            continue  # the smoke preset inverts none
        for out in entry["outs"]:
            for folder in repository.glob(re.sub(r"\$\{[^}]*\}", "*", str(out))):
                for path in folder.rglob("*"):
                    if path.is_file():
                        yield stage, path, path.relative_to(folder).as_posix()


def test_every_file_and_every_column_is_described(repository: Path) -> None:
    found = set()
    for stage, path, name in files_of(repository):
        if stage == "export":
            continue  # docs/exports.md has the formats
        file = described(stage, name)
        assert file is not None, f"{path} is not described in stages/reporting/outputs.py"
        found.add((SAME.get(stage, stage), file.name))
        names, known = names_in(path), patterns(file)
        if names is None or not known or "others" in known:
            continue
        if file.name.startswith("rows/"):
            names = [column for column in names if column not in ("shard", "row")]
        if file.name in ("hyperplanes.json", "data.json"):  # what they have of each attribute or data set
            names = list(next(iter(json.loads(path.read_text()).values())))
        unknown = [n for n in names if not any(pattern.fullmatch(n) for pattern in known.values())]
        assert not unknown, f"{path} has {unknown}, which stages/reporting/outputs.py does not describe"

    # What only other parameters make: inversion, finishes, exports, and what is loaded.
    expected = {
        (stage, file.name)
        for stage, (_, files) in OUTPUTS.items()
        for file in files
        if stage not in ("invert", "load_classifier") and not stage.startswith("finish")
    }
    assert expected <= found
    assert {file.name for file in COMMON} <= {name for _, name in found} | {"rows/shard-*.parquet"}


def test_metrics_are_described(repository: Path) -> None:
    known = patterns(METRICS).values()

    for name in json.loads((repository / "metrics.json").read_text()):
        assert any(pattern.fullmatch(name) for pattern in known)
