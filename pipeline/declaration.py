"""dvc.yaml as zprime reads it: what every stage runs, reads and writes stands there and nowhere else.

From an entry of dvc.yaml follow the digest of a stage's resumable state (`pipeline.work`), the order in which
outputs are mended, and what runs then (`zprime.verify`).
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
DATA = "out/"  # where dependencies that are data begin; all others are code
COMMAND = re.compile(r"\bpython -m stages\.(.+)")
HOLE = re.compile(r"\$\{([^}]+)\}")
ARGUMENT = r"[\w.-]+"  # what a hole of a command may stand for: nothing that leads to another folder

Entries = Mapping[str, Mapping[str, Any]]  # the section `stages` of dvc.yaml
Values = Mapping[str, Any]  # what holes stand for, by what is written in them: "item.latents", "generator"


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
    """Read the stages of a folder's dvc.yaml, or of the project's own where the folder has none."""
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
    """The stage that a command runs, also where params.yaml does not ask for these arguments.

    Args:
        command: the stage and its arguments: "train original erm 0".
        entries: the stages of dvc.yaml.
        parameters: the content of params.yaml.

    Raises:
        UserError: dvc.yaml has no such stage.
    """
    found = []
    for name, entry in entries.items():
        values = _values_in(command, entry)
        if values is not None:
            unasked = sum(not _is_asked_for(hole, value, entry, parameters) for hole, value in values.items())
            # Of two entries that fit as well, such as train_real and train_balanced: the one that reads more.
            found.append((unasked, -len(entry["deps"]), name, values))
    if not found:
        raise UserError(f"{DECLARATION} has no stage that runs `python -m stages.{command}`.")
    *_, name, values = min(found, key=lambda candidate: candidate[:2])
    return _stage(name, entries[name], values, parameters)


def stages_in_order(
    entries: Entries, parameters: Mapping[str, Any], others: Iterable[Stage] = ()
) -> list[Stage]:
    """All stages that params.yaml asks for, each after those whose outputs it reads.

    Args:
        entries: the stages of dvc.yaml.
        parameters: the content of params.yaml.
        others: stages that params.yaml does not ask for, and which are to have their place too.
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
    """Glob patterns of the folders that stages publish: those of `in_place` entries, without an index, are
    left out.
    """
    published = [entry for entry in entries.values() if not entry.get("meta", {}).get("in_place")]
    return sorted({HOLE.sub("*", path) for entry in published for path in _paths(entry["outs"])})


def value_at(parameters: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, such as "train.steps"; None where there is none."""
    value: Any = parameters
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _command_of(entry: Mapping[str, Any]) -> str:
    found = COMMAND.search(entry["cmd"])
    return found[1].strip() if found else ""


def _values_in(command: str, entry: Mapping[str, Any]) -> dict[str, str] | None:
    """What the holes in an entry's command stand for where it spells this command; None where it does not.

    A hole that is no axis of the matrix is for the name of a stage: one of those that `meta` lists.
    """
    literals, holes = HOLE.split(_command_of(entry))[::2], HOLE.findall(_command_of(entry))
    match = re.fullmatch(f"({ARGUMENT})".join(map(re.escape, literals)), command)
    values = dict(zip(holes, match.groups(), strict=True)) if match else {}
    known = all(hole.startswith("item.") or value in entry["meta"][hole] for hole, value in values.items())
    return values if match and known else None


def _is_asked_for(hole: str, value: str, entry: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether params.yaml has the stage run with this value."""
    if hole.startswith("item."):
        return value in map(str, _choices(entry["matrix"][hole.removeprefix("item.")], parameters))
    return value == str(value_at(parameters, hole))


def _choices(listed: str | Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
    """The values of a matrix's axis: a list, or the key of a list of params.yaml in a hole."""
    return (value_at(parameters, HOLE.sub(r"\1", listed)) or []) if isinstance(listed, str) else listed


def _cells(entry: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What holes stand for in each cell of an entry's matrix; one cell without a matrix."""
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
    """The paths of outputs, which have options in dvc.yaml or have none."""
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def _overlap(first: str, second: str) -> bool:
    """Whether a path is another one, or lies in it."""
    return f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/")
