"""Runs a stage as a command: ``python -m stages.NAME [ARGUMENTS]``, errors in one sentence."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from pipeline import BY_DVC, is_orphan
from pipeline.errors import UserError, sentence_of_os_error


def run_stage(main: Callable[..., Any]) -> None:
    """Run a stage's function as a command; its annotated parameters are the command's arguments.

    A `UserError`, or an error of the disk, becomes one line on stderr and exit status 1. Any other exception
    is a defect of zprime and keeps its traceback.

    Args:
        main: the stage's function.
    """
    if BY_DVC:
        threading.Thread(target=_end_with_dvc, daemon=True).start()
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    application.command()(main)
    run_application(application)


def run_application(application: typer.Typer) -> None:
    """Run a command or a group of them; errors end it as they end a stage (`run_stage`).

    Args:
        application: the command.

    Raises:
        OSError: one without a number, which no disk or file system has refused.
    """
    try:
        application()
    except UserError as error:
        _leave(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        _leave(sentence_of_os_error(error))


def _leave(sentence: str) -> None:
    with suppress(OSError):  # the reader of stdout is gone
        sys.stdout.flush()  # text printed into a pipe waits in a buffer
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    # Dask workers and other children may still be closing: exit at once, with the status.
    os._exit(1)


def _end_with_dvc() -> None:
    """Exit when the `dvc repro` that started this stage is gone."""
    while not is_orphan():
        time.sleep(0.2)
    os._exit(1)
