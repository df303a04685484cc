"""Which preset a params.yaml is nearest to, and what differs from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.content.typed_files import FilePart
from pipeline.parameters import PARAMETERS_FILE
from stages.report import without_folders
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_names, preset_values

PROJECT = Path(__file__).parents[2]
NOT_RESULTS = ("runtime", "cluster")  # sections that say where and how fast a run computes
DEFAULT = "avatars"  # the preset in a new clone's params.yaml


class MadeWith(FilePart):
    """Identifies a params.yaml: a preset, and the differences from it.

    Attributes:
        preset: its name.
        changes: the parameters that differ, each as "section.name: value".
    """

    preset: str
    changes: list[str]


def changed_parameters(former: Mapping[str, Any], wanted: Mapping[str, Any], place: str = "") -> list[str]:
    """List the parameters that differ.

    Args:
        former: sections or values by name.
        wanted: sections or values by name.
        place: the name of the section that they stand in, with a full stop.

    Returns:
        the values of `wanted`, each as "section.name: value"; null for a missing one.
    """
    found = []
    for key in dict.fromkeys((*former, *wanted)):
        name, before, after = f"{place}{key}", former.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += changed_parameters(before, after, f"{name}.")
        elif before != after:
            found.append(f"{name}: {json.dumps(after, ensure_ascii=False)}")
    return found


def made_with(content: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]) -> MadeWith:
    """Find the preset with the fewest differences from parameters; where a run computes is not compared.

    Args:
        content: of params.yaml.
        presets: the content of each preset, by its name.

    Returns:
        the preset and the differences.
    """

    def results_alone(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: section for name, section in values.items() if name not in NOT_RESULTS}

    found = [
        MadeWith(preset=name, changes=changed_parameters(results_alone(preset), results_alone(content)))
        for name, preset in presets.items()
    ]
    return min(found, key=lambda made: (len(made.changes), made.preset != DEFAULT))


def made_with_now() -> MadeWith:
    """Identify the project's params.yaml, without the folders of this machine."""
    folder = PROJECT / PRESETS
    presets = {name: preset_values(name, folder) for name in preset_names(folder)}
    return made_with(without_folders(yaml.safe_load(PARAMETERS_FILE.read_text())), presets)
