"""zprime evaluate --postprocess: rules that are fitted on other rows than those that are measured."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from tests.support import run_python
from zprime.evaluate import main


def rows_of(seed: int, n: int = 300) -> pd.DataFrame:
    """Scores of a tabular model that is better for one sex."""
    random = np.random.default_rng(seed)
    y, male = random.integers(0, 2, (2, n))
    score = np.clip(0.5 + (0.25 - 0.15 * male) * (2 * y - 1) + 0.15 * random.standard_normal(n), 0, 1)
    ids = [f"{seed}-{k}" for k in range(n)]
    return pd.DataFrame({"id": ids, "y": y, "score": score.round(3), "sex": np.where(male, "m", "f")})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    rows_of(1).to_csv("validation.csv", index=False)
    rows_of(2).to_csv("test.csv", index=False)
    return Path("test.csv"), Path("validation.csv")


def results() -> dict:
    return json.loads(Path("test.metrics.json").read_text())


@pytest.mark.slow
def test_the_command_prints_a_column_for_each_rule_and_writes_it(files: tuple[Path, Path]) -> None:
    command = ["-m", "zprime", "evaluate", "test.csv", "--protected", "sex", "--fit-on", "validation.csv"]
    rules = ["--postprocess", "reject_option", "--postprocess", "threshold_optimizer"]
    done = run_python(*command, *rules, "--resamples", "5", cwd=Path())
    assert done.returncode == 0, done.stderr
    for name in ("reject_option", "threshold_optimizer"):
        assert done.stdout.count(name) >= 3  # tables, and what they need
    assert "They need the protected groups" in " ".join(done.stdout.split())
    assert list(results()["postprocessed"]) == ["reject_option", "threshold_optimizer"]
    wrong = run_python(*command[:-2], *rules, cwd=Path())
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
    assert wrong.stderr == (
        "error: --postprocess needs --fit-on, a file of other rows: a rule looks better than it is on the "
        "rows that it is fitted on.\n"
    )


def test_a_rule_is_fitted_on_the_other_rows_and_measured_on_these(files: tuple[Path, Path]) -> None:
    """By equalised odds, worked out here for two groups by trying all that makes one worse."""
    test, validation = files
    main(test, ["sex"], fit_on=validation, postprocess=["equalized_odds"], resamples=10)
    found = results()["postprocessed"]["equalized_odds"]
    fitted = pd.read_csv(validation)
    positive = (fitted["score"] >= 0.5).groupby([fitted["sex"], fitted["y"]]).mean()
    (false_f, true_f), (false_m, true_m) = positive["f"], positive["m"]
    # The worse group keeps its predictions; the better one's a and b give it the same rates.
    a, b = np.linalg.solve([[true_f, 1 - true_f], [false_f, 1 - false_f]], [true_m, false_m])
    table = pd.read_csv(test)
    hard = (table["score"] >= 0.5).to_numpy(float)
    rates = np.where(table["sex"] == "f", a * hard + b * (1 - hard), hard)
    right = np.where(table["y"] == 1, rates, 1 - rates)
    assert found["overall"]["accuracy"]["value"] == pytest.approx(right.mean(), abs=2e-6)
    by_sex = found["protected"]["sex"]
    for k, (y, sex) in enumerate([(0, "f"), (0, "m"), (1, "f"), (1, "m")]):
        members = (table["y"] == y) & (table["sex"] == sex)
        assert by_sex["groups"][k] == {"name": f"y={y}, sex={sex}", "n": members.sum()}
        accuracy = by_sex["metrics"][f"group_{k}_accuracy"]
        assert accuracy["value"] == pytest.approx(right[members].mean(), abs=2e-6)
        assert accuracy["std"] > 0
    assert found["overall"]["average_precision"] == results()["overall"]["average_precision"]


def test_the_rest_is_as_without_a_rule_and_the_threshold_is_that_of_the_other_rows(
    files: tuple[Path, Path],
) -> None:
    test, validation = files
    main(test, ["sex"], resamples=10)
    alone = results()
    assert list(alone) == ["file", "overall", "protected", "samples", "threshold"]
    main(test, ["sex"], fit_on=validation, postprocess=["reject_option"], resamples=10)
    both = results()
    assert both["samples"] == 300
    table = pd.read_csv(validation)
    assert (table["score"] >= both["threshold"]).sum() == table["y"].sum()
    assert both["threshold"] != alone["threshold"]
    assert both["overall"]["accuracy"] == alone["overall"]["accuracy"]
    main(test, ["sex"], threshold=alone["threshold"], fit_on=validation, resamples=10)
    assert results() == alone  # without a rule, and with the threshold given, nothing else is fitted


def test_several_columns_are_taken_together(files: tuple[Path, Path]) -> None:
    for path in files:
        table = pd.read_csv(path)
        table.assign(young=np.arange(300) % 2).to_csv(path, index=False)
    main(files[0], ["sex", "young"], fit_on=files[1], postprocess=["threshold_optimizer"], resamples=5)
    found = results()["postprocessed"]["threshold_optimizer"]
    assert list(found["protected"]) == ["sex", "sex x young", "young"]
    accuracies = [found["protected"]["sex"]["metrics"][f"group_{k}_accuracy"]["value"] for k in range(4)]
    assert None not in accuracies
    with pytest.raises(
        UserError, match=r"^--fit-on: reject_option is for two protected groups, .* of 4: sex=f, y"
    ):
        main(files[0], ["sex", "young"], fit_on=files[1], postprocess=["reject_option"], resamples=5)


def test_groups_are_named_alike_in_both_files(files: tuple[Path, Path]) -> None:
    """A value that only the other rows have is an empty group of these, and numbers it after its name."""
    test, validation = files
    more = rows_of(3).assign(sex="a")
    pd.concat([rows_of(1), more]).to_csv(validation, index=False)
    main(test, ["sex"], fit_on=validation, postprocess=["equalized_odds"], resamples=5)
    by_sex = results()["postprocessed"]["equalized_odds"]["protected"]["sex"]
    assert by_sex["groups"][0] == {"name": "y=0, sex=a", "n": 0}
    assert by_sex["metrics"]["group_0_accuracy"]["value"] is None
    assert by_sex["metrics"]["group_1_accuracy"]["value"] > 0.5


def changed(path: Path, **columns: object) -> None:
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def test_no_row_is_both_fitted_on_and_measured(files: tuple[Path, Path]) -> None:
    test, validation = files
    message = (
        r"^test\.csv: id 2-0 stands in test\.csv too, and nothing may be fitted on a row that is measured"
    )
    with pytest.raises(UserError, match=message):
        main(test, ["sex"], fit_on=test, postprocess=["reject_option"])
    rows = pd.concat([rows_of(1), rows_of(2).tail(1)])
    rows.to_csv(validation, index=False)
    with pytest.raises(UserError, match=r"^validation\.csv: id 2-299 stands in test\.csv too"):
        main(test, ["sex"], fit_on=validation, postprocess=["reject_option"])
    changed(validation, id=range(301))
    changed(test, id=[f"{k}" for k in range(300, 600)])  # 300 is a number in one file and a text in the other
    with pytest.raises(UserError, match="id 300 stands in"):
        main(test, ["sex"], fit_on=validation, postprocess=["reject_option"])


def test_what_is_wrong_with_the_other_rows_is_said(files: tuple[Path, Path]) -> None:
    test, validation = files
    with pytest.raises(UserError, match=r"^--postprocess is 'roc'; expected reject_option, equalized_odds, "):
        main(test, ["sex"], fit_on=validation, postprocess=["roc"], resamples=5)
    with pytest.raises(UserError, match=r"^--output validation\.csv would overwrite what is read"):
        main(test, ["sex"], fit_on=validation, output=validation)
    women = rows_of(1).query("sex == 'f'")
    women.to_csv(validation, index=False)
    with pytest.raises(UserError, match=r"^--fit-on: equalized_odds is for .* are of 1: sex=f\.$"):
        main(test, ["sex"], fit_on=validation, postprocess=["equalized_odds"], resamples=5)
    pd.concat([women, women.assign(id=women["id"] + "x", sex="x")]).to_csv(validation, index=False)
    with pytest.raises(UserError, match="cannot be applied to rows of sex=m"):
        main(test, ["sex"], fit_on=validation, postprocess=["equalized_odds"], resamples=5)
    changed(validation, y=0)
    with pytest.raises(UserError, match="none of sex=f has y = 1"):
        main(test, ["sex"], fit_on=validation, postprocess=["equalized_odds"], resamples=5)
    changed(validation, sex=1)
    with pytest.raises(
        UserError, match=r"^validation\.csv: sex is a number here or in test\.csv, and a text"
    ):
        main(test, ["sex"], fit_on=validation)
    pd.read_csv(validation).drop(columns="sex").to_csv(validation, index=False)
    with pytest.raises(UserError, match=r"^validation\.csv has no column 'sex'"):
        main(test, ["sex"], fit_on=validation)
