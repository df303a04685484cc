"""Bias against performance: what is on the frontier, in which family a recipe is, and what is drawn."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from classifiers.training.method_settings import Recipe
from stages.reporting import pareto
from stages.reporting.labelling import Label, place_labels
from stages.reporting.pareto import (
    AFTER,
    ERM,
    FAMILIES,
    IMAGES,
    LOSS,
    NETWORK,
    SCORES,
    family_of,
    frontier_table,
    pareto_figure,
    pareto_frontier,
    pareto_points,
)

DEFINITIONS = {
    "erm": Recipe(method={"name": "erm"}),
    "erm_strong_l2": Recipe(method={"name": "erm"}, weight_decay=0.01),
    "erm_balanced": Recipe(method={"name": "erm"}, sampler="group_balanced"),
    "pretrained": Recipe(method={"name": "erm"}, phases={"name": "pretrain"}),
    "resnet": Recipe(method={"name": "erm"}, backbone="resnet18"),
    "group_dro": Recipe(method={"name": "group_dro"}, sampler="group_balanced"),
    "last_layer": Recipe(method={"name": "erm"}, last_layer="validation"),
}

# The frontier


def test_the_frontier_by_hand():
    """The numbers of MITIGATION 12; whatever sign the bias has."""
    performance = np.array([0.8, 0.7, 0.75, 0.6])
    for bias in ([0.1, 0.02, 0.15, 0.05], [-0.1, 0.02, -0.15, 0.05]):
        assert pareto_frontier(np.array(bias), performance).tolist() == [True, True, False, False]


def test_equal_points_are_both_on_it_and_unknown_ones_are_not():
    bias, performance = np.array([0.1, 0.1, 0.1, 0.0, np.nan]), np.array([0.8, 0.8, 0.7, np.nan, 0.9])
    assert pareto_frontier(bias, performance).tolist() == [True, True, False, False, False]


levels = st.integers(0, 5)


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=30))
def test_no_member_is_dominated_and_every_other_point_is(points):
    bias, performance = np.array(points).T / 5
    mask = pareto_frontier(bias, performance)
    assert mask.any()
    for k, (b, p) in enumerate(points):
        dominated = [c <= b and q >= p and (c, q) != (b, p) for c, q in points]
        assert mask[k] != any(dominated)
        if not mask[k]:  # a member dominates it
            assert any(of and member for of, member in zip(dominated, mask, strict=True))


# Points


def test_a_family_is_where_a_recipe_acts():
    families = {name: family_of(name, "", DEFINITIONS) for name in DEFINITIONS}
    assert families == {
        "erm": ERM, "erm_strong_l2": ERM, "erm_balanced": IMAGES, "pretrained": IMAGES, "resnet": NETWORK,
        "group_dro": LOSS, "last_layer": AFTER,
    }  # fmt: skip
    assert family_of("erm+dfr", "validation", DEFINITIONS) == AFTER
    assert family_of("erm+reject_option", "prediction validation", DEFINITIONS) == SCORES


def runs_of(cells: dict[tuple[str, str], tuple[float, float, float]]) -> pd.DataFrame:
    """Two seeds of each cell, 0.01 to each side of its bias, balanced and worst-group accuracy."""
    names = ("equalized_odds_difference", "balanced_accuracy", "worst_group_accuracy")
    return pd.DataFrame(
        [
            {"data": data, "recipe": recipe, "seed": seed, "selection": "worst_group_accuracy", "needs": "",
             "images_forward": 8, "images_backward": 8,
             **{name: value + 0.02 * seed - 0.01 for name, value in zip(names, values, strict=True)}}
            for (data, recipe), values in cells.items()
            for seed in (0, 1)
        ]
    )  # fmt: skip


CELLS = {
    ("original", "erm"): (0.5, 0.8, 0.4),
    ("original", "group_dro"): (0.3, 0.7, 0.6),
    ("augmented", "erm"): (0.2, 0.75, 0.7),
    ("augmented", "group_dro"): (0.25, 0.74, 0.71),
    ("oracle", "erm"): (0.1, 0.9, 0.9),
}
NAN = float("nan")


def test_points_are_means_with_deviations_and_the_oracle_is_no_rival():
    points = pareto_points(runs_of(CELLS), DEFINITIONS)
    first = points.iloc[0]
    assert first["equalized_odds_difference"] == pytest.approx(0.5)
    assert first["equalized_odds_difference_std"] == pytest.approx(0.01 * 2**0.5)
    assert points["family"].tolist() == [ERM, LOSS, ERM, LOSS, ERM]
    assert points["balanced_accuracy_frontier"].tolist() == [True, False, True, False, False]
    assert points["worst_group_accuracy_frontier"].tolist() == [False, False, True, True, False]


def test_the_members_are_named_from_the_fairest_on():
    runs = runs_of(CELLS)
    rows = frontier_table(pareto_points(runs, DEFINITIONS), runs).rows
    assert [(row[0], row[1].text, row[5], row[6:]) for row in rows] == [
        ("augmented", "erm", "balanced accuracy and worst-group accuracy", ["none", "1.00/1.00"]),
        ("augmented", "group_dro", "worst-group accuracy", ["none", "1.00/1.00"]),
        ("original", "erm", "balanced accuracy", ["none", "1.00/1.00"]),
    ]


# The picture


def named_in(points: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, recommended) -> list[list[tuple]]:
    """The names of each panel, in the order in which they are placed, and whether they are bold."""
    panels = []

    def place(axes, marks, labels) -> None:
        panels.append([(label.text, label.is_bold) for label in labels])
        place_labels(axes, marks, labels)

    monkeypatch.setattr(pareto, "place_labels", place)
    picture = pareto_figure(points, recommended)
    assert picture == pareto_figure(points, recommended)  # to the byte
    assert b"<svg" in picture
    return panels[:2]


def test_named_are_the_frontier_erm_and_what_is_recommended(monkeypatch):
    cells = CELLS | {("duplicated", "group_dro"): (0.4, 0.6, 0.5), ("sampled", "erm"): (NAN, 0.6, 0.5)}
    points = pareto_points(runs_of(cells), DEFINITIONS)
    balanced, worst = named_in(points, monkeypatch, ("original", "group_dro"))
    assert balanced == [("group_dro", True), ("erm", False), ("erm", False), ("erm", False)]
    assert worst == [("group_dro", True), *((name, False) for name in ("erm", "group_dro", "erm", "erm"))]


def test_without_a_recommendation_none_is_marked(monkeypatch):
    points = pareto_points(runs_of(CELLS), DEFINITIONS)
    assert not any(bold for panel in named_in(points, monkeypatch, (None, None)) for _, bold in panel)


def test_a_run_without_any_value_is_drawn_all_the_same():
    cells = dict.fromkeys(CELLS, (NAN, NAN, NAN))
    points = pareto_points(runs_of(cells), DEFINITIONS)
    assert not points["balanced_accuracy_frontier"].any()
    assert b"<svg" in pareto_figure(points, (None, None))


def test_every_family_has_a_marker_of_its_own():
    assert len(set(FAMILIES.values())) == len(FAMILIES)


@pytest.mark.parametrize("seed", range(5))
def test_names_among_sixty_marks_cover_neither_marks_nor_each_other(seed):
    figure = Figure(figsize=(6, 5), dpi=100)
    axes = figure.subplots()
    marks = np.random.default_rng(seed).random((60, 2))
    axes.plot(*marks.T, "o")
    figure.draw_without_rendering()
    labels = [Label(x, y, f"recipe_{k}", "black") for k, (x, y) in enumerate(marks[:8].tolist())]
    place_labels(axes, marks, labels)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the line to the mark
    assert [text.get_text() for text in axes.texts] == [label.text for label in labels]
    for k, box in enumerate(boxes):
        assert not any(Bbox.intersection(box, other) for other in boxes[:k])
        inside = [box.contains(x, y) for x, y in axes.transData.transform(marks)]
        assert not any(inside)
        common = Bbox.intersection(box, axes.get_window_extent())
        assert common is not None
        assert common.width * common.height == pytest.approx(box.width * box.height)


def test_the_labels_colours_are_those_of_the_data(monkeypatch):
    points = pareto_points(runs_of({("augmented", "erm"): (0.2, 0.75, 0.7)}), DEFINITIONS)
    drawn = pareto_figure(points, ("augmented", "erm")).decode()
    assert re.search(r"#009e73", drawn)
