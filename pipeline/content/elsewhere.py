"""What users bring from elsewhere: files with a known digest, and functions of their own code."""

import importlib
from pathlib import Path
from typing import Any

from pipeline.content.files import sha256_of_file
from pipeline.errors import UserError


def first_line(error: BaseException) -> str:
    """Write an exception as one line: its class, and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def refuse_another_file(path: Path, sha256: str, where: str) -> None:
    """Raise `UserError` unless `path` is a file with this sha256; `where` is the parameter that names it."""
    if not path.is_file():
        raise UserError(f"{where}: there is no file {path}.")
    digest = sha256_of_file(path)
    if digest != sha256:
        raise UserError(f"{where}: {path} has sha256 {digest}, expected {sha256}.")


def made_by(factory: str, where: str) -> Any:
    """Call a function of the user's code, which runs with all their rights.

    Args:
        factory: the function, as module:function; it is called without arguments.
        where: the parameter that names it, for errors.

    Returns:
        What it returns.

    Raises:
        UserError: there is no such function, or it fails.
    """
    module_name, _, function = factory.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function)()
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"{where}: {factory} cannot be called ({first_line(error)}).") from error
