"""The schemas of the files between stages: what is written is read, and what is no such file is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from classifiers.networks.cards import RunCard
from classifiers.networks.parameters import Backbone
from generators.networks.cards import CARD, GeneratorCard, read_card
from pipeline.content.typed_files import StageFile
from pipeline.errors import UserError
from stages.reporting.ablation_records import Ablations
from stages.reporting.beside import BesideRecord
from stages.shared.datasheet import Summaries
from stages.shared.labeller_metrics import LabellerMetrics
from stages.shared.planes import HyperplaneMetrics
from stages.shared.quality import Quality
from tests.stages.evaluated import quality_of

PLANE = {
    "balanced_accuracy": 0.9, "balanced_accuracy_on_sphere": None, "group_accuracies": [0.8, None],
    "group_n": [5, 0], "positives": 0.25, "latents": {"0": 3, "1": 1},
}  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    quality = quality_of(["Blond_Hair", "Male"], ["Male"], ["a", "b", "c", "d"])
    quality.write(tmp_path / "quality.json")
    assert Quality.read(tmp_path / "quality.json") == quality


def test_planes_stand_in_their_file_by_name(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    content = {"Male": PLANE, "Male in Young=0": PLANE, "angles_degrees": {"Male x Male in Young=0": 12.5}}
    HyperplaneMetrics.model_validate(content).write(path)
    assert json.loads(path.read_text()) == content
    read = HyperplaneMetrics.read(path)
    assert list(read.planes) == ["Male", "Male in Young=0"]
    assert read.planes["Male"].group_accuracies == [0.8, None]


def test_a_labellers_figures_stand_in_their_file_by_group(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    content = {"accuracy": 0.9, "average_precision": 1.0, "threshold": 0.25}
    for group in range(11):  # sorted by name, 10 stands before 2
        content |= {f"group_{group}_accuracy": group / 10, f"group_{group}_n": group}
        content |= {f"checker_{half}_group_{group}_accuracy": (half + group) / 20 for half in (0, 1)}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    read = LabellerMetrics.read(path)
    assert read.group_accuracies == [group / 10 for group in range(11)]
    assert read.group_n == list(range(11))
    assert read.checker_accuracies == [[(half + group) / 20 for group in range(11)] for half in (0, 1)]
    read.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_labellers_figure_of_no_group_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    content = {"accuracy": 0.9, "average_precision": 1.0, "threshold": 0.5, "group_0_accuracy": None}
    path.write_text(json.dumps(content | {"group_0_n": 0, "group_2_n": 3}))
    with pytest.raises(UserError, match="group_2_n: Extra inputs are not permitted"):
        LabellerMetrics.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Male": {"positives": "many"}}, "Male.positives: Input should be a valid number"),
        ({"Male": {"posit": 0.5}}, "Male.posit: Extra inputs are not permitted"),
        ({"angles_degrees": None}, "angles_degrees: Input should be"),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_sentence(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    content: dict[str, Any] = {"Male": dict(PLANE), "angles_degrees": {}}
    for name, value in change.items():
        content[name] = {**content[name], **value} if value else value
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not what this version of zprime writes") as refused:
        HyperplaneMetrics.read(path)
    assert message in str(refused.value)
    assert "dvc repro" in str(refused.value)


def test_a_missing_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"quality\.json is missing: run `dvc repro`"):
        Quality.read(tmp_path / "quality.json")


# --- Cards -----------------------------------------------------------------------------------------------


def test_a_card_says_what_it_was_given_and_no_more(tmp_path: Path) -> None:
    card = GeneratorCard(
        kind="mine", latent_dim=4, resolution=8, architecture={"channels": {8: 2, 16: 1}}, mean=3
    )
    card.write(tmp_path / CARD)
    written = '{\n  "architecture": {\n    "channels": {\n      "8": 2,\n      "16": 1\n    }\n  },\n'
    assert (tmp_path / CARD).read_text() == (
        f'{written}  "kind": "mine",\n  "latent_dim": 4,\n  "mean": 3,\n  "resolution": 8\n}}\n'
    )
    read = read_card(tmp_path)
    assert (read.kind, read.normalises_latents, read.made_by) == ("mine", False, "")
    assert read.content()["mean"] == 3


def test_an_old_card_has_its_sizes_in_the_architecture(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text('{"architecture": {"latent_dim": 4, "resolution": 8}, "made_by": "me"}')
    read = read_card(tmp_path)
    assert (read.kind, read.latent_dim, read.resolution, read.made_by) == ("pgan", 4, 8, "me")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"kind": "pgan", "resolution": 8}', "latent_dim: Field required"),
        (
            '{"kind": "pgan", "latent_dim": "4", "resolution": 8}',
            "latent_dim: Input should be a valid integer",
        ),
        ("[1]", "the file: Input should be an object"),
    ],
)
def test_a_damaged_card_is_named_with_its_fault(content: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(content)
    with pytest.raises(UserError) as refused:
        read_card(tmp_path)
    assert str(refused.value) == f"{tmp_path} holds no generator that zprime wrote: {CARD}: {fault}."


def test_the_card_of_a_run_has_a_finish_if_it_was_finished(tmp_path: Path) -> None:
    card = RunCard(backbone=Backbone(name="small", width=8), data="original", recipe="erm", seed=0)
    run = {"backbone": {"name": "small", "width": 8}, "data": "original", "recipe": "erm", "seed": 0}
    assert card.content() == run
    assert card.model_copy(update={"finish": {"penalty": 0.5}}).content() == run | {
        "finish": {"penalty": 0.5}
    }


# --- Files of the results --------------------------------------------------------------------------------

COMMANDS: list[tuple[type[Any], str, str, str]] = [
    (Summaries, '{"original": {"images": 3}}', "original.group_counts: Field required", "dvc repro"),
    (Ablations, '[{"name": "paper"}]', "0.about: Field required", "zprime ablations"),
    (BesideRecord, '{"name": 3}', "name: Input should be a valid string", "zprime results --beside NAME"),
]


@pytest.mark.parametrize(("schema", "content", "fault", "command"), COMMANDS)
def test_a_damaged_file_of_results_names_the_command_that_makes_it(
    schema: type[StageFile], content: str, fault: str, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(UserError) as refused:
        schema.read(path)
    assert str(refused.value) == (
        f"{path} is not what this version of zprime writes: {fault}. Run `{command}` to make it again."
    )


def test_the_benchmarks_beside_are_read_and_written_again_as_they_are(tmp_path: Path) -> None:
    paths = sorted((Path(__file__).parents[2] / "docs/results/beside").glob("*.json"))
    assert len(paths) >= 3
    for path in paths:
        BesideRecord.read(path).write(tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
