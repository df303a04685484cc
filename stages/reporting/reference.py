"""``python -m stages.reporting.reference`` writes docs/parameters.md and docs/files.md.

Pure functions make both pages, from the schemas and dvc.yaml. The meaning of a parameter is the comment
beside it in the complete parameter file or, if there is none, the comment beside its field in the schema.
"""

import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data.sources import SOURCES
from pipeline.content.files import committed
from pipeline.declaration import value_at
from pipeline.stage import run_stage
from stages.parameters import AllParameters
from stages.reporting.files_page import files_page
from stages.reporting.markdown import MADE, code, sentences_of, table
from stages.reporting.schema_texts import comments_of

COMMENTED = Path("presets/base.yaml")  # a complete parameter file with comments
DECLARATION = Path("dvc.yaml")
PARAMETERS_PAGE = Path("docs/parameters.md")
FILES_PAGE = Path("docs/files.md")

NO_DEFAULT = "must be given"
DISCRIMINATOR = "name"  # the key that says which alternative of a union a section is
# The meaning of parameters with these names that have no comment of their own.
MEANINGS = {
    "attribute_columns": "the columns that hold attributes; an attribute has the name of its column",
    "augment": "DiffAugment: transforms real and generated images in the same way before the discriminator",
    "folder": "the folder with the files",
    "fractions": "null: `split_column` names the splits",
    "latent_dim": "D, the number of dimensions of z",
    "learning_rate": "the optimizer's highest learning rate",
    "mapping_width": "the number of units of each mapping layer",
    "method": "the training objective",
    "name": "selects one of the alternatives",
    "path": "the file",
    "sampler": "uniform: images as they come; balanced: every group or class with the same probability; "
    "oversampled, undersampled: smaller ones are repeated, larger ones cut down; balanced_batches: as "
    "many of every group in each batch",
    "schedule": "of the learning rate: constant, or decreasing along a cosine",
    "seed": "of the random numbers of this section",
    "split_column": "null: `fractions` divides the images",
    "steps": "the number of steps",
    "test": "the share of every group that is for testing",
    "validation": "the share of every group that is for validation",
    "weight_decay": "the optimizer's weight decay",
}
# Sections whose alternatives only the stage knows.
OPEN: dict[str, list[type[BaseModel]]] = {"prepare.source": list(SOURCES.values())}

PARAMETERS_HEAD = f"""\
# Parameters

{MADE}

Every parameter of `params.yaml`: a section for each stage. `zprime preset NAME` writes a complete file,
`zprime params` prints what a run would use. A key that is not in these tables, or a value that is not
allowed, stops the run before anything is computed."""


class Commented(NamedTuple):
    """A complete parameter file.

    Attributes:
        values: its sections.
        comments: the comment of each parameter by its dotted key.
    """

    values: Mapping[str, Any]
    comments: Mapping[str, str]


# --- Comments --------------------------------------------------------------------------------------------

YAML_KEY = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?P<value>(?:\s[^#]*)?)(?:#\s*(?P<comment>.*))?")


def comments_in(text: str) -> dict[str, str]:
    """Collect the comments of a parameter file.

    Args:
        text: YAML with a key on each line and an indentation of two spaces.

    Returns:
        dotted key -> the comment above its line and at the end of it.
    """
    comments, path, above = dict[str, str](), list[str](), list[str]()
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.lstrip("# "))
        elif match := YAML_KEY.fullmatch(line):
            path = [*path[: len(match["indent"]) // 2], match["key"]]
            if comment := " ".join(filter(None, [*above, match["comment"]])):
                comments[".".join(path)] = comment
            above.clear()
        else:
            above.clear()
    return comments


# --- Parameters ------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of a page's table: one parameter."""

    key: str
    kind: str
    default: str
    meaning: str


KINDS: dict[Any, str] = {
    bool: "true, false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Any: "anything",
}
BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))  # of a field's constraints


def parameter_rows(
    schema: type[BaseModel], commented: Commented, prefix: str = "", seen: dict[Any, str] | None = None
) -> Iterator[Row]:
    """Yield the parameters of a schema, those of its parts after each part.

    Args:
        schema: a section, or a part of one.
        commented: a complete parameter file.
        prefix: what stands before its keys, "train.backbone." for example.
        seen: the keys of the parts that are already shown; a part is shown once.

    Yields:
        rows of the table.
    """
    seen = {} if seen is None else seen
    beside = comments_of(schema)
    for name, field in schema.model_fields.items():
        if _is_discriminator(name, field):
            continue  # the row of the alternative names it
        key = f"{prefix}{field.alias or name}"
        parts = OPEN.get(key) or parts_of(field.annotation)
        meaning = commented.comments.get(key) or beside.get(name) or MEANINGS.get(name, "")
        shown = next((seen[part] for part in parts if part in seen), None)
        if shown is not None:
            meaning = "; ".join(filter(None, (meaning, f"as `{shown}`")))
        kind = "section" if key in OPEN else kind_of(field)
        yield Row(key, kind, default_of(field), meaning)
        if shown is None:
            yield from part_rows(parts, commented, f"{key}.NAME" if kind.startswith("map ") else key, seen)


def part_rows(
    parts: Sequence[type[BaseModel]], commented: Commented, key: str, seen: dict[Any, str]
) -> Iterator[Row]:
    """Yield the parameters of a section with one schema, or of each alternative below a row that names it.

    Args:
        parts: the section's schema, or those of its alternatives.
        commented: a complete parameter file; its comments are of the alternative that it uses.
        key: of the section.
        seen: the keys of the parts that are already shown; these are added.

    Yields:
        rows of the table.
    """
    for part in parts:
        seen[part] = key
        its_own = commented
        if len(parts) > 1:
            name = _words(part.model_fields[DISCRIMINATOR].annotation)
            yield Row(key, f"`{DISCRIMINATOR}: {name}`", "", first_sentence(part))
            if value_at(commented.values, f"{key}.{DISCRIMINATOR}") != name:
                its_own = Commented({}, {})
        yield from parameter_rows(part, its_own, f"{key}.", seen)


def first_sentence(schema: type[BaseModel]) -> str:
    """Return the first sentence of a schema's own docstring."""
    return " ".join(inspect.cleandoc(schema.__doc__ or "").partition("\n\n")[0].split())


def parts_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the schemas in a type: a section's own, or the alternatives of a union or a map."""
    if inspect.isclass(annotation) and not get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [part for argument in get_args(annotation) for part in parts_of(argument)]


def kind_of(field: FieldInfo) -> str:
    """Describe the values of a field in words: "whole number ≥ 1, or null"."""
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in BOUNDS
        if getattr(limit, name, None) is not None
    ]
    words = _words(field.annotation)
    if not limits:
        return words
    return (
        f"{words.removesuffix(', or null')} {' and '.join(limits)}{', or null' * words.endswith(', or null')}"
    )


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        kinds = [_words(argument) for argument in arguments if argument is not type(None)]
        return ", ".join(dict.fromkeys(kinds)) + ", or null" * (type(None) in arguments)
    if origin is list:
        return f"list of: {_words(arguments[0])}"
    if origin is dict:
        return f"map of {_words(arguments[0])} to {_words(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return KINDS[annotation]


def _is_discriminator(name: str, field: FieldInfo) -> bool:
    """Return whether a field distinguishes one alternative of a union from the others."""
    return name == DISCRIMINATOR and len(get_args(field.annotation)) == 1


def default_of(field: FieldInfo) -> str:
    """Return a field's default as in YAML; of a section, the values that differ from its own defaults."""
    if field.is_required():
        return NO_DEFAULT
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        changed = value.model_dump(mode="json", exclude_defaults=True)
        return f"`{_yaml(changed)}`" if changed else ""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return (
        yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
        .removesuffix("...\n")
        .strip()
    )


def parameters_page(commented: Commented, entries: Mapping[str, Any]) -> str:
    """Write docs/parameters.md as text.

    Args:
        commented: a complete parameter file.
        entries: the stages of dvc.yaml.

    Returns:
        the page in Markdown.
    """
    sections, general = list[str](), list[Row]()
    seen = dict[Any, str]()
    beside = comments_of(AllParameters)
    for name, field in AllParameters.model_fields.items():
        parts, about = parts_of(field.annotation), commented.comments.get(name, "")
        if not parts:
            general.append(Row(name, kind_of(field), default_of(field), about or beside.get(name, "")))
            continue
        readers = [code(stage) for stage, entry in entries.items() if _reads(entry, name)]
        run_again = f"Read by {', '.join(readers)}." if readers else "No stage runs again for it."
        rows = parameter_table(list(part_rows(parts, commented, name, seen)))
        sections.append(f"## {name}\n\n{sentences_of([about, run_again])}\n\n{rows}")
    return "\n\n".join([PARAMETERS_HEAD, f"## General\n\n{parameter_table(general)}", *sections]) + "\n"


def _reads(entry: Mapping[str, Any], section: str) -> bool:
    """Return whether a stage depends on a section of params.yaml, or on a part of it."""
    named = {str(key).strip("${}").split(".")[0] for key in entry.get("params", [])}
    generators = {"train_gan", "load_gan"} if "generator" in named else set()
    return section in named | generators


def parameter_table(rows: Sequence[Row]) -> str:
    """Lay out parameters as a Markdown table."""
    cells = [(code(row.key), row.kind, row.default, row.meaning) for row in rows]
    return table(("parameter", "may be", "default", "meaning"), cells)


def pages(commented: Path = COMMENTED) -> dict[Path, str]:
    """Write both pages as text.

    Args:
        commented: a complete parameter file with comments.

    Returns:
        path -> text.
    """
    entries = yaml.safe_load(DECLARATION.read_text(encoding="utf-8"))["stages"]
    text = commented.read_text(encoding="utf-8")
    file = Commented(yaml.safe_load(text), comments_in(text))
    return {PARAMETERS_PAGE: parameters_page(file, entries), FILES_PAGE: files_page(entries)}


def main(
    commented: Annotated[Path, typer.Argument(help="a complete parameter file with comments")] = COMMENTED,
) -> None:
    """Write docs/parameters.md and docs/files.md."""
    for path, text in pages(commented).items():
        with committed(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
