"""``zprime params`` prints the parameters that the pipeline runs with, defaults included."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from data.sources import source_of
from pipeline.stage import run_stage
from stages.parameters import AllParameters, checked_parameters, read_parameters
from stages.shared.paths import PRESETS
from stages.shared.presets import preset_values


def effective_text(parameters: AllParameters) -> str:
    """Return parameters as YAML: every section, and every key that its schema has."""
    values = parameters.model_dump()
    values["prepare"]["source"] = source_of(parameters.prepare.source).model_dump(by_alias=True)
    return yaml.safe_dump(_plain(values), sort_keys=False, default_flow_style=None, width=110)


def _plain(value: Any) -> Any:
    """Return a value with all paths in it as text."""
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    if isinstance(value, list):
        return [_plain(of) for of in value]
    return str(value) if isinstance(value, Path) else value


def main(
    preset: Annotated[str | None, typer.Option(help="show this preset instead of params.yaml")] = None,
) -> None:
    """Print all parameters with their values, as YAML without comments."""
    if preset is None:
        parameters = read_parameters()
    else:
        parameters = checked_parameters(preset_values(preset), str(PRESETS / f"{preset}.yaml"))
    print(effective_text(parameters), end="")


if __name__ == "__main__":
    run_stage(main)
