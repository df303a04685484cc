"""What validation chooses, and the share of the gap that is closed."""

import math

import pandas as pd
import pytest

from stages.reporting.choices import chosen_recipes, gap_of, mean_and_deviation, summary_table


def run(data: str, recipe: str, seed: int, validation: float, test: float, **values: object) -> dict:
    metrics = {
        "validation_worst_group_accuracy": validation,
        "worst_group_accuracy": test,
        "accuracy": 0.9,
        "balanced_accuracy": 0.9,
        "kl_scores": 1.0,
    }
    deviations = {f"{name}_bootstrap_std": 0.06 for name in metrics}
    key = {"data": data, "recipe": recipe, "seed": seed, "selection": "worst_group_accuracy"}
    return key | metrics | deviations | values


@pytest.fixture
def runs() -> pd.DataFrame:
    """ERM: .30 and .40 on the original, .90 on the oracle data, so that the gap is .55."""
    return pd.DataFrame(
        [
            run("original", "erm", 0, 0.35, 0.30),
            run("original", "erm", 1, 0.35, 0.40),
            run("original", "dro", 0, 0.50, 0.60),
            run("original", "dro", 1, 0.50, 0.60),
            run("augmented", "erm", 0, 0.70, 0.60),
            run("augmented", "erm", 1, 0.80, 0.65),
            run("augmented", "dro", 0, 0.90, 0.80),
            run("augmented", "dro", 1, 0.50, 0.84),
            run("oracle", "erm", 0, 0.90, 0.90),
            run("oracle", "erm", 1, 0.90, 0.90),
            # Of the weights that another figure selected: counts for nothing.
            run("augmented", "dro", 0, 1.00, 1.00, selection="accuracy"),
        ]
    )


def test_validation_chooses_and_the_test_set_does_not(runs: pd.DataFrame) -> None:
    """On the augmented data dro is better on test, and in one seed on validation, but not in the mean."""
    assert chosen_recipes(runs) == {"original": "dro", "augmented": "erm", "oracle": "erm"}


def test_of_equal_recipes_the_first_is_chosen(runs: pd.DataFrame) -> None:
    equal = runs.assign(validation_worst_group_accuracy=0.5)
    assert set(chosen_recipes(equal).values()) == {"erm"}


def test_the_share_of_the_gap_by_hand(runs: pd.DataFrame) -> None:
    assert gap_of(runs).size == pytest.approx(0.55)
    table = summary_table(runs).set_index("run")
    assert table.loc["original erm", "gap_closed"] == pytest.approx(0.0)
    assert table.loc["oracle erm", "gap_closed"] == pytest.approx(1.0)
    assert table.loc["augmented dro", "gap_closed"] == pytest.approx((0.82 - 0.35) / 0.55)
    assert table.loc["augmented dro", "gap_closed_std"] == pytest.approx(0.02 * math.sqrt(2) / 0.55)
    assert table.loc["augmented erm", "chosen"]
    assert not table.loc["augmented dro", "chosen"]


def test_without_an_oracle_or_a_gap_there_is_no_share(runs: pd.DataFrame) -> None:
    without = summary_table(runs[runs["data"] != "oracle"])
    assert without["gap_closed"].isna().all()
    closed = runs.assign(
        worst_group_accuracy=runs["worst_group_accuracy"].where(runs["data"] != "oracle", 0.3)
    )
    assert summary_table(closed)["gap_closed"].isna().all()


def test_of_one_seed_the_deviation_is_the_bootstraps(runs: pd.DataFrame) -> None:
    one = runs[runs["seed"] == 0]
    assert mean_and_deviation(one[:1], "worst_group_accuracy") == (0.30, 0.06)
    table = summary_table(one).set_index("run")
    assert table.loc["augmented erm", "gap_closed_std"] == pytest.approx(0.06 / 0.6)
