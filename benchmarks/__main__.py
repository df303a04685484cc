"""``zprime bench [GROUP...]``: run benchmarks one after another, print a table, write results.json."""

import importlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Result
from pipeline.errors import UserError
from pipeline.stage import run_stage

GROUPS = ("complement", "synthesis", "workers", "training", "metrics", "exports")
RESULTS = Path(__file__).with_name("results.json")


def table_of(results: list[Result]) -> Table:
    """Return the results as a table for the terminal."""
    table = Table(title=f"zprime on {os.cpu_count()} CPU cores")
    for name in ("figure", "value", "target", "met", "measured"):
        table.add_column(name, justify="right" if name in ("value", "target") else "left")
    for result in results:
        bound = "" if result.target is None else f"{'≥' if result.at_least else '≤'} {result.target:g}"
        met = {True: "yes", False: "NO", None: ""}[result.met]
        table.add_row(result.key, f"{result.value:,.3g}", bound, met, result.detail)
    return table


def measure_apart(group: str) -> list[Result]:
    """Measure a group in a process of its own, so that it does not use the memory or caches of another."""
    command = [sys.executable, "-m", "benchmarks", "--apart", group]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise UserError(f"benchmarks: {group} failed with status {done.returncode}.")
    results: list[Result] = pickle.loads(done.stdout)
    return results


def main(
    groups: Annotated[
        list[str] | None, typer.Argument(help=f"groups: {', '.join(GROUPS)}; default: all")
    ] = None,
    apart: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure, print a table, and write the figures to results.json."""
    chosen = groups or list(GROUPS)
    unknown = [group for group in chosen if group not in GROUPS]
    if unknown:
        raise UserError(f"benchmarks: {unknown[0]!r} is none of {', '.join(GROUPS)}.")
    if apart:
        output, sys.stdout = sys.stdout.buffer, sys.stderr  # keeps progress out of the pickled results
        output.write(pickle.dumps(importlib.import_module(f"benchmarks.{chosen[0]}").measure()))
        return
    results = [result for group in chosen for result in measure_apart(group)]
    Console(width=150).print(table_of(results))
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    figures = {r.key: {"value": r.value, "target": r.target, "met": r.met} for r in results}
    RESULTS.write_text(json.dumps(known | figures, indent=2) + "\n")


if __name__ == "__main__":
    run_stage(main)
