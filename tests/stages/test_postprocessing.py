"""evaluate with post-processors: one more recipe each, measured on test and never chosen."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.errors import UserError
from stages import evaluate, report
from stages.parameters import read_parameters
from stages.reporting.measures import post_processing_note
from stages.reporting.results import read_runs
from tests.stages.evaluated import make_synthesised, make_trained, read_metrics
from tests.stages.pages import tables_of

NAMES = ["reject_option", "equalized_odds", "calibrated_equalized_odds", "threshold_optimizer"]


def with_postprocess(names: list[str], **more: Any) -> None:
    parameters = yaml.safe_load(Path("params.yaml").read_text())
    parameters["evaluate"] |= {"postprocess": names, **more}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, evaluated and reported with all post-processors; in plain/ what is without them."""
    folder = tmp_path_factory.mktemp("post-processed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_trained(1)
        make_synthesised(1)
        evaluate.main()
        plain = folder / "plain"
        plain.mkdir()
        for name in ("metrics.json", "out/evaluation/recommendation.json", "out/evaluation/choices.csv"):
            (plain / Path(name).name).write_bytes(Path(name).read_bytes())
        with_postprocess(NAMES)
        evaluate.main()
        report.main()
    return folder


def test_all_else_stays_to_the_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("recommendation.json", "choices.csv"):
        assert (Path("out/evaluation") / name).read_bytes() == (Path("plain") / name).read_bytes()
    metrics = read_metrics()
    for data in ("original", "duplicated", "sampled", "augmented", "oracle"):
        assert [name for name in metrics[data] if "+" in name] == sorted(f"erm+{name}" for name in NAMES)
        metrics[data] = {name: value for name, value in metrics[data].items() if "+" not in name}
    assert evaluate.one_line_each(metrics) == Path("plain/metrics.json").read_text()


def test_odds_are_equalised_on_validation_and_measured_on_test(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ERM on the original data.

    On validation TPR is 18/20 for one group and 5/20 for the other, FPR 2/20 for both. The second keeps its
    predictions; of the first, 0.26875 of the ones and 0.08125 of the others become 1: TPR 0.25 and FPR 0.1.
    On test the second group has 4 and 6 of 20 right with the two seeds, all else is as on validation.
    """
    monkeypatch.chdir(folder)
    cell = read_metrics()["original"]["erm+equalized_odds"]
    assert cell["group_2_accuracy"]["mean"] == pytest.approx(0.25, abs=1e-6)
    assert cell["group_3_accuracy"]["mean"] == pytest.approx((4 + 6) / 40, abs=1e-6)
    assert (
        cell["group_0_accuracy"]["mean"] == cell["group_1_accuracy"]["mean"] == pytest.approx(0.9, abs=1e-6)
    )
    assert cell["worst_group_accuracy"]["mean"] == pytest.approx((0.2 + 0.25) / 2, abs=1e-6)
    assert cell["worst_group_accuracy_count_matched"] == cell["worst_group_accuracy"]
    assert cell["statistical_parity_difference"]["mean"] == pytest.approx(0, abs=1e-6)
    assert cell["average_precision"] == read_metrics()["original"]["erm"]["average_precision"]
    runs = pd.read_parquet("out/evaluation/runs.parquet").set_index(["recipe", "data", "selection", "seed"])
    run = runs.loc[("erm+equalized_odds", "original", "worst_group_accuracy", 0)]
    assert run["group_2_accuracy_bootstrap_std"] > 0
    assert len(runs) == 5 * (2 + len(NAMES)) * 2 * 2  # data, recipes, selections, seeds


def test_what_is_fitted_on_validation_has_no_figure_of_it_and_is_not_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    metrics = read_metrics()
    nothing = {"mean": None, "std": None}
    for name in NAMES:
        assert metrics["augmented"][f"erm+{name}"]["validation_worst_group_accuracy"] == nothing
        assert metrics["augmented"][f"erm+{name}"]["validation_accuracy"] == nothing
    assert {choice["recipe"] for choice in metrics["choices"].values()} == {"erm", "group_dro"}
    assert "+" not in metrics["recommendation"]["best_on_test"]["recipe"]
    cells = json.loads(Path("out/evaluation/recommendation.json").read_text())["cells"]
    assert {cell["recipe"] for cell in cells} == {"erm", "group_dro"}
    summary = pd.read_csv("out/evaluation/summary.csv")
    assert not summary[summary["recipe"].str.contains("+", regex=False)]["chosen"].any()
    # docs/results.md asks whether the runs are those of params.yaml: RECIPE+NAME is none of its recipes.
    assert len(read_runs(read_parameters())) == 5 * (2 + len(NAMES)) * 2 * 2


def test_tables_show_them_and_say_what_they_need(folder: Path) -> None:
    page = (folder / "out/report/index.html").read_text()
    tables = tables_of(page)
    rows = [row for row in tables["Accuracies of every recipe"] if row[0].startswith("erm+")]
    assert len(rows) == 5 * len(NAMES)
    assert rows[1][0] == "erm+equalized_odds"
    assert rows[1][1].strip() == "–"  # on validation
    note = "needs the protected attribute of every image that it predicts"
    shown = page.count(note)
    assert shown >= 3
    assert shown == page.count("<code>erm+threshold_optimizer</code>, scores that a post-processor turned")


def test_a_table_without_them_does_not_speak_of_them(folder: Path) -> None:
    page = (folder / "out/report/index.html").read_text()
    chosen = re.search(r"The best recipe of each data set, chosen on validation.*?</table>", page, re.DOTALL)
    assert chosen is not None
    assert "post-processor" not in chosen[0]
    assert post_processing_note([]) == ""


def test_intersections_are_groups_and_a_method_for_two_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_trained(2, seeds=(0,))
    with_postprocess(["threshold_optimizer"], postprocess_recipes=["group_dro"])
    evaluate.main()
    metrics = read_metrics()
    # On validation the last group's TPR is 9/20, and 18/20 in the three others; on test it is 12/20.
    cell = metrics["original"]["group_dro+threshold_optimizer"]
    for group in (4, 5, 6):
        assert cell[f"group_{group}_accuracy"]["mean"] == pytest.approx(0.45, abs=2e-3)
    assert cell["group_7_accuracy"]["mean"] == pytest.approx(0.6, abs=2e-3)
    assert not [name for name in metrics["original"] if name.startswith("erm+")]
    with_postprocess(["reject_option"])
    expected = (
        r"^params\.yaml: evaluate\.postprocess with group_dro: reject_option is for two protected groups, "
        r"but the rows that it is fitted on are of 4: Male=0, Eyeglasses=0; Male=0, Eyeglasses=1; Male=1, "
    )
    with pytest.raises(UserError, match=expected):
        evaluate.main()


def test_only_recipes_that_are_trained_can_be_post_processed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_trained(1, seeds=(0,))
    with_postprocess([], postprocess_recipes=["jtt"])
    read_parameters()
    with_postprocess(["reject_option"], postprocess_recipes=["jtt"])
    with pytest.raises(
        UserError, match=r"evaluate\.postprocess_recipes has 'jtt', but no such recipe is trained"
    ):
        read_parameters()
    with_postprocess(["rejected_option"])
    with pytest.raises(UserError, match="Input should be 'reject_option', 'equalized_odds'"):
        read_parameters()
