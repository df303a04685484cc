"""``zprime label-noise``: its variants, what it records and measures again, and what the page shows of it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from pipeline.content.tables import write_table
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from stages.parameters import AllParameters, read_parameters
from stages.reporting import label_noise, label_noise_page, methods
from stages.reporting.ablation_variants import changed
from stages.reporting.label_noise_page import noise_figure, noise_section
from stages.reporting.noise_record import VARIANTS, Measured, NoiseRecord, read_noise
from stages.shared.paths import LABEL_NOISE, LABEL_NOISE_FIGURE, PRESETS, RUNS
from stages.shared.presets import preset_values
from tests.stages.test_methods_page import figures
from tests.stages.test_methods_page import record as methods_record

AVATARS = preset_values("avatars", Path(__file__).parents[2] / PRESETS)
RECIPES = ["erm", "group_dro", "dann"]
# Right of ten in the worst group of test, by variant: what is planted; each further seed has one less.
PLANTED = {
    "complete": 9,
    "hidden_0.5_left_out": 6,
    "hidden_0.5_predicted": 8,
    "hidden_0.5_soft": 7,
    "hidden_0.9_left_out": 3,
    "hidden_0.9_predicted": 5,
    "hidden_0.9_soft": 6,
    "flipped_0.05": 8,
    "flipped_0.2": 4,
}
ERM = 5  # of ten, whatever the labels are


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default preset as its params.yaml, and current."""
    monkeypatch.chdir(tmp_path)
    PARAMETERS_FILE.write_text(yaml.safe_dump(AVATARS))
    return tmp_path


def write_run(path: Path, worst: int) -> None:
    """Write the predictions of ten test images of each group, all right but in the last group."""
    rows = []
    for group in range(4):
        target, male = divmod(group, 2)
        for k in range(10):
            right = group < 3 or k < worst
            score = 0.9 if right == (target == 1) else 0.1
            for split in ("validation", "test"):
                row = {"target": target, "Male": male, "split": split, "score": score}
                rows.append(row | {"selection": "worst_group_accuracy"})
    write_table(path / "predictions.parquet", pd.DataFrame(rows))


def variant_of(content: dict[str, Any]) -> str:
    """The name of the variant that a params.yaml is of."""
    labels, strategy = content["prepare"]["protected_labels"], content["train"]["missing_labels"]
    if labels["hidden"]:
        return f"hidden_{labels['hidden']}_{strategy}"
    return f"flipped_{labels['flipped']}" if labels["flipped"] else "complete"


@pytest.fixture
def repros(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is asked for instead of `dvc repro`: variant, targets and params.yaml; it leaves planted runs."""
    asked: list[dict[str, Any]] = []

    def repro(copy: Path, targets: list[str]) -> None:
        content = yaml.safe_load((copy / PARAMETERS_FILE).read_text())
        AllParameters.model_validate(content)
        variant = variant_of(content)
        asked.append({"variant": variant, "targets": targets, "content": content})
        for target in targets:
            _, _, cell = target.partition("@")
            data, recipe, seed = cell.split("-")
            worst = ERM if recipe == "erm" else PLANTED[variant]
            write_run(RUNS / data / recipe / seed, worst - int(seed))

    monkeypatch.setattr(label_noise, "repro", repro)
    monkeypatch.setattr(label_noise, "copy_project", lambda copy: None)
    return asked


# --- Variants --------------------------------------------------------------------------------------------


def test_the_variants_are_every_share_with_every_strategy() -> None:
    assert list(VARIANTS) == list(PLANTED)
    shares = [(of.hidden, of.flipped) for of in VARIANTS.values()]
    assert shares == [(0, 0), *[(0.5, 0)] * 3, *[(0.9, 0)] * 3, (0, 0.05), (0, 0.2)]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_the_labels_and_trains_on_the_original_data(name: str, folder: Path) -> None:
    content = label_noise.variant_content(name, ["group_dro"], [3])
    parameters = AllParameters.model_validate(content)
    labels = parameters.prepare.protected_labels
    assert (labels.hidden, labels.flipped) == (VARIANTS[name].hidden, VARIANTS[name].flipped)
    assert parameters.train.missing_labels == VARIANTS[name].strategy
    assert (parameters.train.real_data, parameters.train.seeds) == (["original"], [3])
    assert parameters.on_useless == "go_on"
    assert content["train_attribute"] == AVATARS["train_attribute"]


# --- Measuring -------------------------------------------------------------------------------------------


def test_each_variant_trains_what_depends_on_the_labels(repros: list[dict[str, Any]]) -> None:
    label_noise.main(RECIPES, "0,1")
    assert [asked["variant"] for asked in repros] == list(VARIANTS)
    cells = [f"train_real@original-{recipe}-{seed}" for recipe in RECIPES for seed in (0, 1)]
    assert repros[0]["targets"] == cells
    assert all(asked["targets"] == cells[2:] for asked in repros[1:])  # ERM needs no protected label
    record = read_noise()
    for name, right in PLANTED.items():
        found = record.variants[name].recipes["dann"]
        assert found.worst_group_accuracy == pytest.approx([right / 10, (right - 1) / 10])
        assert found.accuracy == pytest.approx([(30 + right) / 40, (29 + right) / 40])
        assert found.worst_group == pytest.approx(((right - 0.5) / 10, 0.1 / math.sqrt(2)))
    assert set(record.variants["complete"].recipes) == set(RECIPES)
    assert not record.variants["complete"].recipes["erm"].needs_labels


def test_by_default_the_recipes_of_params_yaml_that_need_labels_are_measured(folder: Path) -> None:
    content = changed(AVATARS, {"train.recipes": ["jtt", "erm", "lisa", "hardest", "dann"]})
    parameters = AllParameters.model_validate(content)
    assert label_noise.chosen_recipes([], parameters) == ["erm", "lisa", "dann"]
    assert label_noise.chosen_recipes(["hardest"], parameters) == ["hardest"]


def test_what_is_recorded_is_not_measured_again(repros: list[dict[str, Any]]) -> None:
    label_noise.main(["group_dro"], "0")
    assert len(repros) == 9
    label_noise.main(["group_dro"], "0")
    assert len(repros) == 9
    label_noise.main(["group_dro", "dann"], "0")  # one recipe more
    assert [asked["targets"] for asked in repros[9:]] == [["train_real@original-dann-0"]] * 9
    assert set(read_noise().variants["flipped_0.2"].recipes) == {"group_dro", "dann"}
    label_noise.main(["dann"], "0,1")  # other seeds
    assert len(repros) == 27


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"runtime.device": "cpu", "evaluate.resamples": 7, "finish.names": ["dfr"]}, False),
        ({"train.definitions.erm.weight_decay": 0.5, "train.seeds": [9]}, False),
        ({"train.missing_labels": "soft", "prepare.protected_labels.hidden": 0.3}, False),  # a variant's own
        ({"complement.per_group": 10}, False),
        ({"train.definitions.dann.weight_decay": 0.5}, True),
        ({"train.steps": 7}, True),
        ({"train_attribute.steps": 7}, True),
        ({"prepare.protected_labels.seed": 1}, True),
    ],
)
def test_a_recipe_is_measured_again_where_its_figures_change(
    changes: dict[str, Any], again: bool, repros: list[dict[str, Any]]
) -> None:
    label_noise.main(["dann"], "0")
    PARAMETERS_FILE.write_text(yaml.safe_dump(changed(AVATARS, changes)))
    section = read_parameters().train
    for name in VARIANTS:
        assert label_noise.lacking(name, ["dann"], [0], section) == (["dann"] if again else [])


def test_a_stopped_run_keeps_what_it_has_and_goes_on(
    repros: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = label_noise.repro

    def stopped(copy: Path, targets: list[str]) -> None:
        if len(repros) == 3:
            raise KeyboardInterrupt
        work(copy, targets)

    with monkeypatch.context() as while_stopped:
        while_stopped.setattr(label_noise, "repro", stopped)
        with pytest.raises(KeyboardInterrupt):
            label_noise.main(["dann"], "0")
    assert set(json.loads(LABEL_NOISE.read_text())["variants"]) == set(list(VARIANTS)[:3])
    label_noise.main(["dann"], "0")
    assert [asked["variant"] for asked in repros] == list(VARIANTS)
    assert set(read_noise().variants) == set(VARIANTS)


def test_a_failure_is_recorded_without_the_copys_folder_and_tried_again(
    repros: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = label_noise.repro

    def failing(copy: Path, targets: list[str]) -> None:
        if variant_of(yaml.safe_load((copy / PARAMETERS_FILE).read_text())) == "hidden_0.9_soft":
            raise UserError(f"{copy}/out/real has no group 3.")
        work(copy, targets)

    with monkeypatch.context() as while_failing:
        while_failing.setattr(label_noise, "repro", failing)
        label_noise.main(["dann"], "0")
    failed = {name: of.failed for name, of in read_noise().variants.items() if of.failed}
    assert failed == {"hidden_0.9_soft": "out/real has no group 3."}
    assert len(repros) == 8
    section = noise_section()
    assert section is not None
    assert section.failures == ["90 % hidden, soft: out/real has no group 3."]
    label_noise.main(["dann"], "0")
    assert len(repros) == 9
    assert not any(of.failed for of in read_noise().variants.values())


@pytest.mark.parametrize(
    ("recipes", "seeds", "sentence"),
    [
        (["emr"], "0", "label-noise: recipe 'emr' is not in train.definitions: adversarial_odds, "),
        (["erm"], "0,x", "label-noise: --seeds 0,x should be numbers"),
    ],
)
def test_a_mistake_in_the_command_is_named(
    recipes: list[str], seeds: str, sentence: str, folder: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        label_noise.main(recipes, seeds)


# --- What is shown ---------------------------------------------------------------------------------------


def planted_record(seeds: int) -> NoiseRecord:
    """The figures that `repros` leaves."""

    def measured(worst: int, needs_labels: bool) -> Measured:
        values = [(worst - seed) / 10 for seed in range(seeds)]
        figures = {"worst_group_accuracy": values, "accuracy": values}
        return Measured(key="", needs_labels=needs_labels, **figures)

    record = NoiseRecord(variants={})
    for name, worst in PLANTED.items():
        found = {recipe: measured(worst, True) for recipe in ("group_dro", "dann")}
        if name == "complete":
            found = {"erm": measured(ERM, False), **found}
        record = record.with_figures(name, found, None)
    return record


def lines_of(figure: Figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    """The lines of a panel by their names in the legend: shares and accuracies, in percent."""
    axes = figure.axes[panel]
    found = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        line = handle[0] if isinstance(handle, tuple) else handle
        found[label] = (
            np.asarray(line.get_xdata(), dtype=float).round(6).tolist(),
            np.asarray(line.get_ydata(), dtype=float).round(6).tolist(),
        )
    return found


def test_the_figure_has_a_line_for_each_recipe_and_strategy() -> None:
    figure = noise_figure(planted_record(1))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["group_dro", "dann"]
    for panel in (0, 1):
        assert lines_of(figure, panel) == {
            "hidden, left out": ([0, 50, 90], [90, 60, 30]),
            "hidden, predicted": ([0, 50, 90], [90, 80, 50]),
            "hidden, soft": ([0, 50, 90], [90, 70, 60]),
            "turned over": ([0, 5, 20], [90, 80, 40]),
            "erm": ([0, 1], [50, 50]),  # across the panel
        }
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 5


def test_a_line_has_whiskers_where_there_are_several_seeds() -> None:
    axes = noise_figure(planted_record(2)).axes[0]
    segments = axes.containers[0][2][0].get_segments()
    heights = [float(top[1] - bottom[1]) for bottom, top in segments]
    assert heights == pytest.approx([2 * 100 * 0.1 / math.sqrt(2)] * 3)


def test_the_page_shows_figures_costs_and_what_is_still_ahead(folder: Path) -> None:
    assert noise_section() is None
    planted_record(1).write(LABEL_NOISE)
    label_noise_page.draw_figure(read_noise(), LABEL_NOISE_FIGURE)
    with Image.open(LABEL_NOISE_FIGURE) as picture:
        assert picture.format == "PNG" and picture.width > 1000
    section = noise_section()
    assert section is not None
    assert section.costs == [
        "50 % hidden, left out: −30.0 points",
        "50 % hidden, predicted: −10.0 points",
        "50 % hidden, soft: −20.0 points",
        "90 % hidden, left out: −60.0 points",
        "90 % hidden, predicted: −40.0 points",
        "90 % hidden, soft: −30.0 points",
        "5 % turned over: −10.0 points",
        "20 % turned over: −50.0 points",
    ]
    assert section.ahead == [
        "90 % hidden, left out: none",
        "90 % hidden, predicted: none",
        "90 % hidden, soft: `dann`, `group_dro`",
        "20 % turned over: none",
    ]
    text = methods.methods_page(methods_record({"erm": figures(0.5)}, {"erm": figures(0.6)}))
    assert "## What missing and wrong protected labels cost" in text
    assert "(results/label_noise.png)" in text
    assert "| `dann` | 90.0 | 60.0 | 80.0 | 70.0 | 30.0 | 50.0 | 60.0 | 80.0 | 40.0 |" in text
    assert "Still ahead of `erm`" in text
    assert "Not measured" not in text
    LABEL_NOISE.unlink()
    without = methods.methods_page(methods_record({"erm": figures(0.5)}, {"erm": figures(0.6)}))
    assert "wrong protected labels" not in without


def test_a_gain_within_the_deviation_is_not_ahead(folder: Path) -> None:
    """Three seeds: 0.5 ± 0.1 against ERM's 0.4 ± 0.1 is within √2 · 0.1 = 0.14; 0.6 is beyond."""
    record = planted_record(3)
    assert label_noise_page.still_ahead(record, "hidden_0.5_left_out", "erm") == []
    assert label_noise_page.still_ahead(record, "hidden_0.5_soft", "erm") == ["group_dro", "dann"]
