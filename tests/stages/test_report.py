"""The report's words and tables: what they say of a small evaluation made by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pytest

from stages import report_tables
from stages.report import TEMPLATE, generator_losses, without_folders
from stages.report_tables import (
    ACCURACIES,
    DISTANCES,
    FIGURE_SPACE,
    MATCHED,
    MATCHED_GROUP_ACCURACIES,
    PAPER,
    PUBLISHED,
    SELECTION,
    accuracies_beside,
    binned_shares,
    deviation_note,
    evenly_per_group,
    headline,
    mean_and_deviation,
    spread_text,
    table_rows,
    tiles,
    worst_group_of,
)

DATASHEET = {
    "before": {"kl_joint": 0.0581},
    "after": {"kl_joint": 0.0110},
    "target_kept": 0.857,
    "protected_flipped": 0.824,
}


def run(data: str, recipe: str, seed: int, worst: float, **values: Any) -> dict[str, Any]:
    """A row of runs.parquet: group 3 is the worst, whatever is not named stands at 0.9."""
    names = {column.name: 0.9 for column in (*ACCURACIES, MATCHED, *PAPER, *DISTANCES)}
    names |= {f"group_{group}_accuracy": 0.95 for group in range(3)}
    metrics = names | {"worst_group_accuracy": worst, "group_3_accuracy": worst} | values
    deviations = {f"{name}_bootstrap_std": 0.125 for name in metrics if name != "selection"}
    key = {"data": data, "recipe": recipe, "seed": seed, "selection": "worst_group_accuracy"}
    return key | deviations | metrics


def two_seeds(before: tuple[float, float], after: tuple[float, float]) -> pd.DataFrame:
    rows = [("original", before), ("augmented", after)]
    return pd.DataFrame([run(data, "erm", k, value) for data, both in rows for k, value in enumerate(both)])


# The tables


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
    rows = table_rows(runs, ACCURACIES, best="worst_group_accuracy")
    assert [(row["data"], row["recipe"], row["best"]) for row in rows] == [
        ("original", "erm", False),
        ("original", "group_dro", True),
        ("augmented", "erm", True),
    ]
    # The deviations with n - 1: of 0.40 and 0.44 it is 0.02 √2, of 0.80 and 0.90 it is 0.05 √2.
    assert rows[0]["cells"]["worst_group_accuracy"] == f"42.0 ±{FIGURE_SPACE}2.8"
    assert rows[0]["cells"]["accuracy"] == f"85.0 ±{FIGURE_SPACE}7.1"
    assert rows[1]["cells"]["worst_group_accuracy"] == f"60.0 ±{FIGURE_SPACE}0.0"
    kl = table_rows(runs, DISTANCES, best="kl_scores", lowest=True)
    assert [(row["cells"]["kl_scores"], row["best"]) for row in kl[:2]] == [
        ("1.500 ± 0.707", False),
        ("0.500 ± 0.000", True),
    ]
    by_accuracy = table_rows(runs, ACCURACIES, selection="accuracy")
    assert len(by_accuracy) == 1
    assert by_accuracy[0]["cells"]["worst_group_accuracy"] == "10.0 ±12.5"
    assert not by_accuracy[0]["best"]


def test_of_one_seed_the_deviation_is_the_bootstraps() -> None:
    seeds = pd.DataFrame([run("original", "erm", 0, 0.4)])
    assert mean_and_deviation(seeds, "worst_group_accuracy") == (0.4, 0.125)
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
    assert worst_group_of(pd.DataFrame(rows)) == 3
    assert worst_group_of(pd.DataFrame(rows).assign(group_1_accuracy=[0.1, 0.9])) == 1


def test_the_papers_table_has_a_published_value_for_each_of_its_columns() -> None:
    assert [column.name for column in PAPER] == [
        "average_precision", "deo", "bias_amplification", "kl_scores_published",
    ]  # fmt: skip
    assert all(len(values) == len(PAPER) for values in PUBLISHED.values())


def test_beside_a_gap_stand_the_accuracies_of_the_groups_and_the_worst_is_named() -> None:
    """A gap of 0 because both got worse: the accuracies say so."""
    accuracies = dict(zip(MATCHED_GROUP_ACCURACIES, (0.9, math.nan, 0.3, 0.4), strict=True))
    seeds = pd.DataFrame([run("original", "erm", k, 0.3, deo=0.0, **accuracies) for k in range(2)])
    beside = accuracies_beside(seeds.assign(**{MATCHED_GROUP_ACCURACIES[3]: [0.2, 0.6]}))
    assert [cell["text"] for cell in beside] == ["90.0", "–", "30.0", "40.0"]
    assert [cell["worst"] for cell in beside] == [False, False, True, False]


def test_the_page_shows_the_papers_table_and_absolute_accuracies_beside_every_gap() -> None:
    accuracies = dict(zip(MATCHED_GROUP_ACCURACIES, (0.91, 0.82, 0.73, 0.14), strict=True))
    runs = pd.DataFrame([run("original", "erm", 0, 0.4, deo=0.59, **accuracies)])
    (chosen,) = table_rows(runs, (*ACCURACIES, MATCHED), best=SELECTION)
    results = TEMPLATE.read_text().split('<h2 id="groups">')[0]
    page = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(results)
    text = page.render(
        tables=report_tables,
        source="avatars",
        target="Blond_Hair",
        protected="Male",
        headline="",
        tiles=[],
        deviation_note="",
        train=SimpleNamespace(data=["original"], steps=400, batch_size=128),
        summaries={"original": SimpleNamespace(images=10_000)},
        accuracies=[chosen | {"worst_group": 3, "by_accuracy": chosen["cells"]}],
        paper=table_rows(runs, PAPER),
        distances=table_rows(runs, DISTANCES, best="kl_scores", lowest=True),
        beside={("original", "erm"): accuracies_beside(runs)},
        group_names=["a", "b", "c", "d"],
        group_sizes=[1000, 1000, 1000, 1000],
    )
    papers, studys = text.split("<b>Table 2.")[1].split("<b>Table 3.")
    assert "59.0 ±12.5" in papers  # DEO in percent
    assert all(value in papers for values in PUBLISHED.values() for value in values)
    for table in (papers, studys):
        assert '<td class="number apart">91.0</td>' in table
        assert '<td class="number worst">14.0</td>' in table
    rows = [row for row in text.split("<tr>")[1:] if "<code>erm</code>" in row]
    assert [row.split("</tr>")[0].count("<td") for row in rows] == [8, 9, 12]


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
    shown = tiles(runs, "erm", DATASHEET, ("Blond_Hair", "Male"))
    values = [tile["value"].replace("\u00a0", " ") for tile in shown]
    assert values == ["41.0 → 61.0 %", "41.0 → 80.0 %", "90.0 → 90.0 %", "0.058 → 0.011", "85.7 · 82.4 %"]
    assert shown[1]["note"] == "erm → group_dro"


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
    parts = TEMPLATE.read_text().split('{% if "gan_losses" in figures %}')
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
        "source": {"folder": "/home/someone/celeba", "kind": "celeba"},
        "sizes": [4, "/x/y.pt"],
        "weights": None,
    }
    assert without_folders(given) == {
        "source": {"folder": "…/celeba", "kind": "celeba"},
        "sizes": [4, "…/y.pt"],
        "weights": None,
    }
