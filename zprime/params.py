"""``zprime params [--preset NAME]``: every parameter with the value that it has."""

from typing import Annotated

import typer
import yaml

from pipeline.parameters import PARAMETERS_FILE
from pipeline.stage import run_stage
from stages.parameters import read_parameters
from stages.shared.paths import PRESETS


def main(
    preset: Annotated[str | None, typer.Option(help="of this preset instead of params.yaml")] = None,
) -> None:
    """Print the parameters that the pipeline would run with, defaults included, as YAML."""
    path = PARAMETERS_FILE if preset is None else PRESETS / f"{preset}.yaml"
    print(yaml.safe_dump(read_parameters(path).model_dump(mode="json"), sort_keys=False), end="")


if __name__ == "__main__":
    run_stage(main)
