"""``zprime COMMAND``: the commands that people type. `dvc.yaml` itself runs ``python -m stages.NAME``.

A command is a module with a function `main`, whose annotated parameters are the command's arguments. Its
module is imported only when the command is used: the list of commands appears at once, without the seconds
that torch takes to import.
"""

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from zprime.packages import FOLDER


class Command(NamedTuple):
    """A command of `zprime`.

    Attributes:
        module: has the function `main`.
        summary: what it does, in a line.
        examples: command lines.
        in_project: whether it works only in a clone of zprime.
    """

    module: str
    summary: str
    examples: tuple[str, ...]
    in_project: bool = True


COMMANDS = {
    "preset": Command(
        "zprime.preset",
        "Write a preset's parameters into params.yaml.",
        ("zprime preset smoke", "zprime preset avatars && dvc repro"),
    ),
    "params": Command(
        "zprime.params",
        "Print every parameter with the value that it has.",
        ("zprime params", "zprime params --preset smoke"),
    ),
    "verify": Command(
        "zprime.verify",
        "Hash outputs again, and name or mend what is damaged.",
        ("zprime verify out .work", "zprime verify out .work --mend"),
        in_project=False,
    ),
    "evaluate": Command(
        "zprime.evaluate",
        "Compute every metric of predictions from elsewhere.",
        (
            "zprime evaluate predictions.csv --protected Male",
            "zprime evaluate predictions.csv --protected Male Young --proportions labels.csv",
            "zprime evaluate test.csv --protected sex --fit-on validation.csv --postprocess reject_option",
        ),
        in_project=False,
    ),
    "recommend": Command(
        "zprime.recommend",
        "Say which data and recipe to train with.",
        ("zprime recommend", "zprime recommend --json | jq .recipe"),
    ),
    "results": Command(
        "stages.reporting.results",
        "Write what the pipeline found into docs/results.md.",
        ("zprime results", 'zprime results --beside long --about "ten times as many steps"'),
    ),
    "ablations": Command(
        "stages.reporting.ablations",
        "Measure what each step of the augmentation contributes.",
        ("zprime ablations", "zprime ablations per_group --seeds 0,1,2 --recipes erm"),
    ),
    "tune": Command(
        "stages.reporting.tuning",
        "Choose a parameter of each recipe on validation.",
        ("zprime tune", "zprime tune dann lisa"),
    ),
    "label-noise": Command(
        "stages.reporting.label_noise",
        "Measure what missing and wrong protected labels cost.",
        ("zprime label-noise", "zprime label-noise erm group_dro --seeds 0,1,2"),
    ),
    "bench": Command(
        "benchmarks.__main__",
        "Measure how fast the slow parts are on this machine.",
        ("zprime bench", "zprime bench metrics exports"),
    ),
}
PROJECT = Path("dvc.yaml")  # marks a clone


class _Commands(TyperGroup):
    """The group of `COMMANDS`, which imports a command when it is run or its help is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        return command_of(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


def command_of(name: str) -> TyperCommand:
    """Return the command of this name, with its examples below its help."""
    main: Callable[..., None] = importlib.import_module(COMMANDS[name].module).main
    application = typer.Typer(add_completion=False, rich_markup_mode=None)
    # A lone \b keeps the line breaks of the paragraph below it.
    examples = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in COMMANDS[name].examples)
    application.command(name=name, epilog=examples)(_in_project(name, main))
    command = typer.main.get_command(application)
    assert isinstance(command, TyperCommand)  # an application with one command becomes that command
    return command


def _in_project(name: str, main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command's function: it refuses to run outside a project if the command needs one."""

    @wraps(main)
    def checked(*arguments: Any, **options: Any) -> None:
        if COMMANDS[name].in_project and not PROJECT.is_file():
            from pipeline.errors import UserError

            raise UserError(
                f"zprime {name} works on a project, and {Path.cwd()} has no {PROJECT}: go to the folder of "
                "your clone of zprime, and run it there."
            )
        main(*arguments, **options)

    return checked


application = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@application.callback(epilog="\b\nExamples:\n  zprime preset smoke && dvc repro\n  zprime verify --help")
def zprime() -> None:
    """Commands around the pipeline; `dvc repro` runs the pipeline itself."""


def main() -> None:
    """Run the command; `UserError`s become one line on stderr and exit status 1."""
    sys.path.insert(0, str(FOLDER))  # this process imports zprime's packages by their plain names
    from pipeline.stage import run_application

    run_application(application)


if __name__ == "__main__":
    main()
