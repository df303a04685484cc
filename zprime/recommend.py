"""``zprime recommend``: which data and recipe the finished pipeline recommends."""

from typing import Annotated

import typer

from stages.reporting.recommendation import (
    Recommendation,
    accuracy_text,
    probability_text,
    read_recommendation,
)
from stages.shared.paths import RECOMMENDATION


def main(
    as_json: Annotated[
        bool, typer.Option("--json", help="print out/evaluation/recommendation.json as it is")
    ] = False,
) -> None:
    """Say which data and recipe to train with, as validation recommends, and how sure that is.

    Below the sentence stands a line for each data set and recipe: worst-group accuracy on validation, and the
    probability of being the best of them. `*` marks the recommended cell.
    """
    recommendation = read_recommendation(RECOMMENDATION)
    if as_json:
        print(RECOMMENDATION.read_text(), end="")
        return
    print(recommendation.sentence)
    if recommendation.cells:
        print("\n" + "\n".join(table_lines(recommendation)))


def table_lines(recommendation: Recommendation) -> list[str]:
    """Return the cells as lines of text in columns, the headings first; `*` marks the recommended cell."""
    chosen = (recommendation.data, recommendation.recipe)
    rows = [("", "data", "recipe", "worst group on validation", "is the best")]
    rows += [
        (
            "*" if (cell.data, cell.recipe) == chosen else "",
            cell.data,
            cell.recipe,
            accuracy_text(cell),
            probability_text(cell.probability_of_being_best),
        )
        for cell in recommendation.cells
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        left = [text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        right = [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return lines
