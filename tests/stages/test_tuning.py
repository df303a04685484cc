"""`zprime tune`: equal sweeps, a choice on validation alone, and what is kept and run again."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.content.tables import write_table
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from stages.parameters import AllParameters
from stages.reporting import tuning
from stages.reporting.sweeps import DECAY, OF_RECIPE, Sweep, sweep_of
from stages.shared.paths import PRESETS, RUNS, SWEEPS
from stages.shared.presets import preset_values

METHODS = preset_values("methods", Path(__file__).parents[2] / PRESETS)
RECIPES = METHODS["train"]["recipes"]


def predictions(validation_right: int, test_right: int) -> pd.DataFrame:
    """Predictions of groups of ten images in two splits: in group 0 so many are right, in the others all."""
    rows = [
        {"split": split, "target": target, "Red": red,
         "score": float(target if (target, red) != (0, 0) or k < right else 1 - target)}
        for split, right in (("validation", validation_right), ("test", test_right))
        for target in (0, 1)
        for red in (0, 1)
        for k in range(10)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(selection="worst_group_accuracy", id=[str(k) for k in range(80)])


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A project whose second variant is best on original, the third on augmented, and the first on test."""
    monkeypatch.chdir(tmp_path)
    PARAMETERS_FILE.write_text(yaml.safe_dump(METHODS))
    found: list[dict[str, Any]] = []
    right = {"original": (5, 9, 6), "augmented": (5, 6, 8)}

    def repro(copy: Path, targets: list[str]) -> None:
        content = yaml.safe_load((copy / PARAMETERS_FILE).read_text())
        found.append({"content": content, "targets": targets})
        for data, of_variants in right.items():
            variants = zip(content["train"]["recipes"], of_variants, (10, 0, 0), strict=True)
            for recipe, of_validation, on_test in variants:
                table = predictions(of_validation, on_test)
                write_table(copy / RUNS / data / recipe / "0" / "predictions.parquet", table)

    monkeypatch.setattr(tuning, "repro", repro)
    monkeypatch.setattr(tuning, "copy_project", lambda copy: None)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_sweep_has_three_values_of_a_parameter_that_exists(recipe: str) -> None:
    sweep = sweep_of(recipe)
    assert len(set(sweep.values)) == 3
    content = json.loads(json.dumps(METHODS))
    for number, definition in enumerate(
        tuning.variants_of(recipe, content["train"]["definitions"][recipe], sweep).values()
    ):
        content["train"]["definitions"][recipe] = definition
        place: Any = AllParameters.model_validate(content).train.definitions[recipe]
        for part in sweep.parameter.split("."):
            place = getattr(place, part)
        assert place == sweep.values[number]


def test_every_sweep_is_of_a_recipe_of_the_preset() -> None:
    assert set(OF_RECIPE) <= set(RECIPES)
    assert sweep_of("erm") == DECAY


def test_the_variants_are_trained_on_both_data_sets_and_nothing_else_is(asked: list[dict[str, Any]]) -> None:
    tuning.main(["dann"])
    (run,) = asked
    train = run["content"]["train"]
    assert run["targets"] == [
        "train_real@original-dann_1-0", "train_real@original-dann_2-0", "train_real@original-dann_3-0",
        "train_balanced@augmented-dann_1-0", "train_balanced@augmented-dann_2-0",
        "train_balanced@augmented-dann_3-0",
    ]  # fmt: skip
    assert [train["definitions"][f"dann_{k}"]["method"]["penalty"] for k in (1, 2, 3)] == [0.1, 0.3, 1.0]
    assert run["content"]["finish"]["names"] == run["content"]["evaluate"]["postprocess"] == []
    assert AllParameters.model_validate(run["content"]).train.recipes == ["dann_1", "dann_2", "dann_3"]
    assert run["content"]["on_useless"] == "go_on"  # one that learns nothing does not end the sweep


def test_validation_chooses_by_the_mean_of_both_data_sets(asked: list[dict[str, Any]]) -> None:
    tuning.main(["dann"])
    found = json.loads(SWEEPS.read_text())["dann"]
    assert found["validation"] == {"original": [0.5, 0.9, 0.6], "augmented": [0.5, 0.6, 0.8]}
    assert found["chosen"] == 0.3  # 1.5 of 1.0, 1.5, 1.4; on test the first would be best
    assert (found["parameter"], found["values"]) == ("method.penalty", [0.1, 0.3, 1.0])


def test_what_is_measured_is_not_measured_again_unless_it_is_named(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(PARAMETERS_FILE.read_text())
    content["train"]["recipes"] = ["erm", "dann"]
    PARAMETERS_FILE.write_text(yaml.safe_dump(content))
    tuning.main(None)
    tuning.main(None)
    assert len(asked) == 2
    tuning.main(["dann"])
    assert len(asked) == 3
    monkeypatch.setitem(OF_RECIPE, "dann", Sweep("method.penalty", (0.1, 0.3, 3.0)))
    tuning.main(None)
    assert len(asked) == 4
    assert set(json.loads(SWEEPS.read_text())) == {"erm", "dann"}


def test_a_recipe_that_is_not_defined_is_named(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"tune: recipe 'dan' is not in train.definitions: .*dann"):
        tuning.main(["dan"])
    assert asked == []
