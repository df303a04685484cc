"""The ablations' variants, the figures that are collected of a run, and what is kept and run again."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from data.parameters import Balance
from pipeline.content.tables import write_table
from pipeline.errors import UserError
from pipeline.parameters import PARAMETERS_FILE
from stages.parameters import AllParameters
from stages.reporting import ablations
from stages.reporting.ablation_records import AblationRecord, Ablations
from stages.reporting.ablation_variants import PRESENT, VARIANTS, changed
from stages.shared.datasheet import Datasheet
from stages.shared.paths import ABLATIONS, BALANCED, PRESETS, QUALITY, RUNS
from stages.shared.presets import preset_values
from stages.shared.quality import Quality

AVATARS = preset_values("avatars", Path(__file__).parents[2] / PRESETS)
SELECTION = "worst_group_accuracy"


def leaves(content: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Dotted names -> values."""
    found = {}
    for key, value in content.items():
        inner = leaves(value, f"{place}{key}.") if isinstance(value, dict) else {f"{place}{key}": value}
        found |= inner
    return found


def steps_between(name: str, against: str) -> set[str]:
    """The dotted names whose values differ, with the default preset as params.yaml."""
    ours, theirs = (leaves(changed(AVATARS, VARIANTS[n].changes)) for n in (name, against))
    return {key for key in ours | theirs if ours.get(key) != theirs.get(key)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default preset as its params.yaml, and current."""
    monkeypatch.chdir(tmp_path)
    PARAMETERS_FILE.write_text(yaml.safe_dump(AVATARS))
    return tmp_path


# --- Variants --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_valid_parameters(name: str) -> None:
    before = json.dumps(AVATARS)
    parameters = AllParameters.model_validate(changed(AVATARS, VARIANTS[name].changes))
    assert json.dumps(AVATARS) == before
    asked = parameters.model_dump(mode="json")
    for place, value in VARIANTS[name].changes.items():
        found: Any = asked
        for part in place.split("."):
            found = found[part]
        assert found == value


def test_from_the_papers_on_each_variant_adds_one_step() -> None:
    chain = ["paper", "more_latents", "per_group", PRESENT, "refined"]
    assert [VARIANTS[name].against for name in chain] == [None, *chain[:-1]]
    steps = [steps_between(*pair) for pair in zip(chain[1:], chain[:-1], strict=True)]
    assert steps == [
        {"sample.pair"}, {"complement.per_group"}, {"balance.gates.agreement"}, {"complement.refine.steps"},
    ]  # fmt: skip


def test_all_other_variants_differ_from_the_present_parameters_by_their_changes() -> None:
    others = {n: v for n, v in VARIANTS.items() if v.against == PRESENT}
    assert len(others) == len(VARIANTS) - 6  # the chain's five, and recipes
    for name, variant in others.items():
        assert steps_between(name, PRESENT) == set(variant.changes)
    assert VARIANTS["recipes"].against == "recipes"
    assert steps_between("recipes", PRESENT) == set()


def test_changes_go_to_their_places_and_leave_the_original_alone() -> None:
    content = {"a": {"b": {"c": 1, "d": 2}}, "e": 3}
    assert changed(content, {"a.b.c": 7, "e": None}) == {"a": {"b": {"c": 7, "d": 2}}, "e": None}
    assert content == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}
    with pytest.raises(UserError, match=r"a\.f\.c cannot be changed: there is no section f"):
        changed(content, {"a.f.c": 1})


# --- Figures of a run ------------------------------------------------------------------------------------


def predictions(right: dict[str, list[int]]) -> pd.DataFrame:
    """Ten images of each of four groups in a split, of which so many are right; two kinds of weights."""
    rows = []
    for split, by_group in right.items():
        for group, count in enumerate(by_group):
            target, male = divmod(group, 2)
            for k in range(10):
                score = 0.9 if (k < count) == (target == 1) else 0.1
                values = {"target": target, "Male": male, "split": split}
                rows.append({"selection": SELECTION, "score": score, **values})
                rows.append({"selection": "accuracy", "score": 1.0 - target, **values})  # never right
    return pd.DataFrame(rows)


def test_accuracies_are_of_the_weights_that_the_worst_group_chose(tmp_path: Path) -> None:
    table = predictions({"test": [10, 9, 8, 3], "validation": [10, 10, 6, 8]})
    write_table(tmp_path / "predictions.parquet", table)
    assert ablations.accuracies(tmp_path, ["Male"]) == pytest.approx(
        {"worst_group_accuracy": 0.3, "accuracy": 0.75, "validation_worst_group_accuracy": 0.6}
    )


def judge_of(confusion: dict[str, list[int]]) -> dict[str, Any]:
    """A judge who sees 20 pairs moved into group 3: 15 flipped, 12 kept; labels of group 3 as they are."""
    none = [0, 0, 0, 0]
    flipped = {
        "pairs": 20, "changed": {"Male": 0.75, "Blond_Hair": 0.4}, "as_asked": 0.5,
        "group_n": [0, 0, 20, 0],
        "group_changed": {"Male": [None, None, 0.75, None], "Blond_Hair": [None, None, 0.4, None]},
        "group_as_asked": [None, None, 0.5, None],
    }  # fmt: skip
    noise = {"noise": {}, "group_noise": [None] * 4, "group_noise_average": None}
    labels = {
        data: {"z": noise | {"images": sum(row), "group_n": row, "confusion": [none, none, none, row]}}
        for data, row in confusion.items()
    }
    complements = {"z_prime": {"Male": flipped}}
    return {
        "measured": [], "real_test": {}, "sources": {}, "complements": complements, "labels": labels,
    }  # fmt: skip


def make_run(judge: dict[str, Any] | None) -> AllParameters:
    """What a variant's run leaves in the current folder, of one recipe and two seeds; its parameters."""
    sizes = {"group_0": 50, "group_1": 40, "group_2": 30, "group_3": 2}
    added = {"group_0": 5, "group_1": 6, "group_2": 7, "group_3": 8}
    none = dict.fromkeys(sizes, 0)
    after = {group: sizes[group] + added[group] for group in sizes}
    before, synthetic, both = (
        {"images": sum(counts.values()), "group_counts": counts, "kl_joint": 0.1, "kl_uniform": 0.1}
        | {"kl_target": 0.1, "kl_protected": {"Male": 0.1}}
        for counts in (sizes, added, after)
    )
    Datasheet.model_validate({
        **Balance().model_dump(exclude={"seed"}),
        "attributes": {"target": "Blond_Hair", "protected": ["Male"]},
        "groups": {group: group for group in sizes},
        "before": before, "synthetic": synthetic, "after": both,
        "cap": {"per_group": 8, "cut_by": "nothing", "dropped": none},
        "sampled": {**synthetic, "quota": added, "distinct": added | {"group_3": 4}},
        "target_kept": 0.9, "protected_flipped": 0.8, "complements": {},
    }).write(BALANCED / "datasheet.json")  # fmt: skip
    Quality.model_validate({
        "groups": list(sizes), "distances": {"images": 0, "inception": False, "sets": []}, "probe": {},
        "judge": judge, "judge_absent": None,
    }).write(QUALITY / "quality.json")  # fmt: skip
    for data, worst in {"augmented": (6, 8), "sampled": (5, 5)}.items():
        for seed, right in enumerate(worst):
            table = predictions({"test": [10, 10, 10, right], "validation": [9, 9, 9, right - 1]})
            write_table(RUNS / data / "erm" / str(seed) / "predictions.parquet", table)
    return AllParameters.model_validate(changed(AVATARS, {"train.recipes": ["erm"], "train.seeds": [0, 1]}))


def test_both_data_sets_are_collected_side_by_side(folder: Path) -> None:
    found = ablations.collect(make_run(judge_of({"augmented": [0, 1, 2, 7], "sampled": [0, 0, 2, 8]})))
    augmented, sampled = (found.data[data]["erm"] for data in ("augmented", "sampled"))
    assert augmented[SELECTION].model_dump() == pytest.approx({"mean": 0.7, "std": 0.02**0.5})
    assert augmented["accuracy"].model_dump() == pytest.approx({"mean": 0.925, "std": 0.05 / 2**0.5})
    assert augmented["validation_worst_group_accuracy"].mean == pytest.approx(0.6)
    assert sampled[SELECTION].model_dump() == pytest.approx({"mean": 0.5, "std": 0.0})
    assert found.rarest == "Blond_Hair=1, Male=1"
    assert (found.images[found.rarest], found.distinct[found.rarest]) == (8, 4)
    judged = found.judged
    assert (judged.pairs, judged.flipped, judged.kept) == (20, 0.75, pytest.approx(0.6))
    assert judged.label_noise == pytest.approx({"augmented": 0.3, "sampled": 0.2})


def test_without_judges_nothing_is_judged(folder: Path) -> None:
    assert ablations.collect(make_run(None)).judged is None


def test_one_seed_has_no_deviation() -> None:
    assert ablations.mean_and_std_over_seeds([0.25]).model_dump() == {"mean": 0.25, "std": None}
    assert ablations.mean_and_std_over_seeds([0.2, 0.4]).model_dump() == pytest.approx(
        {"mean": 0.3, "std": 0.02**0.5}
    )


# --- What is kept, and what is run again -----------------------------------------------------------------


def test_a_record_takes_the_place_of_its_former_in_the_order_of_the_variants() -> None:
    def record(name: str, about: str) -> AblationRecord:
        return AblationRecord(
            name=name, about=about, against=None, changes={}, recipes=[], seeds=[], key=None, failed=None
        )

    former = [record("gated", "1"), record("paper", "2"), record("gone", "3")]
    new = record("gated", "4")
    assert ablations.with_record(former, new) == [record("paper", "2"), new]
    assert ablations.with_record([], record("fill", "5")) == [record("fill", "5")]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ["Running stage", "error: the disk is full.", "ERROR: failed to reproduce", ""],
            "the disk is full.",
        ),
        (["Running stage", "Killed", ""], "Killed"),
        (["", ""], "dvc repro failed and said nothing."),
        ([], "dvc repro failed and said nothing."),
    ],
)
def test_why_a_run_failed_is_what_its_stage_said(lines: list[str], sentence: str) -> None:
    assert ablations.failure_sentence(lines) == sentence


@pytest.fixture
def repros(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The runs that are asked for instead of `dvc repro`: targets and params.yaml; `fill` fails."""
    asked: list[dict[str, Any]] = []

    def repro(copy: Path, targets: list[str]) -> None:
        content = yaml.safe_load((copy / PARAMETERS_FILE).read_text())
        asked.append({"targets": targets, "content": content})
        if content["balance"]["policy"] == "fill":
            raise UserError(f"{copy}/out/real is broken.")
        make_run(None)

    monkeypatch.setattr(ablations, "repro", repro)
    monkeypatch.setattr(ablations, "copy_project", lambda copy: None)
    return asked


def names_in_file() -> list[str]:
    return [record["name"] for record in json.loads(ABLATIONS.read_text())]


def test_a_variant_trains_on_both_data_sets(repros: list[dict[str, Any]]) -> None:
    record = ablations.measure_variant("rescored", ["erm"], [0, 1])
    (asked,) = repros
    assert asked["targets"] == [
        "assess",
        *(f"train_balanced@{data}-erm-{seed}" for data in ("augmented", "sampled") for seed in (0, 1)),
    ]
    train = asked["content"]["train"]
    assert set(train["balanced_data"]) == {"augmented", "sampled"}
    assert (train["recipes"], train["seeds"]) == (["erm"], [0, 1])
    assert asked["content"]["balance"]["label"] == "rescored"
    assert record.failed is None
    assert record.changes == {"balance.label": "rescored"}
    assert record.data["sampled"]["erm"][SELECTION].mean == pytest.approx(0.5)


def test_a_failure_is_recorded_without_the_copys_folder(repros: list[dict[str, Any]]) -> None:
    record = ablations.measure_variant("fill", ["erm"], [0])
    assert record.failed == "out/real is broken."
    assert "data" not in Ablations([record]).content()[0]


def test_a_section_that_is_missing_fails_its_variant_alone(repros: list[dict[str, Any]]) -> None:
    content = {name: of for name, of in AVATARS.items() if name != "complement"}
    PARAMETERS_FILE.write_text(yaml.safe_dump(content))
    record = ablations.measure_variant("mahalanobis", ["erm"], [0])
    assert record.failed == (
        "params.yaml: complement.metric cannot be changed: there is no section complement."
    )
    assert not repros


def test_what_is_measured_is_not_measured_again_unless_it_is_named(
    repros: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: VARIANTS[name] for name in ("gated", "fill", "rescored")}
    monkeypatch.setattr(ablations, "VARIANTS", few)
    ablations.main(None, "0,1", "erm")
    assert names_in_file() == ["gated", "fill", "rescored"]
    assert len(repros) == 3
    ablations.main(None, "0,1", "erm")
    assert len(repros) == 4  # of fill, which failed
    ablations.main(["gated"], "0,1", "erm")
    assert len(repros) == 5
    ablations.main(None, "0", "erm")  # other seeds
    assert len(repros) == 8


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, False),
        ({"runtime.device": "cpu", "evaluate.resamples": 7, "train.real_data": ["original"]}, False),
        ({"train.definitions.half_real.weight_decay": 0.5, "train.seeds": [9]}, False),
        ({"finish.names": ["dfr"], "finish.definitions.afr.steps": 9}, False),
        ({"train.definitions.erm.weight_decay": 0.5}, True),
        ({"complement.per_group": 10}, True),
    ],
)
def test_other_parameters_are_measured_again_where_they_change_the_figures(
    changes: dict[str, Any], again: bool, repros: list[dict[str, Any]]
) -> None:
    records = [ablations.measure_variant("gated", ["erm"], [0, 1])]
    PARAMETERS_FILE.write_text(yaml.safe_dump(changed(AVATARS, changes)))
    assert ablations.is_measured(records, "gated", ["erm"], [0, 1]) is not again
    assert not ablations.is_measured(records, "gated", ["erm"], [0, 2])
    assert not ablations.is_measured(records, "gated", ["erm", "group_dro"], [0, 1])
    assert not ablations.is_measured(records, "rescored", ["erm"], [0, 1])


def test_a_stopped_run_keeps_what_it_has(
    repros: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: VARIANTS[name] for name in ("gated", "rescored")}
    monkeypatch.setattr(ablations, "VARIANTS", few)
    measure = ablations.measure_variant

    def stopped(name: str, recipes: list[str], seeds: list[int]) -> AblationRecord:
        if name == "rescored":
            raise KeyboardInterrupt
        return measure(name, recipes, seeds)

    monkeypatch.setattr(ablations, "measure_variant", stopped)
    with pytest.raises(KeyboardInterrupt):
        ablations.main(None, "0,1", "erm")
    assert names_in_file() == ["gated"]


@pytest.mark.parametrize(
    ("names", "seeds", "recipes", "sentence"),
    [
        (["gatd"], "0", "erm", "'gatd' is none of paper, more_latents"),
        (None, "0", "emr", "'emr' is not in train.definitions"),
        (None, "0,x", "erm", "--seeds 0,x should be numbers"),
    ],
)
def test_a_mistake_in_the_command_is_named(
    names: list[str] | None, seeds: str, recipes: str, sentence: str, folder: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        ablations.main(names, seeds, recipes)
