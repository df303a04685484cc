"""Markdown of the pages in docs/ that are computed."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

MADE = "Made by `python -m stages.reporting.reference`; do not edit."


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table; a | in a cell is escaped."""
    lines = [headings, ["---"] * len(headings), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Set a text as code."""
    return f"`{text}`"


def sentences_of(texts: Sequence[str]) -> str:
    """Join texts, each as a sentence: with a capital letter and a full stop."""
    found = [text[0].upper() + text[1:].rstrip(".") + "." for text in texts if text]
    return " ".join(found)


def markdown_environment() -> jinja2.Environment:
    """Return the environment of the pages whose templates stand beside this module; nothing is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
