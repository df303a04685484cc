"""Presets: ready-made contents of params.yaml, each written as what it changes in presets/base.yaml.

presets/base.yaml is a complete and commented params.yaml. presets/NAME.yaml begins with a comment that says
what the preset is for, and holds the values that differ. Both are merged as text, so that comments, the order
and the notation of numbers stay as they are written:

- A section is merged key by key, whether it is written in lines or in braces. If both have a ``name`` and the
  names differ, the preset's describes another thing and replaces the section of the base.
- Everything else is replaced: a number, a list, a map whose keys are numbers.
- A comment at the end of a line replaces the comment of the base; comments above a line are added to its own.
- ``extends: OTHER`` makes a preset change the preset OTHER instead of the base.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError
from stages.shared.paths import PRESETS

BASE = "base"  # the complete file that presets change, not itself a preset
EXTENDS = "extends"
INDENT = "  "
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?: +(?P<value>[^#\s].*?))?(?: +(?P<comment>#.*))?")
PAIR = re.compile(r"\s*(?P<key>[A-Za-z_][\w.-]*): *(?P<value>\S.*?)\s*")
PART = re.compile(r"""(?:"[^"]*"|'[^']*'|[^,])+""")  # the text between two commas


@dataclass(frozen=True)
class Entry:
    """A key of a parameter file, with what stands around it.

    Attributes:
        value: what stands behind the colon; empty for a section.
        entries: the keys of a section.
        in_braces: whether a section is written on the line of its key.
        comment: the comment at the end of its line, with its ``#``; empty if there is none.
        above: the comment lines and empty lines above it, without their indentation.
    """

    value: str
    entries: dict[str, "Entry"] = field(default_factory=dict)
    in_braces: bool = False
    comment: str = ""
    above: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The value of the section's key ``name``."""
        return self.entries["name"].value if "name" in self.entries else None


def preset_names(folder: Path = PRESETS) -> list[str]:
    """Return the names of all presets of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != BASE)


def preset_text(name: str, folder: Path = PRESETS) -> str:
    """Return the complete, commented params.yaml that a preset stands for.

    Args:
        name: of the preset.
        folder: of all presets.

    Returns:
        YAML.

    Raises:
        UserError: if there is no such preset, or a line of it is no ``key: value``.
    """
    if name not in preset_names(folder):
        raise UserError(f"there is no preset {name!r}: {folder}/ has {', '.join(preset_names(folder))}.")
    header, entries = _complete(name, folder)
    return "".join(f"{line}\n" for line in [*header, *_lines(entries)])


def preset_values(name: str, folder: Path = PRESETS) -> dict[str, Any]:
    """Return the content of the params.yaml that a preset stands for; raises what `preset_text` raises."""
    values: dict[str, Any] = yaml.safe_load(preset_text(name, folder))
    return values


def _complete(name: str, folder: Path) -> tuple[list[str], dict[str, Entry]]:
    """Return the comment that a preset begins with, and its entries merged with those of its base."""
    header, changes = _parsed_file(folder / f"{name}.yaml")
    if name == BASE:
        return header, changes
    changed = changes.pop(EXTENDS).value if EXTENDS in changes else BASE
    return header, _merged(_complete(changed, folder)[1], changes)


def _parsed_file(path: Path) -> tuple[list[str], dict[str, Entry]]:
    """Return the comment that a parameter file begins with, up to its first other line, and its entries."""
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    entries: dict[str, Entry] = {}
    sections, above = [entries], list[str]()
    for number, line in enumerate(lines[length:], length + 1):
        if not line.strip() or line.lstrip().startswith("#"):
            above.append(line.strip())
            continue
        match = LINE.fullmatch(line.rstrip())
        depth, odd = divmod(len(match["indent"]), len(INDENT)) if match else (0, 0)
        if match is None or odd or depth >= len(sections) or match["key"] in sections[depth]:
            raise UserError(
                f"{path}, line {number}: expected `key: value` on a line of its own, each key once, and "
                f"sections indented by {len(INDENT)} spaces."
            )
        entry = replace(_entry(match["value"] or ""), comment=match["comment"] or "", above=tuple(above))
        sections[depth][match["key"]] = entry
        sections = [*sections[: depth + 1], *([] if match["value"] else [entry.entries])]
        above.clear()
    return lines[:length], entries


def _entry(value: str) -> Entry:
    """Parse the text after a colon: a section if it is in braces and its keys are names, else a value."""
    pairs = [PAIR.fullmatch(part) for part in _split_at_commas(value[1:-1])] if value.startswith("{") else []
    found = [pair for pair in pairs if pair is not None]
    if not found or len(found) < len(pairs):
        return Entry(value)
    return Entry("", {pair["key"]: _entry(pair["value"]) for pair in found}, in_braces=True)


def _split_at_commas(text: str) -> list[str]:
    """Split a text at its commas, except at those within brackets, braces and quotes."""
    parts: list[str] = []
    for part in PART.findall(text):
        if parts and sum(map(parts[-1].count, "[{")) > sum(map(parts[-1].count, "]}")):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _merged(base: Mapping[str, Entry], changes: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the entries of the base, replaced by those of the preset; new ones come last."""
    merged = dict(base)
    for key, change in changes.items():
        former = base.get(key, Entry(""))
        is_same = former.entries and change.entries and change.name in (None, former.name)
        merged[key] = replace(
            change,
            entries=_merged(former.entries, change.entries) if is_same else change.entries,
            in_braces=former.in_braces if former.entries and change.entries else change.in_braces,
            comment=change.comment or former.comment,
            above=(*former.above, *filter(None, change.above)),
        )
    return merged


def _lines(entries: Mapping[str, Entry], indent: str = "") -> Iterator[str]:
    for key, entry in entries.items():
        yield from (f"{indent}{line}" if line else "" for line in entry.above)
        in_lines = bool(entry.entries) and not entry.in_braces
        yield " ".join(
            filter(None, (f"{indent}{key}:", "" if in_lines else _on_a_line(entry), entry.comment))
        )
        if in_lines:
            yield from _lines(entry.entries, indent + INDENT)


def _on_a_line(entry: Entry) -> str:
    if not entry.entries:
        return entry.value
    return "{" + ", ".join(f"{key}: {_on_a_line(of)}" for key, of in entry.entries.items()) + "}"
