"""How a stage is run: ``python -m stages.NAME [ARGUMENTS]``, errors in one sentence."""

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.errors import UserError


def run_stage(main: Callable[..., Any]) -> None:
    """Run a stage's function as a command; its annotated parameters are the command's arguments.

    A `UserError` becomes one line on stderr and exit status 1. Any other exception is a defect of
    zprime and keeps its traceback.
    """
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    try:
        application()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # Dask workers and other children may still be closing: leave at once, with the status.
        os._exit(1)
