"""docs/methods.md and methods.json: figures from the runs, differences beyond a deviation, claims by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.parameters import AllParameters
from stages.reporting import methods
from stages.reporting.methods import claims, compared, methods_page, side_by_side, synthetic_added
from stages.reporting.methods_record import (
    FIGURES,
    MethodFigures,
    MethodsRecord,
    SeedsSpread,
    collected,
    figures_of,
    keep_methods,
)
from stages.reporting.plateaus import Plateau, write_plateaus
from stages.shared.paths import EVALUATION, METHODS, METHODS_PAGE, PRESETS, RUNS
from stages.shared.presets import preset_values


def spread(mean: float, std: float | None = 0.01) -> dict[str, float | None]:
    return {"mean": mean, "std": std}


def figures(worst: float, std: float = 0.01, phi: float = 0.0) -> MethodFigures:
    return MethodFigures.model_validate(
        {
            "worst_group_accuracy": spread(worst, std),
            "accuracy": spread(0.9),
            "balanced_accuracy": spread(0.85),
            "equalized_odds_difference": spread(0.1),
            "average_odds_difference": spread(-0.05),
            "phi": spread(phi, 0.1),
            "feasible": 2 / 3,
            "cost": {"forward": 1.5, "backward": 1.0},
            "labels": ["training"],
        }
    )


def record(original: dict[str, MethodFigures], augmented: dict[str, MethodFigures]) -> MethodsRecord:
    gains = {"inverse_frequency": {"original": (0.2, 0.05), "augmented": (0.01, -0.02)}}
    run = {
        "target": "Five_or_more",
        "protected": ["Red"],
        "seeds": 3,
        "steps": 400,
        "gains": gains,
        "left_out": "",
    }
    return MethodsRecord.model_validate({"run": run, "original": original, "augmented": augmented})


def test_a_difference_counts_beyond_its_deviation() -> None:
    first = {name: figures(0.80, 0.03).worst_group_accuracy for name in "abcd"}
    second = {
        name: figures(mean, 0.04).worst_group_accuracy
        for name, mean in {"a": 0.851, "b": 0.849, "c": 0.749, "d": 0.9}.items()
    }
    found = compared(first, second, "abcd")  # √(0.03² + 0.04²) = 0.05
    assert (found.better, found.level, found.worse) == (["d", "a"], ["b"], ["c"])
    assert found.differences["d"] == pytest.approx((0.1, 0.05))
    assert found.named(["a"]) == "`a` (+5.1 ± 5.0)"
    assert found.named([]) == "none"


def test_a_single_seed_without_a_deviation_counts_as_exact() -> None:
    one = {"a": SeedsSpread(mean=0.5, std=None)}
    found = compared(one, {"a": SeedsSpread(mean=0.6, std=None)}, ["a"])
    assert found.level == ["a"]  # NaN: nothing can be said
    assert found.named(["a"]) == "`a` (+10.0)"


def test_what_synthetic_data_add_is_of_methods_on_both() -> None:
    found = synthetic_added(
        record({"erm": figures(0.6), "dann": figures(0.8)}, {"erm": figures(0.8), "lisa": figures(0.9)})
    )
    assert found.better == ["erm"]
    assert set(found.differences) == {"erm"}


def test_claims_compare_the_means_of_each_side() -> None:
    data = {
        "group_dro": figures(0.70),
        "group_dro_balanced": figures(0.80),
        "inverse_frequency": figures(0.75),
        "reweighing": figures(0.60),
    }
    (sentence,) = side_by_side(
        record(data, {}), ["group_dro", "group_dro_balanced"], ["inverse_frequency", "reweighing"],
        "worst_group_accuracy",
    )  # fmt: skip
    assert sentence == (
        "on original, `group_dro` and `group_dro_balanced` (worst group 75.0 ± 1.0) ahead of "
        "`inverse_frequency` and `reweighing` (67.5 ± 1.0)"
    )
    level = side_by_side(
        record({"a": figures(0.7, phi=0.5), "b": figures(0.7, phi=0.6)}, {}), ["a"], ["b"], "phi"
    )
    assert level == ["on original, `a` (φ 50.0 ± 10.0) level, within one deviation, with `b` (60.0 ± 10.0)"]


def test_a_claim_without_its_methods_is_left_out() -> None:
    found = claims(record({"erm": figures(0.5)}, {"erm": figures(0.6)}))
    assert [claim.source for claim in found] == ["Byrd and Lipton, 2019"]
    assert found[0].found[0] == (
        "on original, `inverse_frequency` is +20.0 points from ERM on validation after 30 % of the steps and "
        "+5.0 points at the end"
    )


def runs_table() -> pd.DataFrame:
    """Two seeds of two recipes on both data sets."""
    rows = []
    for data in ("original", "augmented"):
        for recipe, worst, forward in (("erm", 0.5, 100), ("dann", 0.7, 300)):
            for seed in (0, 1):
                values = dict.fromkeys(FIGURES.values(), worst + 0.1 * seed)
                bootstrap = {f"{column}_bootstrap_std": 0.02 for column in values}
                rows.append(
                    {"data": data, "recipe": recipe, "seed": seed, "selection": "worst_group_accuracy",
                     "needs": "training" if recipe == "dann" else "", "images_forward": forward,
                     "images_backward": 100, "phi_feasible": float(seed), **values, **bootstrap}
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_figures_are_means_over_the_seeds_and_costs_relative_to_erm() -> None:
    found = figures_of(runs_table(), "original", "dann")
    assert found.worst_group_accuracy.pair == pytest.approx((0.75, 0.1 / math.sqrt(2)))
    assert found.feasible == 0.5
    assert (found.cost.forward, found.cost.backward) == (3.0, 1.0)
    assert found.labels == ["training"]
    assert figures_of(runs_table(), "original", "erm").labels == []


@pytest.fixture
def parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AllParameters:
    content = preset_values("methods", Path(__file__).parents[2] / PRESETS)
    content["train"] |= {"recipes": ["erm", "inverse_frequency"], "seeds": [0, 1]}
    monkeypatch.chdir(tmp_path)
    write_plateaus([Plateau(data="original", recipe="dann", seed=1, sentence="flat")], EVALUATION)
    for data in ("original", "augmented"):
        for recipe, values in (("erm", (0.2, 0.6)), ("inverse_frequency", (0.5, 0.7))):
            for seed in (0, 1):
                folder = RUNS / data / recipe / str(seed)
                folder.mkdir(parents=True)
                table = {"step": [120, 400], "worst_group_accuracy": np.array(values) + 0.1 * seed}
                pd.DataFrame(table).to_csv(folder / "history.csv", index=False)
    return AllParameters.model_validate(content)


def test_gains_of_loss_weights_are_read_early_and_late(parameters: AllParameters) -> None:
    found = collected(parameters, runs_table())
    assert found.run.gains == {
        "inverse_frequency": {data: pytest.approx((0.3, 0.1)) for data in ("original", "augmented")}
    }
    assert list(found.original) == ["erm", "dann"]


def test_the_page_is_made_of_the_figures_that_are_kept(parameters: AllParameters) -> None:
    assert not methods.write_methods_page()
    keep_methods(parameters, runs_table())
    assert json.loads(METHODS.read_text())["augmented"]["dann"]["phi"]["mean"] == pytest.approx(0.75)
    assert methods.write_methods_page()
    page = METHODS_PAGE.read_text()
    assert page == methods_page(MethodsRecord.read(METHODS))
    assert "| `dann` | 75.0 ± 7.1 |" in page
    assert "3 / 1 | training |" in page
    assert "- **On original**, these have a better worst group than ERM: `dann` (+20.0 ± 10.0)." in page
    assert "to the same method: none. They hurt: none." in page
    assert "`dann` (+0.0 ± 10.0)" in page
    assert "learned nothing: dann on original (seed 1). A method all of whose" in page
    assert "{" not in page
