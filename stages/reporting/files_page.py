"""docs/files.md: what each stage writes, from dvc.yaml and `stages.reporting.outputs`."""

import re
from collections.abc import Mapping
from typing import Any

from stages.reporting import outputs
from stages.reporting.described_files import COMMON, File
from stages.reporting.markdown import MADE, code, sentences_of, table
from stages.reporting.schema_texts import schema_fields

FILES_HEAD = f"""\
# Files

{MADE}

What each stage writes, in the order of `dvc.yaml`. Tables are joined by `id`, never by position. With t the
target and g the number of the protected group, a group is t · n_g + g. NAME is an attribute, K the number of
a group, H one of the halves 0 and 1."""


def files_page(entries: Mapping[str, Any]) -> str:
    """Write docs/files.md as text.

    Args:
        entries: the stages of dvc.yaml.

    Returns:
        the page in Markdown.
    """
    common = ["## In several outputs", *map(file_text, COMMON)]
    parts = [stage_text(stage, entry) for stage, entry in entries.items()]
    alone = ["## In the project's folder", file_text(outputs.METRICS)]
    return "\n\n".join([FILES_HEAD, *common, *parts, *alone]) + "\n"


def stage_text(stage: str, entry: Mapping[str, Any]) -> str:
    """Describe the outputs of one stage.

    Args:
        stage: its name in dvc.yaml, a key of `OUTPUTS`.
        entry: its entry in dvc.yaml.

    Returns:
        a part of docs/files.md.
    """
    what, files = outputs.OUTPUTS[stage]
    reads = [path for path in map(shown_path, entry.get("deps", [])) if path.startswith("out/")]
    sentences = [what, f"Written by {code(stage_command(entry))}."]
    if reads:
        sentences.append(f"It reads {', '.join(map(code, reads))}.")
    heading = " and ".join(map(shown_path, _outs(entry)))
    return "\n\n".join([f"## {heading}", sentences_of(sentences), *map(file_text, files)])


def _outs(entry: Mapping[str, Any]) -> list[str]:
    """Return the paths of a stage's outputs; in dvc.yaml some have options and some have none."""
    return [out if isinstance(out, str) else next(iter(out)) for out in entry["outs"]]


def stage_command(entry: Mapping[str, Any]) -> str:
    """Return the command of a stage as one types it: "python -m stages.synthesize LATENTS"."""
    return shown_path(entry["cmd"].removeprefix("exec "))


def shown_path(template: str) -> str:
    """Replace each template hole in a path or command by its name in capitals: "out/latents/LATENTS"."""
    return re.sub(r"\$\{(?:\w+\.)*(\w+)\}", lambda hole: hole[1].upper(), template)


def file_text(file: File) -> str:
    """Describe a file: its name, its content, then its columns or keys."""
    listed = {name for names in file.fields for name in names.split(", ")}
    fields = file.fields | {
        f"{place}{name}": text
        for place, schema in file.schemas.items()
        for name, text in schema_fields(schema).items()
        if name not in listed
    }
    title = f"`{file.name}`: {file.what}"
    if not fields:
        return title
    rows = [
        (names if names == "others" else ", ".join(map(code, names.split(", "))), text)
        for names, text in fields.items()
    ]
    return f"{title}\n\n{table(('column' if _is_table(file.name) else 'key', 'is'), rows)}"


def _is_table(name: str) -> bool:
    return name.endswith((".parquet", ".csv"))
