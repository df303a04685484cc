"""Reads dvc.yaml, the only place that says what every stage runs, reads and writes.

The entry of a stage in dvc.yaml decides the digest of its resumable state (`pipeline.work`), the order in
which outputs are mended, and what runs then (`zprime.verify`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError

DECLARATION = Path("dvc.yaml")
PROJECT = Path(__file__).parents[1]  # the folder of the packages, and of the project's own dvc.yaml
DATA = "out/"  # dependencies that begin with it are data; all others are code
COMMAND = re.compile(r"\bpython -m stages\.(.+)")
HOLE = re.compile(r"\$\{([^}]+)\}")
ARGUMENT = r"[\w.-]+"  # the text that may stand for a hole of a command: never a path

Entries = Mapping[str, Mapping[str, Any]]  # the section `stages` of dvc.yaml
Values = Mapping[str, Any]  # the values of holes, by the text in them: "item.latents", "generator"


@dataclass(frozen=True)
class Stage:
    """One stage with its arguments, as dvc.yaml declares it.

    Attributes:
        name: the name of its entry in dvc.yaml.
        command: the stage and its arguments, as after ``python -m stages.``: "synthesize z".
        params: the values of the parameters that it depends on, by their dotted keys; None for a missing one.
        code: the files and folders of code that it depends on, relative to the project's folder.
        data: the files and folders that it reads, relative to the working folder.
        outs: the files and folders that it writes, relative to the working folder.
    """

    name: str
    command: str
    params: dict[str, Any]
    code: tuple[str, ...]
    data: tuple[str, ...]
    outs: tuple[str, ...]


def read_entries(folder: Path = Path()) -> Entries:
    """Read the stages of a folder's dvc.yaml, or of the project's own if the folder has none."""
    path = folder / DECLARATION
    path = path if path.is_file() else PROJECT / DECLARATION
    try:
        entries: Entries = yaml.safe_load(path.read_bytes())["stages"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as DVC's declaration of stages: `git checkout dvc.yaml` restores it."
        ) from error
    return entries


def stage_of(command: str, entries: Entries, parameters: Mapping[str, Any]) -> Stage:
    """Return the stage that a command runs, even if params.yaml does not ask for these arguments.

    Args:
        command: the stage and its arguments: "train original erm 0".
        entries: the stages of dvc.yaml.
        parameters: the content of params.yaml.

    Returns:
        The stage. If several entries fit the command, such as train_real and train_balanced, the one whose
        arguments params.yaml asks for, and of these the one that reads more.

    Raises:
        UserError: dvc.yaml has no such stage.
    """
    found = []
    for name, entry in entries.items():
        values = _values_in(command, entry)
        if values is not None:
            unasked = sum(not _is_asked_for(hole, value, entry, parameters) for hole, value in values.items())
            # If two entries fit equally well, such as train_real and train_balanced: the one that reads more.
            found.append((unasked, -len(entry["deps"]), name, values))
    if not found:
        raise UserError(f"{DECLARATION} has no stage that runs `python -m stages.{command}`.")
    *_, name, values = min(found, key=lambda candidate: candidate[:2])
    return _stage(name, entries[name], values, parameters)


def stages_in_order(
    entries: Entries, parameters: Mapping[str, Any], others: Iterable[Stage] = ()
) -> list[Stage]:
    """List all stages that params.yaml asks for, each after the stages whose outputs it reads.

    Args:
        entries: the stages of dvc.yaml.
        parameters: the content of params.yaml.
        others: further stages to put in order, which params.yaml does not ask for.

    Returns:
        The stages in an order in which they can run.
    """
    stages = {
        stage.command: stage
        for name, entry in entries.items()
        for cell in _cells(entry, parameters)
        for stage in [_stage(name, entry, cell, parameters)]
    }
    stages |= {stage.command: stage for stage in others}
    graph = {
        command: [
            other.command
            for other in stages.values()
            if any(_overlap(out, read) for out in other.outs for read in stage.data)
        ]
        for command, stage in stages.items()
    }
    return [stages[command] for command in TopologicalSorter(graph).static_order()]


def output_patterns(entries: Entries) -> list[str]:
    """Return glob patterns of the folders that stages publish.

    Entries that are marked `in_place` in `meta` are left out: their outputs have no index.

    Args:
        entries: the stages of dvc.yaml.

    Returns:
        The patterns, sorted, each once.
    """
    published = [entry for entry in entries.values() if not entry.get("meta", {}).get("in_place")]
    return sorted({HOLE.sub("*", path) for entry in published for path in _paths(entry["outs"])})


def value_at(parameters: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, such as "train.steps"; None if there is none."""
    value: Any = parameters
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _command_of(entry: Mapping[str, Any]) -> str:
    found = COMMAND.search(entry["cmd"])
    return found[1].strip() if found else ""


def _values_in(command: str, entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Find the values for the holes in an entry's command that make it this command.

    A hole that is not an axis of the matrix stands for the name of a stage: one of those that `meta` lists.

    Args:
        command: the stage and its arguments.
        entry: an entry of dvc.yaml.

    Returns:
        Hole -> value; None if the entry cannot run this command.
    """
    literals, holes = HOLE.split(_command_of(entry))[::2], HOLE.findall(_command_of(entry))
    match = re.fullmatch(f"({ARGUMENT})".join(map(re.escape, literals)), command)
    values = dict(zip(holes, match.groups(), strict=True)) if match else {}
    known = all(hole.startswith("item.") or value in entry["meta"][hole] for hole, value in values.items())
    return values if match and known else None


def _is_asked_for(hole: str, value: str, entry: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Tell whether params.yaml has the stage run with this value."""
    if hole.startswith("item."):
        return value in map(str, _choices(entry["matrix"][hole.removeprefix("item.")], parameters))
    return value == str(value_at(parameters, hole))


def _choices(listed: str | Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Return the values of a matrix's axis: a list, or in a hole the key of a list of params.yaml."""
    return (value_at(parameters, HOLE.sub(r"\1", listed)) or []) if isinstance(listed, str) else listed


def _cells(entry: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the values of the holes in each cell of an entry's matrix; one cell if it has no matrix."""
    axes = {f"item.{name}": _choices(listed, parameters) for name, listed in entry.get("matrix", {}).items()}
    return [dict(zip(axes, cell, strict=True)) for cell in product(*axes.values())]


def _stage(name: str, entry: Mapping[str, Any], values: Values, parameters: Mapping[str, Any]) -> Stage:
    def filled(template: str) -> str:
        return HOLE.sub(lambda hole: str(values.get(hole[1], value_at(parameters, hole[1]))), template)

    deps = [filled(path) for path in entry["deps"]]
    return Stage(
        name=name,
        command=filled(_command_of(entry)),
        params={key: value_at(parameters, key) for key in map(filled, entry.get("params", []))},
        code=tuple(path for path in deps if not path.startswith(DATA)),
        data=tuple(path for path in deps if path.startswith(DATA)),
        outs=tuple(map(filled, _paths(entry["outs"]))),
    )


def _paths(outs: Sequence[str | Mapping[str, Any]]) -> list[str]:
    """Return the paths of outputs, with or without options in dvc.yaml."""
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def _overlap(first: str, second: str) -> bool:
    """Tell whether two paths are the same, or one lies in the other."""
    return f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/")
