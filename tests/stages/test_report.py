"""The report's words and tables: what they say of a small evaluation made by hand."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from classifiers.measures.evaluation import METRICS
from stages import evaluate, report
from stages.report import TEMPLATES, generator_losses, without_folders
from stages.reporting.columns import (
    ACCURACIES,
    AT_HALF,
    FAIRNESS,
    PAPER,
    WORST_MATCHED,
    RunColumn,
    columns_beside,
    feasible_column,
    metric_column,
    metrics_alone,
    takes_columns,
    worst_group_of,
)
from stages.reporting.figures import binned_shares, group_colours
from stages.reporting.measures import PUBLISHED, runs_table
from stages.reporting.pictures import evenly_per_group, groups_by_labels
from stages.reporting.quality_tables import quality
from stages.reporting.steps import gates, hyperplanes, inversion
from stages.reporting.tables import FIGURE_SPACE, Cell, Heading, Table, to_html, to_markdown
from stages.reporting.text import group_headings, spread_text
from stages.reporting.words import choice_sentence, deviation_note, headline, tiles
from stages.shared.datasheet import ComplementsOfSource, Datasheet, Summary
from stages.shared.inversion import InversionMetrics
from stages.shared.planes import HyperplaneMetrics
from tests.stages.evaluated import make_synthesised, make_trained, quality_of
from tests.stages.pages import tables_of

MATCHED_GROUP_ACCURACIES = tuple(f"group_{g}_accuracy_count_matched" for g in range(4))
BEFORE, AFTER = (Summary.model_construct(kl_joint=of) for of in (0.0581, 0.0110))
DATASHEET = Datasheet.model_construct(before=BEFORE, after=AFTER, target_kept=0.857, protected_flipped=0.824)


def run(data: str, recipe: str, seed: int, worst: float, **values: Any) -> dict[str, Any]:
    """A row of runs.parquet: group 3 is the worst, whatever is not named stands at 0.9."""
    names = {column.name: 0.9 for column in (*ACCURACIES, WORST_MATCHED, *PAPER, *FAIRNESS, *AT_HALF)}
    names |= {"validation_worst_group_accuracy": worst, "validation_accuracy": 0.9}
    names |= {f"group_{group}_accuracy": 0.95 for group in range(3)}
    metrics = names | {"worst_group_accuracy": worst, "group_3_accuracy": worst} | values
    deviations = {f"{name}_bootstrap_std": 0.125 for name in metrics if name != "selection"}
    key = {"data": data, "recipe": recipe, "seed": seed, "selection": "worst_group_accuracy"}
    takes = {"needs": "", "images_forward": 80, "images_backward": 80}
    return key | takes | deviations | metrics


def two_seeds(before: tuple[float, float], after: tuple[float, float]) -> pd.DataFrame:
    rows = [("original", before), ("augmented", after)]
    return pd.DataFrame([run(data, "erm", k, value) for data, both in rows for k, value in enumerate(both)])


# The tables


def texts_of(runs: pd.DataFrame, *columns: RunColumn) -> list[list[str]]:
    """The texts of a table of the runs, without its first two columns and what recipes take."""
    rows = runs_table("", "", runs, columns).rows
    return [[cell if isinstance(cell, str) else cell.text for cell in row[2:-2]] for row in rows]


def test_a_row_has_the_mean_and_the_deviation_over_the_seeds() -> None:
    runs = pd.DataFrame(
        [
            run("original", "erm", 0, 0.40, accuracy=0.80, kl_scores=1.0),
            run("original", "erm", 1, 0.44, accuracy=0.90, kl_scores=2.0),
            run("original", "group_dro", 0, 0.60, kl_scores=0.5),
            run("original", "group_dro", 1, 0.60, kl_scores=0.5),
            run("augmented", "erm", 0, 0.70),
            run("augmented", "erm", 1, 0.74),
            run("original", "erm", 0, 0.10, selection="accuracy"),
        ]
    )
    table = runs_table("", "", runs, [metric_column(metric) for metric in ACCURACIES])
    rows = [[cell if isinstance(cell, str) else cell.text for cell in row] for row in table.rows]
    assert [row[:2] for row in rows] == [
        ["original", "erm"], ["original", "group_dro"], ["augmented", "erm"],
    ]  # fmt: skip
    assert table.chosen == [1, 2]
    # The deviations with n - 1: of 0.40 and 0.44 it is 0.02 √2, of 0.80 and 0.90 it is 0.05 √2.
    pads = [f" ±{FIGURE_SPACE}{deviation}" for deviation in ("7.1", "0.0", "2.8")]
    assert rows[0][2:-2] == [mean + pad for mean, pad in zip(("85.0", "90.0", "42.0"), pads, strict=True)]
    assert rows[1][4] == f"60.0 ±{FIGURE_SPACE}0.0"
    kl = texts_of(runs, *(metric_column(metric) for metric in FAIRNESS if metric.name == "kl_scores"))
    assert kl[:2] == [["1.500 ± 0.707"], ["0.500 ± 0.000"]]


def test_beside_every_recipe_stand_the_labels_that_it_needs_and_its_cost_relative_to_erms() -> None:
    looks = {"needs": "", "images_forward": 120, "images_backward": 80}
    fitted = {"needs": "prediction training validation", "images_forward": 200, "images_backward": 260}
    runs = pd.DataFrame(
        [
            run("original", "erm", 0, 0.4),
            run("original", "erm", 1, 0.4),
            run("original", "jtt", 0, 0.5) | looks,
            run("original", "jtt", 1, 0.5) | looks | {"images_forward": 140},
            run("original", "erm+all", 0, 0.5) | fitted,
            run("augmented", "group_dro", 0, 0.5) | {"needs": "training"},
        ]
    )
    rows = runs_table("", "", runs, []).rows
    assert [row[2:] for row in rows] == [
        ["none", "1.00/1.00"],
        ["none", "1.62/1.00"],
        ["train, val., pred.", "2.50/3.25"],
        ["train", "–"],  # without ERM on these data
    ]
    assert [column.heading.over for column in takes_columns()] == ["what it takes"] * 2


def test_how_many_seeds_are_feasible() -> None:
    rows = [run("original", "erm", k, 0.4, phi_feasible=of) for k, of in enumerate((1.0, 0.0, 1.0))]
    assert texts_of(pd.DataFrame(rows), feasible_column()) == [["2 of 3"]]


def test_of_other_weights_the_rows_are_theirs() -> None:
    runs = pd.DataFrame(
        [run("original", "erm", 0, 0.40), run("original", "erm", 0, 0.10, selection="accuracy")]
    )
    worst = next(metric for metric in ACCURACIES if metric.name == "worst_group_accuracy")
    assert texts_of(runs, metric_column(worst), metric_column(worst, selection="accuracy")) == [
        ["40.0 ±12.5", "10.0 ±12.5"]
    ]


TABLE = Table(
    "Of <both>",
    "what `x_y` *is* <here>.",
    [
        "Trained on", "Recipe", Heading("A (%)", "a_b", "best: 0", over="test"),
        Heading("A (%)", over="validation"), Heading("B", over="validation", is_number=False),
    ],
    [
        ["one", Cell("erm", look="code"), f"1.0 ±{FIGURE_SPACE}0.5", Cell("2", "20 %"), "x|y"],
        ["two", Cell("dro", look="code"), "–", Cell("3.0 ±12.0", look="worst"), "z"],
    ],
    labels=2,
    chosen=[1],
)  # fmt: skip


def test_a_table_in_markdown_says_what_stands_over_a_heading_and_what_is_marked() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "| Trained on | Recipe | test: A (%) | validation: A (%) | validation: B |",
        "| --- | --- | ---: | ---: | ---: |",
        "| one | erm | 1.0 ± 0.5 | 2 (20 %) | x\\|y |",
        "| **two** | **dro** | – | **3.0 ± 12.0** | z |",
    ]


def test_a_table_in_html_has_the_same_cells_and_no_tag_of_theirs() -> None:
    page = to_html(TABLE, 7)
    assert "<b>Table 7. Of &lt;both&gt;.</b> What <code>x_y</code> <em>is</em> &lt;here&gt;." in page
    assert '<tr class="over"><th colspan="2"></th><th colspan="1">test</th>' in page
    assert '<th colspan="2" class="apart">validation</th></tr>' in page
    assert '<th class="number" title="best: 0">A (%)<code>a_b</code></th>' in page
    assert '<tr class="chosen"><td>two</td><td><code>dro</code></td>' in page
    assert '<td class="number apart worst">3.0 ±12.0</td><td class="group">z</td></tr>' in page
    assert '<td class="number apart">2 <small>20 %</small></td><td class="group">x|y</td></tr>' in page


def test_parts_stand_above_their_rows_in_html_and_one_without_rows_says_so() -> None:
    page = to_html(replace(TABLE, parts={"two": "is it", "none": "is not"}, stacked=True), 1)
    assert 'colspan="4" scope="rowgroup">two <small>is it</small></th></tr>\n    <tr class="chosen">' in page
    assert "none <small>is not</small></th></tr>\n" in page
    assert page.count("– every training ended on its plateau") == 1
    assert '<td class="number apart worst">3.0<small>±12.0</small></td>' in page


def test_what_stands_behind_the_deviations() -> None:
    assert "bootstrap" in deviation_note(1, 500)
    assert "500 resamples" in deviation_note(1, 500)
    assert "3 seeds" in deviation_note(3, 500)


@pytest.mark.parametrize(
    ("mean", "deviation", "percent", "text"),
    [
        (0.8731, 0.0042, True, f"87.3 ±{FIGURE_SPACE}0.4"),
        (0.5, 0.104, True, "50.0 ±10.4"),
        (-0.0131, 0.015, True, f"−1.3 ±{FIGURE_SPACE}1.5"),
        (-0.0131, 0.015, False, "−0.013 ± 0.015"),
        (math.nan, math.nan, True, "–"),
    ],
)
def test_numbers_are_padded_to_one_width(mean: float, deviation: float, percent: bool, text: str) -> None:
    assert spread_text(mean, deviation, percent) == text


def test_the_worst_group_is_that_of_the_mean_and_ignores_groups_without_images() -> None:
    rows = [run("original", "erm", k, worst, group_0_accuracy=math.nan) for k, worst in enumerate((0.9, 0.4))]
    assert worst_group_of(pd.DataFrame(rows), 4) == 3
    assert worst_group_of(pd.DataFrame(rows).assign(group_1_accuracy=[0.1, 0.9]), 4) == 1


def test_the_papers_table_has_a_published_value_for_each_of_its_columns() -> None:
    assert [column.name for column in PAPER] == [
        "average_precision", "deo", "bias_amplification", "bias_amplification_reweighted",
        "kl_scores_published",
    ]  # fmt: skip
    assert all(len(values) == len(PAPER) for values in PUBLISHED.values())


def test_a_metric_that_a_table_shows_is_measured_and_has_a_name_of_its_own() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {metric.name for metric in (*ACCURACIES, WORST_MATCHED, *PAPER, *FAIRNESS, *AT_HALF)} <= set(names)


def test_beside_a_gap_stand_the_accuracies_of_the_groups_and_the_worst_is_named() -> None:
    """A gap of 0 because both got worse: the accuracies say so."""
    accuracies = dict(zip(MATCHED_GROUP_ACCURACIES, (0.9, math.nan, 0.3, 0.4), strict=True))
    seeds = pd.DataFrame([run("original", "erm", k, 0.3, deo=0.0, **accuracies) for k in range(2)])
    seeds = seeds.assign(**{MATCHED_GROUP_ACCURACIES[3]: [0.2, 0.6]})
    names = ["t=0, a=0", "t=0, a=1", "t=1, a=0", "t=1, a=1"]
    (row,) = runs_table("", "", seeds, columns_beside(names, "accuracy")).rows
    assert row[2:-2] == [Cell("90.0"), Cell("–"), Cell("30.0", look="worst"), Cell("40.0")]


def test_one_of_several_attributes_has_every_measure_of_gaps_under_its_name() -> None:
    names = [column.name for column in metrics_alone("Male")]
    assert names[0] == "worst_group_accuracy_Male"
    assert "deo_Male" in names
    assert "protected_1_calibration_error_Male" in names
    assert "average_precision_Male" not in names  # which knows of no groups
    assert "bias_amplification_reweighted_Male" in names
    assert len(names) == 1 + 4 + 5 + 2


def test_many_groups_are_headed_by_their_values_alone() -> None:
    four = ["t=0, a=0", "t=0, a=1", "t=1, a=0", "t=1, a=1"]
    assert group_headings(four) == four
    eight = [f"t={t}, a={a}, b={b}" for t in (0, 1) for a in (0, 1) for b in (0, 1)]
    assert group_headings(eight)[3:5] == ["0,\u00a01,\u00a01", "1,\u00a00,\u00a00"]


def test_groups_are_numbered_by_target_then_the_protected_attributes() -> None:
    labels = pd.DataFrame({"b": [0, 1, 1], "t": [1, 0, 1], "a": [1, 0, 0]})
    assert groups_by_labels(labels, ["t", "a", "b"]).tolist() == [6, 1, 5]
    assert groups_by_labels(labels, ["t", "a"]).tolist() == [3, 0, 2]


@pytest.mark.parametrize("n_protected", [2, 4, 8])
def test_every_group_has_a_colour_of_its_own(n_protected: int) -> None:
    assert len(set(group_colours(n_protected))) == 2 * n_protected


# The page


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """How many protected attributes, and the project that `evaluate` and `report` went through."""
    folder = tmp_path_factory.mktemp(f"attributes-{request.param}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_trained(request.param)
        make_synthesised(request.param)
        evaluate.main()
        report.main()
    return int(request.param), folder


def page_of(folder: Path) -> str:
    return (folder / "out/report/index.html").read_text()


def test_the_page_shows_what_validation_chose(reported: tuple[int, Path]) -> None:
    several, folder = reported[0] == 2, reported[1]
    rows = tables_of(page_of(folder))["The best recipe of each data set, chosen on validation"]
    assert [(row[0].split()[0], row[1]) for row in rows[2:]] == [
        ("original", "group_dro"),
        ("duplicated", "group_dro"),
        ("sampled", "group_dro"),
        ("augmented", "erm"),
        ("oracle", "group_dro"),
    ]
    last = "1, 1, 1" if several else "Blond_Hair=1, Male=1"
    # On validation 15 of 20 are right; on test 10 and 14; the gap is from 25 to 75.
    assert rows[5][2:5] == ["75.0 ± 0.0", "60.0 ±14.1", last]
    assert rows[5][7] == "70.0 ±28.3"
    assert "control: the real images" in rows[3][0]
    assert "The test set chose nothing." in page_of(folder)


def test_the_page_shows_every_recipe_and_marks_the_chosen(reported: tuple[int, Path]) -> None:
    page = page_of(reported[1])
    rows = tables_of(page)["Accuracies of every recipe"]
    cells = [row for row in rows if row[0] in ("erm", "group_dro")]
    assert [row[4] for row in cells] == [
        "25.0 ± 7.1", "60.0 ± 0.0", "40.0 ± 0.0", "50.0 ± 0.0", "45.0 ± 0.0", "55.0 ± 0.0", "60.0 ±14.1",
        "80.0 ± 0.0", "75.0 ± 0.0", "85.0 ± 0.0",
    ]  # fmt: skip
    assert cells[7][6] == "110.0 ± 0.0"  # of the gap
    table = re.search(r"Accuracies of every recipe.*?</table>", page, re.DOTALL)
    assert table is not None
    chosen = re.findall(r'class="chosen"><td class="name"><code>(\w+)<', table[0])
    assert chosen == ["group_dro", "group_dro", "group_dro", "erm", "group_dro"]


def test_absolute_accuracies_stand_beside_every_gap(reported: tuple[int, Path]) -> None:
    k, folder = reported
    n_groups = 2 * 2**k
    tables = tables_of(page_of(folder))
    runs = pd.read_parquet(folder / "out/evaluation/runs.parquet").query("selection != 'accuracy'")
    seeds = runs[(runs["data"] == "augmented") & (runs["recipe"] == "erm")]
    means = [100 * seeds[f"group_{g}_accuracy_count_matched"].mean() for g in range(n_groups)]
    published = "The paper’s measures (Ramaswamy et al., 2021), and what stands behind them"
    for title in (published, "The study’s measures of fairness"):
        rows = [row for row in tables[title] if row[0] == "erm"]
        assert rows[3][-n_groups - 2 : -2] == [f"{mean:.1f}" for mean in means]
    assert all(v in page_of(folder) for values in PUBLISHED.values() for v in values)
    deo = spread_text(seeds["deo"].mean(), seeds["deo"].std(), percent=True).replace(FIGURE_SPACE, " ")
    shown = [row for row in tables[published] if row[0] == "erm"][3][2]
    assert shown.replace(" ", "") == deo.replace(" ", "")


def test_beside_a_bias_amplification_of_nothing_stands_that_of_the_training_proportions(
    reported: tuple[int, Path],
) -> None:
    k, folder = reported
    page = page_of(folder)
    rows = tables_of(page)["The paper’s measures (Ramaswamy et al., 2021), and what stands behind them"]
    assert "so that BA is 0 by construction" in page  # test groups of 20
    assert rows[1][3].startswith("BA ")
    assert rows[1][4].startswith("BA at the training proportions")
    row = [row for row in rows if row[0] == "erm"][3]
    assert row[3].replace(" ", "") == "0.0±0.0"
    # Of group j there are j + 1 training images; of each but the last 18 of 20 test images are right.
    n = 2**k
    sizes, right = np.arange(2 * n) + 1.0, np.full(2 * n, 0.9)
    values = []
    for right[-1] in (0.5, 0.7):
        positive = np.concatenate([1 - right[:n], right[n:]])
        predicted = (sizes * positive).reshape(2, n).sum(axis=0) / sizes.reshape(2, n).sum(axis=0)
        share = sizes[n:] / (sizes[:n] + sizes[n:])
        values.append(100 * (np.sign(share - sizes[n:].sum() / sizes.sum()) * (predicted - share)).mean())
    expected = f"{np.mean(values):.1f}±{np.std(values, ddof=1):.1f}".replace("-", "−")
    assert row[4].replace(" ", "") == expected
    published = next(row for row in rows if row[0] == "gender-dependent")
    assert published[3:5] == ["2.3±0.5 → 1.6±0.5", "–"]


def test_what_the_study_reports_stands_beside_the_published_accuracies(
    reported: tuple[int, Path],
) -> None:
    page = page_of(reported[1]).replace("\u00a0", " ")
    section = page.split("Sagawa et al., 2020")[1].split("</p>")[0]
    assert "In the study that zprime follows (10,000 images, 20 epochs, batches of 4)" in section
    assert "worst-group accuracy was 0 % to 12 %" in section
    assert "an epoch of Group DRO took 1.5 times one of ERM, and it ran out of memory" in section


def test_parities_and_phi_are_those_of_a_half(reported: tuple[int, Path]) -> None:
    """Of blond men 10 and 14 of 20 are right, of all others 18: TPR .9 less .5 and .7, the same FPR."""
    k, folder = reported
    tables = tables_of(page_of(folder))
    rows = tables["Parities at 0.5, and φ" + (" of the intersections" if k == 2 else "")]
    augmented, best = ([row for row in rows if row[0] == name] for name in ("erm", "group_dro"))
    gap = "15.0 ± 7.1"  # AOD and SPD are half of it: 10 and 20
    assert augmented[3][1:5] == ["30.0 ±14.1", gap, "0.700 ± 0.141", gap]
    balanced = "86.2 ± 1.8" if k == 2 else "82.5 ± 3.5"
    assert augmented[3][5:] == [balanced, "0.0 ± 0.0", "0 of 2", "none", "1.00/1.00"]
    # Of the oracle's 17 of 20: an AOD of 2.5, so that φ is the balanced accuracy.
    accuracy = "89.4 ± 0.0" if k == 2 else "88.8 ± 0.0"
    assert best[4][4:] == ["2.5 ± 0.0", accuracy, accuracy, "2 of 2", "train", "1.50/2.50"]
    titles = [f"Parities at 0.5, and φ of {name} alone" for name in ("Male", "Eyeglasses")]
    assert [title in tables for title in titles] == [k == 2, k == 2]
    if k == 2:  # 18 and, of both seeds' mean, 12 of 20: 30 of 40 blond men, and 36 of 40 blond women
        row = [row for row in tables[titles[0]] if row[0] == "erm"][3]
        assert row[1] == "15.0 ± 7.1"


def test_the_frontier_is_named_and_drawn(reported: tuple[int, Path]) -> None:
    """On the augmented data Group DRO is the fairest and the best, but for the oracle, which is no rival."""
    page = page_of(reported[1])
    rows = tables_of(page)["The frontiers"]
    assert [row[:2] for row in rows[2:]] == [["augmented", "group_dro"]]
    assert rows[2][2] == "10.0 ± 0.0"
    assert rows[2][5:] == ["balanced accuracy and worst-group accuracy", "train", "1.50/2.50"]
    assert 'alt="Equalised odds difference against balanced accuracy' in page
    plots = reported[1] / "out/report/plots/pareto"
    assert sorted(path.stem for path in plots.iterdir()) == ["balanced_accuracy", "worst_group_accuracy"]
    table = pd.read_csv(plots / "worst_group_accuracy.csv").set_index("run")
    assert table.loc["augmented erm"].tolist() == [pytest.approx(0.3), pytest.approx(0.6), False]
    assert table.index[table["on_frontier"]].tolist() == ["augmented group_dro"]
    entries = yaml.safe_load((TEMPLATES.parents[1] / "dvc.yaml").read_text())["plots"]
    shown = next(entry for entry in entries if "out/report/plots/pareto" in entry)["out/report/plots/pareto"]
    assert {shown["x"], shown["y"]} <= set(table)


def test_each_of_several_attributes_has_a_table(reported: tuple[int, Path]) -> None:
    k, folder = reported
    tables = tables_of(page_of(folder))
    titles = ["Every measure of Male alone", "Every measure of Eyeglasses alone"]
    assert [title in tables for title in titles] == [k == 2, k == 2]
    if k == 1:
        assert "ECE, group 0" in " ".join(tables["The study’s measures of fairness"][1])
        return
    # Of blond men 14 (mean of 10 and 14: 12) with and 18 of 20 without glasses are right: 30 of 40.
    row = [row for row in tables["Every measure of Male alone"] if row[0] == "erm"][3]
    assert row[1] == "75.0 ± 7.1"
    assert len(row) == 1 + 12 + 4 + 2


def test_the_groups_accuracies(reported: tuple[int, Path]) -> None:
    k, folder = reported
    n_groups = 2 * 2**k
    rows = tables_of(page_of(folder))["Group accuracies on test, in percent"]
    assert rows[1][-3].startswith("1, 1, 1" if k == 2 else "Blond_Hair=1, Male=1")
    assert rows[1][-3].endswith(f"group_{n_groups - 1}, n = 20")
    augmented = [row for row in rows if row[0] == "erm"][3]
    assert augmented[1:-2] == ["90.0 ± 0.0"] * (n_groups - 1) + ["60.0 ±14.1"]


def test_the_training_data_gates_and_quality(reported: tuple[int, Path]) -> None:
    k, folder = reported
    n_groups, tables = 2 * 2**k, tables_of(page_of(folder))
    counts = {row[0]: row for row in tables["Group counts and KL divergence of the training labels"][1:]}
    total = n_groups * (n_groups + 1) // 2
    assert list(counts) == ["original", "duplicated", "sampled", "augmented", "of that, synthetic", "oracle"]
    assert counts["sampled"][1] == str(total + 1)
    assert counts["duplicated"][2] == f"{n_groups} {100 / n_groups:.1f} %"
    assert tables["What the gates dropped"][1] == ["G(z′)", "agreement", "7", *map(str, range(n_groups))]
    seen = tables["Complements, as the attribute classifiers see them"][1]
    assert seen[:4] == ["G(z′)", "9,000", "87.1", "77.2"]
    assert seen[4:-3] == ([] if k == 1 else ["61.0", "83.0", "71.0", "83.0"])
    assert seen[-3:] == ["98.1", "99.3", "8,765"]
    distances = tables["Distance from real images"][1]
    assert distances == ["G(z)", "real training images", *["1.23"] * (k + 1), "23.46"]
    probe = tables["Real or synthetic? The probe"][1]
    assert probe[:5] == ["G(z)", "1,000", "91.3", "–", "41.0"]
    flips = tables["True flip and keep rates"][1:]
    assert [row[1] for row in flips] == (["Male"] if k == 1 else ["Eyeglasses", "Male", "Male + Eyeglasses"])
    assert flips[0][2 : 4 + k + 1] == ["900", *["12.3"] * (k + 1), "66.4"]
    noise = tables["True label noise"][1:]
    sizes = [10 * (g + 1) for g in range(n_groups)]
    assert noise[0][:6] == [
        "augmented", "G(z′)", "group", str(sum(sizes)), f"{100 * 0.5 * 10 / sum(sizes):.1f}", "50.0",
    ]  # fmt: skip
    assert noise[1][2:5] == ["Blond_Hair", str(sum(sizes)), "10.0"]
    planes = tables["Hyperplanes in the latent space"][1:]
    assert [row[0] for row in planes] == ["Blond_Hair", "Male", "Eyeglasses"][: k + 1]
    assert planes[1][1:] == ["91.2", "–", "23.0", "6,000", "2,000", "88.7"]
    moves = tables["Moves from z to z′"][1:]
    assert len(moves) == 2**k - 1
    assert moves[-1] == [
        "G(z′)", "Male" if k == 1 else "Male + Eyeglasses", "36", "1.35", "3.96", "99.8", "88.7", "1.02",
    ]  # fmt: skip
    judged = tables["Attribute classifiers on the real validation set"][1]
    assert judged[4:6] == ["81.0", "–"]


def test_every_z_is_shown_with_all_its_complements(reported: tuple[int, Path]) -> None:
    k, folder = reported
    page = page_of(folder)
    section = page.split('id="pairs"')[1].split('id="samples"')[0]
    shown = 3 * 2 * 2**k  # z, three of every group
    assert section.count('alt="G(z)"') == shown
    assert section.count('alt="G(z′), ') == shown * (2**k - 1)
    assert section.count('alt="G(z′), Male flipped"') == shown
    # Of three complements one was made not to flip.
    misses = section.count("not as asked") if k == 2 else section.count("not flipped")
    assert misses == shown * (2**k - 1) // 3
    assert "not kept" not in section
    assert ("flipped: Male + Eyeglasses" in section) == (k == 2)


def test_dvc_plots_have_a_file_for_each_group(reported: tuple[int, Path]) -> None:
    k, folder = reported
    plots = folder / "out/report/plots"
    files = sorted(plots.glob("group_accuracies/*.csv"))
    assert len(files) == 2 * 2**k
    assert files[0].stem == "group_0 Blond_Hair=0, Male=0" + (", Eyeglasses=0" if k == 2 else "")
    accuracies = pd.read_csv(files[-1]).set_index("run")["accuracy"]
    assert accuracies["augmented erm"] == pytest.approx(0.6)
    assert accuracies["oracle group_dro"] == pytest.approx(0.85)
    scores = pd.read_csv(plots / "target_scores/augmented_Male_target_1.csv")
    assert list(scores) == ["score", "protected_0", "protected_1"]
    assert scores["protected_0"].sum() == pytest.approx(100, abs=1e-3)
    # Of blond women 18 of 20 have a score of 0.9.
    assert scores["protected_0"].max() == pytest.approx(90)
    entries = yaml.safe_load((TEMPLATES.parents[1] / "dvc.yaml").read_text())["plots"]
    assert any("out/report/plots/group_accuracies" in entry for entry in entries if isinstance(entry, dict))


# What each step did


def test_only_gates_that_are_on_have_a_row() -> None:
    datasheet = Datasheet.model_construct(
        complements={"z_prime": ComplementsOfSource.model_construct(dropped={})}
    )
    assert gates(datasheet, ["a", "b"]).rows == []


def test_planes_of_domains_stand_beside_the_attributes() -> None:
    plane = {
        "balanced_accuracy": 0.9, "balanced_accuracy_on_sphere": 0.8, "positives": 0.2,
        "group_accuracies": [], "group_n": [],
    }  # fmt: skip
    names = ("Blond_Hair", "Male", "Blond_Hair in Male=0", "Blond_Hair in Male=1")
    metrics: dict[str, Any] = {name: plane | {"latents": {"0": 10, "1": 5}} for name in names}
    metrics["angles_degrees"] = {
        "Blond_Hair x Male": 88.0, "Blond_Hair x Blond_Hair in Male=0": 12.3,
        "Blond_Hair x Blond_Hair in Male=1": 23.4, "Male x Blond_Hair in Male=0": 77.0,
    }  # fmt: skip
    rows = hyperplanes(HyperplaneMetrics.model_validate(metrics), ["Blond_Hair", "Male"]).rows
    assert [row[0] for row in rows] == list(names)
    assert [row[-1] for row in rows] == ["–", "88.0", "12.3", "23.4"]


def test_the_errors_of_an_inversion() -> None:
    encoder = {"error_mean": 9.12, "error_median": 8.25, "psnr_median": 24.49}
    refined = {"error_mean": 4.5, "error_median": 4.0, "psnr_median": 31.0}
    metrics = {
        "real": {"images": 10_000, "encoder": encoder, "refined": refined},
        "generated": {
            "images": 500,
            "encoder": encoder | {"distance_median": 0.31},
            "refined": refined | {"distance_median": 0.05},
        },
    }
    rows = inversion(InversionMetrics.model_validate(metrics)).rows
    assert rows[0] == ["real training images", "encoder", "10,000", "9.12", "8.25", "24.5", "–"]
    assert rows[3] == ["G’s own samples", "encoder, then refined", "500", "4.50", "4.00", "31.0", "5.0"]


def test_without_a_judge_there_are_the_distances_and_the_probe() -> None:
    figures = quality_of(["Blond_Hair", "Male"], ["Male"], ["a", "b", "c", "d"])
    sheets = quality(figures.model_copy(update={"judge": None}))
    assert [sheet.title for sheet in sheets] == ["Distance from real images", "Real or synthetic? The probe"]


def test_a_judge_without_a_network_is_said_to_be_computed() -> None:
    figures = quality_of(["Five_or_more", "Red"], ["Red"], ["a", "b", "c", "d"])
    by_networks = quality(figures)
    assert by_networks[2].title == "The judge"
    assert [row[0] for row in by_networks[2].rows] == ["Five_or_more", "Red"]
    assert figures.judge is not None
    judge = figures.judge.model_copy(update={"measured": ["Red"]})
    computed = quality(figures.model_copy(update={"judge": judge}))
    assert [row[0] for row in computed[2].rows] == ["Five_or_more", "Red, computed from the pixels"]
    assert computed[2].rows[1][1:3] == ["98.7", "95.4"]
    assert computed[3:] == by_networks[3:]


# The headline


def test_the_headline_of_a_gain() -> None:
    sentence = headline(two_seeds((0.40, 0.42), (0.60, 0.62)), "erm").replace("\u00a0", " ")
    assert sentence == (
        "With erm, worst-group accuracy rises from 41.0 ± 1.4 % on the original data to 61.0 ± 1.4 % on the "
        "augmented data (+20.0 points)."
    )


def test_the_headline_of_a_loss_says_so() -> None:
    sentence = headline(two_seeds((0.60, 0.62), (0.40, 0.42)), "erm")
    assert "falls from" in sentence
    assert "(−20.0 points: the augmentation made it worse)" in sentence


def test_the_headline_of_a_change_within_the_deviations_claims_none() -> None:
    sentence = headline(two_seeds((0.40, 0.50), (0.42, 0.54)), "erm")
    assert "goes from" in sentence
    assert "(+3.0 points: no clear change" in sentence


def test_the_headline_names_the_oracle_and_does_without_the_original() -> None:
    oracle = pd.DataFrame([run("oracle", "erm", k, value) for k, value in enumerate((0.90, 0.92))])
    runs = pd.concat([two_seeds((0.40, 0.42), (0.60, 0.62)), oracle])
    assert headline(runs, "erm").replace("\u00a0", " ").endswith("reaches 91.0 ± 1.4 %.")
    without = headline(runs[runs["data"] != "original"], "erm").replace("\u00a0", " ")
    assert without.startswith(
        "With erm, worst-group accuracy is 61.0 ± 1.4 % on the augmented data; the oracle"
    )


def test_the_tiles_hold_the_recipes_and_the_best_recipes_values() -> None:
    robust = pd.DataFrame([run("augmented", "group_dro", k, 0.8) for k in range(2)])
    runs = pd.concat([two_seeds((0.40, 0.42), (0.60, 0.62)), robust])
    oracle = pd.DataFrame([run("oracle", "erm", k, 0.91) for k in range(2)])
    shown = tiles(pd.concat([runs, oracle]), "erm", DATASHEET, "Blond_Hair", ["Male"])
    values = [tile["value"].replace("\u00a0", " ") for tile in shown]
    assert values == [
        "41.0 → 61.0 %", "41.0 → 80.0 %", "40 · 78 %", "90.0 → 90.0 %", "0.058 → 0.011", "85.7 · 82.4 %",
    ]  # fmt: skip
    assert shown[1]["note"] == "erm → group_dro"
    assert shown[5]["note"] == "Blond_Hair kept · Male flipped"
    assert tiles(runs, "erm", DATASHEET, "Blond_Hair", ["Male"])[2]["value"] == "– · –\u00a0%"


def test_the_second_sentence_is_of_the_recipes_that_validation_chooses() -> None:
    robust = pd.DataFrame([run("augmented", "group_dro", k, 0.8) for k in range(2)])
    better_on_test = robust.assign(
        recipe="erm", worst_group_accuracy=0.9, validation_worst_group_accuracy=0.1
    )
    original = two_seeds((0.40, 0.42), (0.0, 0.0)).query("data == 'original'")
    oracle = pd.DataFrame([run("oracle", "erm", k, 0.91) for k in range(2)])
    sentence = choice_sentence(pd.concat([original, robust, better_on_test, oracle])).replace("\u00a0", " ")
    assert sentence == (
        "Of all recipes, validation chooses erm on the original data (41.0 ± 1.4 %) and group_dro on the "
        "augmented data (80.0 ± 0.0 %): +39.0 points; the latter closes 78 % of the gap to the oracle."
    )


# The generator


def test_only_a_generator_that_was_trained_has_losses_to_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generator_losses() == {}
    (tmp_path / "out/generator").mkdir(parents=True)
    losses = {"step": [1, 2], "resolution": [4, 4], "discriminator": [1.0, 0.5], "generator": [0.7, 0.9]}
    pd.DataFrame(losses).to_csv("out/generator/losses.csv")
    assert b"<svg" in generator_losses()["gan_losses"]


def test_the_page_asks_for_the_losses_only_where_they_are() -> None:
    text = (TEMPLATES / "report.html.j2").read_text()
    parts = text.split('{% if "gan_losses" in figures %}')
    assert len(parts) == 2
    assert 'figure("gan_losses"' in parts[1].split("{% endif %}")[0]


# Choice of pictures, histograms, parameters


def test_the_choice_covers_all_groups_and_is_the_same_for_any_order_of_rows() -> None:
    table = pd.DataFrame(
        {"id": [f"z-{k:04d}" for k in range(100)], "group": np.repeat([0, 1, 2, 3], [70, 20, 8, 2])}
    )
    chosen = evenly_per_group(table, 4)
    assert chosen.groupby("group").size().tolist() == [4, 4, 4, 2]
    assert chosen["id"][chosen["group"] == 0].tolist() == ["z-0000", "z-0017", "z-0035", "z-0052"]
    assert chosen["id"].is_unique
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(evenly_per_group(shuffled, 4), chosen)


def test_histograms_are_shares_of_each_set_over_a_shared_range() -> None:
    table = binned_shares(
        {"a": pd.Series([0.0, 0.01, 0.99, 1.0]), "b": pd.Series([0.5]), "none": pd.Series([], dtype=float)}
    )
    assert table["score"].iloc[[0, -1]].tolist() == pytest.approx([0.01, 0.99])
    assert table["a"].iloc[[0, -1]].tolist() == [50.0, 50.0]
    assert table["a"].sum() == 100.0
    assert table["b"].idxmax() == 25
    assert table["none"].sum() == 0.0


def test_no_folder_of_this_machine_is_printed() -> None:
    given = {
        "source": {"folder": "/home/someone/celeba", "name": "celeba"},
        "sizes": [4, "/x/y.pt"],
        "weights": None,
    }
    assert without_folders(given) == {
        "source": {"folder": "…/celeba", "name": "celeba"},
        "sizes": [4, "…/y.pt"],
        "weights": None,
    }
