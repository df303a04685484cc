"""The report's figure of adversaries: a panel per recipe with one, its loss and its bound."""

import re

import pandas as pd

from stages.report import adversary_figure
from stages.reporting.adversaries import losses_figure
from stages.shared.controls import TRAINING_DATA

ORIGINAL, AUGMENTED = (TRAINING_DATA[name].colour.lower() for name in ("original", "augmented"))


def history(recipe: str, data: str, losses: list[float] | None, seed: int = 0) -> pd.DataFrame:
    steps = pd.DataFrame({"step": [10, 20, 30], "loss": 1.0})
    if losses is not None:
        steps = steps.assign(adversary_loss=losses, adversary_bound=0.5)
    return steps.assign(recipe=recipe, data=data, seed=seed)


HISTORIES = pd.concat(
    [
        history("erm", "original", None),
        history("dann", "original", [0.5, 0.4, 0.3]),
        history("dann", "original", [0.5, 0.2, 0.1], seed=1),
        history("dann", "augmented", [0.5, 0.5, 0.5]),
        history("odds", "original", [0.5, 0.1, 0.1]),
    ],
    ignore_index=True,
)


def paths_of(svg: bytes, colour: str) -> list[tuple[bool, int]]:
    """Return the lines of a colour in the axes: whether each is dashed, and its number of points."""
    line = r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none; (stroke-dasharray[^"]*)?[^"]*stroke: '
    found = re.findall(line + colour, svg.decode())
    return [(bool(dashes), path.count("L") + 1) for path, dashes in found]


def test_each_recipe_with_an_adversary_has_a_panel_with_its_loss_and_its_bound():
    svg = losses_figure(HISTORIES)
    assert svg.decode().count('<g id="axes_') == 2
    assert b"<!-- dann -->" in svg
    assert b"<!-- odds -->" in svg
    assert b"<!-- erm -->" not in svg
    # original: in both panels; augmented: in one. A line is solid, the other one dashed.
    assert sorted(paths_of(svg, ORIGINAL)) == [(False, 3), (False, 3), (True, 3), (True, 3)]
    assert sorted(paths_of(svg, AUGMENTED)) == [(False, 3), (True, 3)]
    assert losses_figure(HISTORIES) == svg


def test_lines_are_means_over_the_seeds():
    """The same figure as of one seed with the means."""
    means = [
        history("dann", "original", [0.5, 0.3, 0.2]),
        history("dann", "augmented", [0.5, 0.5, 0.5]),
        history("odds", "original", [0.5, 0.1, 0.1]),
    ]
    assert losses_figure(pd.concat(means, ignore_index=True)) == losses_figure(HISTORIES)


def test_without_an_adversary_there_is_no_figure():
    assert adversary_figure(history("erm", "original", None)) == {}
    assert list(adversary_figure(HISTORIES)) == ["adversaries"]
