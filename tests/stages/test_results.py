"""docs/results.md: verdicts on both sides of each threshold, where it is lost, ablations, the page."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from pipeline.stores import write_json
from stages import evaluate, losses, report, results
from stages.paths import ABLATIONS, GENERATOR, QUALITY, RESULTS
from tests.stages.evaluated import make_synthesised, make_trained

ATTRIBUTES = ["Blond_Hair", "Male"]


def run(data: str, recipe: str, worst: float, spread: float = 0.01, **values: float) -> list[dict[str, Any]]:
    """Two seeds, `worst` their mean and `spread` their deviation; 0.9 right on average, as on validation."""
    figures = {"validation_worst_group_accuracy": worst, "accuracy": 0.9, "balanced_accuracy": 0.9} | values
    return [
        {"data": data, "recipe": recipe, "seed": seed, "selection": "worst_group_accuracy", "kl_scores": 0.5,
         "worst_group_accuracy": worst + sign * spread / 2**0.5, **figures}
        for seed, sign in enumerate((-1, 1))
    ]  # fmt: skip


def runs_of(
    erm: float = 0.65, best: float = 0.76, before: float = 0.70, spread: float = 0.01, **values: float
) -> pd.DataFrame:
    """A gap from 0.4 to 0.8: ERM and the best recipe on augmented data, the best one on the original."""
    rows = [
        *run("original", "erm", 0.4, spread),
        *run("original", "dro", before, spread),
        *run("augmented", "erm", erm, spread),
        *run("augmented", "dro", best, spread, **values),
        *run("oracle", "erm", 0.8, spread),
    ]
    return pd.DataFrame(rows)


def reached(runs: pd.DataFrame) -> list[bool | None]:
    return [verdict.reached for verdict in results.verdicts(runs)]


@pytest.mark.parametrize(("erm", "expected"), [(0.6, True), (0.599, False), (0.3, False)])
def test_half_of_the_gap_is_closed_from_a_half_on(erm: float, expected: bool) -> None:
    assert reached(runs_of(erm=erm))[0] is expected


@pytest.mark.parametrize(
    ("best", "before", "spread", "expected"),
    [
        (0.74, 0.70, 0.01, True),  # 85 % of the gap, 4 points
        (0.739, 0.70, 0.01, False),  # less than 85 %
        (0.76, 0.73, 0.01, True),  # 3 points, more than √2 deviations of 1
        (0.76, 0.731, 0.01, False),  # 2.9 points
        (0.76, 0.72, 0.028, True),  # 4 points, beyond 3.96
        (0.76, 0.72, 0.029, False),  # 4 points, within 4.1
    ],
)
def test_most_of_the_gap_takes_the_gap_the_points_and_the_deviation(
    best: float, before: float, spread: float, expected: bool
) -> None:
    assert reached(runs_of(best=best, before=before, spread=spread))[1] is expected


def test_the_recipe_that_counts_is_the_one_that_validation_chooses() -> None:
    assert reached(runs_of(erm=0.5, best=0.79))[1]
    runs = runs_of(erm=0.5, best=0.79, validation_worst_group_accuracy=0.1)  # so that erm is chosen
    assert reached(runs)[1] is False
    assert "erm on the augmented data closes 25.0 ± 2.5 %" in results.verdicts(runs)[1].measured


@pytest.mark.parametrize(("accuracy", "expected"), [(0.9, True), (0.8999, False), (0.95, True)])
def test_average_accuracy_is_not_to_fall(accuracy: float, expected: bool) -> None:
    assert reached(runs_of(accuracy=accuracy))[2] is expected


def test_without_an_oracle_nothing_is_said_of_the_gap() -> None:
    runs = runs_of()
    assert reached(runs[runs["data"] != "oracle"]) == [None, None, True]


def test_controls_are_compared_with_erm_and_with_what_is_chosen() -> None:
    runs = pd.concat([runs_of(), pd.DataFrame(run("sampled", "erm", 0.64) + run("sampled", "dro", 0.70))])
    assert results.control_rows(runs) == [
        ["sampled erm", "64.0 ± 1.0", "augmented erm", "65.0 ± 1.0", "+1.0 points", "no"],
        ["sampled dro", "70.0 ± 1.0", "augmented dro", "76.0 ± 1.0", "+6.0 points", "yes"],
    ]


def test_chosen_recipes_are_bold_and_the_gap_is_beside_them() -> None:
    rows = results.run_rows(runs_of())
    assert rows[2] == ["augmented", "erm", "65.0 ± 1.0", "90.0 ± 0.0", "62.5 ± 2.5", "65.0 ± 0.0"]
    assert rows[3][:3] == ["**augmented**", "**dro**", "**76.0 ± 1.0**"]


# --- Where it is lost ------------------------------------------------------------------------------------


def flips(sizes: list[int], as_asked: list[float | None], **changed: list[float | None]) -> dict[str, Any]:
    return {"group_n": sizes, "group_changed": changed, "group_as_asked": as_asked}


def test_complements_come_into_a_group_from_the_one_beside_it() -> None:
    nothing = [None] * 4
    of = flips([0, 0, 50, 9], [None, None, 0.3, 0.9],
               Male=[None, None, 0.8, 0.1], Blond_Hair=[None, None, 0.6, 0.1])  # fmt: skip
    assert losses.moves_into({"Male": of}, 3, ATTRIBUTES) == losses.Moves(50, 0.8, 0.4, 0.3)
    assert losses.moves_into({"Male": flips([0] * 4, nothing, Male=nothing)}, 3, ATTRIBUTES) is None


def test_of_two_attributes_every_subset_leads_into_a_group() -> None:
    names = ["Blond_Hair", "Male", "Eyeglasses"]

    def from_group(group: int, n: int, share: float) -> dict[str, Any]:
        shares = [share if k == group else None for k in range(8)]
        return flips([n if k == group else 0 for k in range(8)], shares, **dict.fromkeys(names, shares))

    by_flips = {  # into group 7, of blond men with glasses
        "Male": from_group(5, 10, 0.5), "Eyeglasses": from_group(6, 30, 0.1),
        "Male+Eyeglasses": from_group(4, 60, 1.0),
    }  # fmt: skip
    moves = losses.moves_into(by_flips, 7, names)
    assert moves is not None
    assert moves.pairs == 100
    assert moves.flipped == pytest.approx(0.68)
    assert moves.kept == pytest.approx(0.32)


def test_wrong_labels_are_of_the_given_group_over_all_sources() -> None:
    confusion = [[1, 0, 0, 0]] * 3
    labels = {
        "z": {"confusion": [*confusion, [0, 0, 1, 9]]},
        "z_prime": {"confusion": [*confusion, [0, 20, 25, 45]]},
    }
    assert losses.label_noise(labels, 3) == pytest.approx(0.46)
    assert losses.label_noise({"z": {"confusion": [[0] * 4] * 4}}, 3) is None


def test_the_rarest_group_and_its_share() -> None:
    assert losses.rarest_group({"group_0": 5, "group_1": 9, "group_2": 3, "group_3": 3}) == 2
    assert losses.coverage({"group_n": [50, 30, 19, 1]}, 3) == 0.01


def quality_of_four() -> dict[str, Any]:
    of = {"balanced_accuracy": 0.8, "group_accuracies": [0.9, 0.9, 0.9, 0.55]}
    right = {"balanced_accuracy": 0.9, "group_accuracies": [0.9, 0.9, 0.9, 0.95]}
    labels = {"images": 10, "confusion": [[1, 0, 0, 0]] * 3 + [[0, 3, 0, 7]], "group_noise_average": 0.1}
    return {
        "probe": {"z": {"auc": 0.93}},
        "judge": {
            "sources": {"z": {"group_n": [50, 30, 18, 2], "classifiers": {"Blond_Hair": of, "Male": right},
                              "hyperplanes": {"Blond_Hair": right, "Male": right}}},
            "complements": {"z_prime": {"Male": flips([1, 1, 50, 1], [0.5, 0.5, 0.2, 0.5],
                            Male=[0.5, 0.5, 0.7, 0.5], Blond_Hair=[0.5, 0.5, 0.6, 0.5])}},
            "labels": {"augmented": {"z_prime": labels}},
        },
    }  # fmt: skip


def test_every_loss_of_the_rarest_group_and_the_largest() -> None:
    counts = {"group_0": 700, "group_1": 200, "group_2": 91, "group_3": 9}
    sheet = {"before": {"images": 1000, "group_counts": counts}}
    found = results.losses(quality_of_four(), sheet, runs_of(), ATTRIBUTES)
    figures = {loss.place: loss.figure for loss in found}
    assert (found[0].figure, found[0].beside) == ("2.0 %", "0.9 % of training images")
    assert figures["Accuracy of f for Blond_Hair, on its G(z)"] == "55.0 %"
    assert figures["Edit: what was to flip did, G(z′)"] == "70.0 %"
    assert figures["Leakage: Blond_Hair stayed, G(z′)"] == "40.0 %"
    assert figures["Wrong labels among its images, augmented"] == "30.0 %"
    assert figures["Shortcut: G(z) told from real images"] == "AUC 93.0 %"
    largest = results.largest_loss(found)
    assert largest is not None
    assert largest.place == "Leakage: Blond_Hair stayed, G(z′)"
    assert largest.lost == pytest.approx(0.6)


def test_without_judges_there_is_the_shortcut_alone() -> None:
    runs = pd.concat([runs_of(), pd.DataFrame(run("augmented", "erm_balanced", 0.7)),
                      pd.DataFrame(run("augmented", "source_balanced", 0.72))])  # fmt: skip
    sheet = {"before": {"images": 9, "group_counts": {f"group_{k}": 1 for k in range(4)}}}
    found = results.losses({"probe": {}, "judge": None}, sheet, runs, ATTRIBUTES)
    assert [loss.beside for loss in found] == ["70.0 ± 1.0 % with erm_balanced: +2.0 points ± 1.4"]
    assert results.largest_loss(found) is None


# --- Ablations -------------------------------------------------------------------------------------------


def record(name: str, against: str | None, worst: float, **values: Any) -> dict[str, Any]:
    figure = {"mean": worst, "std": 0.01}
    return {
        "name": name, "about": "it does this", "against": against, "failed": None, "seeds": [0, 1],
        "recipes": {"erm": {"worst_group_accuracy": figure, "accuracy": {"mean": 0.9, "std": None}}},
        "rarest": "b", "images": {"a": 1, "b": 1234},
        "judged": {"flipped": 0.7, "kept": 0.4, "label_noise": None}, **values,
    }  # fmt: skip


def test_ablations_say_what_changed_and_what_failed() -> None:
    failed = record("third", "second", 0.0, failed="the disk is full.")
    del failed["recipes"]
    records = [
        record("first", None, 0.5),
        record("second", "first", 0.51),
        failed,
        record("far", "first", 0.6),
    ]
    assert results.ablation_sentences(records) == [
        "`first`: it does this; there is nothing to hold it against.",
        "`second`: it does this; worst-group accuracy against `first`: +1.0 points with erm, within the "
        "deviations.",
        "`third`: it does this; it failed: the disk is full.",
        "`far`: it does this; worst-group accuracy against `first`: +10.0 points with erm.",
    ]
    rows = results.ablation_rows(records, results.ablation_recipes(records))
    assert rows[0] == ["first", "50.0 ± 1.0", "90.0", "1,234", "70.0 %", "40.0 %", "–"]
    assert rows[2] == ["third", "failed", "failed", "", "", "", ""]


# --- The page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that `evaluate`, `report` and `results` went through."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_trained(request.param)
        make_synthesised(request.param)
        quality = json.loads((QUALITY / "quality.json").read_text())
        judge, n = quality["judge"], len(quality["groups"])
        for of in judge["complements"]["z_prime"].values():
            of["group_changed"] = {name: [0.25] * n for name in of["changed"]}
            of["group_as_asked"] = [0.5] * n
        for name in judge["sources"]["z"]["classifiers"]:
            for kind in ("classifiers", "hyperplanes"):
                judge["sources"]["z"][kind][name]["group_accuracies"] = [0.77] * n
        labels = judge["labels"]["augmented"]["z_prime"]
        labels |= {"confusion": [[1] * n] * n, "group_noise_average": 0.125}
        write_json(QUALITY / "quality.json", quality)
        write_json(GENERATOR / "card.json", {"made_by": "somebody"})
        Image.new("RGB", (8, 8)).save(GENERATOR / "samples/0032.png")
        evaluate.main()
        report.main()
        write_json(ABLATIONS, [record("first", None, 0.5)])
        results.main()
    return folder


def test_the_page_has_the_computed_verdicts_and_its_pictures(folder: Path) -> None:
    text = (folder / RESULTS).read_text()
    # ERM: 0.25 on original, 0.6 on augmented, 0.75 on the oracle's: 70 % of the gap.
    assert "1. **Reached.**" in text
    assert "It closes 70.0 ± 28.3 % of it." in text
    assert "2. **Not reached.**" in text
    assert "3. **Reached.**" in text
    for name in ("accuracies", "pairs", "samples"):
        assert f"(results/{name}.png)" in text
        with Image.open(folder / f"docs/results/{name}.png") as picture:
            assert picture.width >= 8
    assert "| first | 50.0 ± 1.0 | 90.0 | 1,234 | 70.0 % | 40.0 % | – |" in text
    assert "its G(z) | 77.0 % |" in text
    assert "Its weights: somebody." in text


def test_every_table_has_as_many_cells_as_headings(folder: Path) -> None:
    blocks = (folder / RESULTS).read_text().split("\n\n")
    found = [block.splitlines() for block in blocks if block.startswith("| ")]
    assert len(found) >= 12
    for lines in found:
        assert {line.count(" | ") for line in lines} == {lines[0].count(" | ")}, lines[0]


def test_the_same_outputs_give_the_same_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    files = (RESULTS, RESULTS.with_suffix("") / "accuracies.png")
    before = [path.read_bytes() for path in files]
    results.main()
    assert [path.read_bytes() for path in files] == before
