"""Code that all sections of params.yaml share, and the sections that belong to no stage.

A section lists what changes the stage's output; dvc.yaml makes each stage depend on the sections it
reads. `runtime` and `cluster` say where and how fast, not what: no stage depends on them.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from pipeline.errors import UserError

PARAMETERS_FILE = Path("params.yaml")


class Parameters(BaseModel):
    """A section: unknown keys are refused, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(Parameters):
    """Where networks run, in which precision, and in how many processes."""

    device: str = "auto"  # auto: the GPU where there is one; or cpu, cuda, cuda:1
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 where the hardware computes in it
    processes: int = Field(1, ge=1)  # of a training; on GPUs one each
    checkpoint_seconds: float = Field(60.0, gt=0)  # how often a training's state is saved


class Cluster(Parameters):
    """Which processes make the shards of stores."""

    mode: Literal["inline", "local", "scheduler"] = "local"
    workers: int | None = Field(None, ge=1)  # local: processes; null: one per GPU, or per core
    threads: int | None = Field(None, ge=1)  # of torch in each; null: local: cores / workers; else as started
    address: str | None = None  # scheduler: tcp://host:port; null: DASK_SCHEDULER_ADDRESS


class _RuntimeAlone(BaseModel):
    runtime: Runtime = Runtime()


def sentence_of(error: ValidationError, where: str, content: Any = None) -> str:
    """Say what a Pydantic error is about in one sentence: the place, the value there, what was expected.

    Args:
        error: its first complaint is told.
        where: the beginning of the sentence, the file.
        content: the data that was validated. It tells which parts of a place to leave out: Pydantic adds one
            if the `name` of a section decides on its schema.

    Returns:
        The sentence.
    """
    first = error.errors()[0]
    place = ".".join(_place(first["loc"], content))
    if first["type"] == "extra_forbidden":
        return f"{where}: {place} is not a parameter: check its spelling against presets/base.yaml."
    if first["type"] == "missing":
        return f"{where}: {place} is missing: presets/base.yaml shows a complete file."
    if first["type"] == "union_tag_not_found":
        return f"{where}: {place}.name is missing: it says what the other parameters of {place} are."
    if first["type"] == "union_tag_invalid":
        tag, expected = first["ctx"]["tag"], first["ctx"]["expected_tags"]
        return f"{where}: {place}.name (it is {tag!r}): Input should be {expected}."
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return f"{where}: {message}."
    given = first["input"]
    shown = f" (it is {given!r})" if isinstance(given, str | int | float | bool | type(None)) else ""
    return f"{where}: {place}{shown}: {message}."


def _place(location: tuple[int | str, ...], content: Any) -> list[str]:
    """Return the keys that lead to a place, without the names that decide on the schemas of sections."""
    keys, section, name = list[str](), content, None
    for part in location:
        if part == name:
            name = None  # a key of the section may have the same name
            continue
        keys.append(str(part))
        section = section.get(part) if isinstance(section, dict) else None
        name = section.get("name") if isinstance(section, dict) else None
    return keys


def content_of(path: Path) -> dict[str, Any]:
    """Read the sections of a parameter file, not checked; raise `UserError` if it cannot be read."""
    if not path.is_file():
        raise UserError(f"{path} is missing: `make repro PRESET=avatars` writes one.")
    try:
        content = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold one section per stage, as presets/base.yaml does.")
    return content


def read_runtime(path: Path = PARAMETERS_FILE) -> Runtime:
    """Read the section `runtime` of a parameter file, before a stage reads the others."""
    try:
        return _RuntimeAlone.model_validate(content_of(path)).runtime
    except ValidationError as error:
        raise UserError(sentence_of(error, str(path))) from error
