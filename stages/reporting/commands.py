"""The commands that bring a params.yaml about: a preset, and what `dvc exp run -S` changes in it."""

import re
import shlex
from collections.abc import Mapping
from typing import Any, TypeGuard

NOT_RESULTS = ("runtime", "cluster")  # they say where and how fast, not what
DEFAULT = "avatars"  # what params.yaml is in a clone
# What Hydra's grammar, which DVC's -S reads, takes for a string without quotes.
PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w./-]*", re.IGNORECASE)


def commands(content: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What makes everything again: from the preset that the parameters differ least from.

    Args:
        content: what params.yaml holds.
        presets: what each preset holds, by its name.
    """
    wanted = _results(content)
    found = {name: overrides(_results(preset), wanted) for name, preset in presets.items()}
    name = min(found, key=lambda name: (len(found[name]), name != DEFAULT))
    if not found[name]:
        return ["make repro" if name == DEFAULT else f"make repro PRESET={name}"]
    first = [] if name == DEFAULT else [f"python -m zprime.preset {name}"]
    return [*first, "dvc exp run" + "".join(f" -S {shlex.quote(of)}" for of in found[name])]


def overrides(former: Mapping[str, Any], wanted: Mapping[str, Any], place: str = "") -> list[str]:
    """What turns one content of params.yaml into another, in Hydra's grammar: NAME=, +NAME= and ~NAME."""
    found = []
    for key in dict.fromkeys((*former, *wanted)):
        name, before, after = f"{place}{key}", former.get(key), wanted.get(key)
        if key not in wanted:
            found += _removal(name, before)
        elif key not in former:
            found.append(f"+{name}={text_of(after)}")
        elif before != after:
            if _has_names(before) and _has_names(after):
                found += overrides(before, after, f"{name}.")
            elif isinstance(after, dict):  # which would be merged
                found += [*_removal(name, before), f"+{name}={text_of(after)}"]
            else:
                found.append(f"{name}={text_of(after)}")
    return found


def _removal(name: str, value: Any) -> list[str]:
    """What removes a key; Hydra takes a null for what is not there."""
    return [*([f"{name}=0"] if value is None else []), f"~{name}"]


def text_of(value: Any) -> str:
    """A value in Hydra's grammar: [0,1], {name: small}, null."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{text_of(key)}:{text_of(of)}" for key, of in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def _has_names(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value is a section, of keys that dotted names can have."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _results(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: section for name, section in content.items() if name not in NOT_RESULTS}
