"""The schemas of the files between stages: what is written is read, and what is no such file is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
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
