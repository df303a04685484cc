"""Presets: what a preset changes in the base, and how params.yaml is written from both."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import UserError
from stages.parameters import checked_parameters, read_parameters
from stages.shared.presets import BASE, PRESETS, preset_names, preset_text, preset_values
from zprime import params

ROOT = Path(__file__).parents[2]

BASE_TEXT = """\
# The base.

# What is asked.
names: [a, b] # two of them

one:
  # Of x.
  x: 1.0e-3 # metres
  y: null
  inner: {p: 1, q: [2, 3], deep: {s: "a, b"}} # three
  sizes: {4: 128, 8: 64}
  thing: # what it is
    name: ball
    radius: 2

two: # the last
  z: true
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / f"{BASE}.yaml").write_text(BASE_TEXT)
    return tmp_path


def written(folder: Path, text: str, name: str = "mine") -> str:
    (folder / f"{name}.yaml").write_text(text)
    return preset_text(name, folder)


def test_a_preset_that_changes_nothing_has_the_text_of_the_base_below_its_own_comment(folder):
    assert written(folder, "# Mine.\n# Two lines.\n") == BASE_TEXT.replace(
        "# The base.\n", "# Mine.\n# Two lines.\n"
    )


def test_values_are_replaced_in_their_places_and_comments_and_notation_are_kept(folder):
    text = written(
        folder,
        "# Mine.\n\nnames: [c]\none:\n  x: 2.50e-4\n  # Of y.\n  y: 7 # seconds\n"
        "  inner: {q: [4], deep: {s: null}}\ntwo: {z: false}\n",
    )
    assert text == (
        "# Mine.\n\n# What is asked.\nnames: [c] # two of them\n\none:\n  # Of x.\n  x: 2.50e-4 # metres\n"
        "  # Of y.\n  y: 7 # seconds\n  inner: {p: 1, q: [4], deep: {s: null}} # three\n"
        "  sizes: {4: 128, 8: 64}\n  thing: # what it is\n    name: ball\n    radius: 2\n\n"
        "two: # the last\n  z: false\n"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("{radius: 3}", {"name": "ball", "radius": 3}),
        ("{name: ball, weight: 1}", {"name": "ball", "radius": 2, "weight": 1}),
        ("{name: box, side: 4}", {"name": "box", "side": 4}),
        ("null", None),
    ],
)
def test_a_section_with_another_name_replaces_the_former(folder, change, expected):
    written(folder, f"one:\n  thing: {change}\n")
    assert preset_values("mine", folder)["one"]["thing"] == expected


def test_a_map_by_numbers_is_replaced_as_a_whole(folder):
    written(folder, "one: {sizes: {4: 16}}\n")
    assert preset_values("mine", folder)["one"]["sizes"] == {4: 16}


def test_a_preset_may_change_another_one(folder):
    written(folder, "# Other.\none: {x: 5, thing: null}\n", "other")
    assert written(folder, "# Mine.\nextends: other\none: {y: 6, thing: {name: box}}\n").startswith(
        "# Mine.\n\n"
    )
    values = preset_values("mine", folder)
    assert values["one"]["x"] == 5
    assert values["one"]["y"] == 6
    assert values["one"]["thing"] == {"name": "box"}
    assert list(values) == ["names", "one", "two"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("one: {x: 1}\n- two\n", 2), ("two:\n   z: 1\n", 2), ("one: 1\none: 2\n", 2), ("# A.\n    x: 1\n", 2)],
)
def test_a_line_that_is_no_entry_is_named(folder, text, line):
    with pytest.raises(UserError, match=rf"mine\.yaml, line {line}: expected `key: value`"):
        written(folder, text)


def test_the_base_is_no_preset(folder):
    with pytest.raises(UserError, match=f"no preset '{BASE}'"):
        preset_text(BASE, folder)


def test_params_yaml_is_what_the_default_preset_writes():
    assert (ROOT / "params.yaml").read_text() == preset_text("avatars", ROOT / PRESETS)


def test_the_default_preset_has_the_values_of_the_base():
    base = yaml.safe_load((ROOT / PRESETS / f"{BASE}.yaml").read_text())
    assert preset_values("avatars", ROOT / PRESETS) == base


@pytest.mark.parametrize("name", preset_names(ROOT / PRESETS))
def test_presets_write_no_value_that_is_the_same_without_it(name):
    """A preset holds only what differs; and merging the text gives what merging the values gives."""
    changes = yaml.safe_load((ROOT / PRESETS / f"{name}.yaml").read_text()) or {}
    former = changes.pop("extends", None)
    base = preset_values(former or "avatars", ROOT / PRESETS)
    same: list[str] = []

    def merged(base: dict, changes: dict, place: str) -> dict:
        values = dict(base)
        for key, value in changes.items():
            of = base.get(key)
            if isinstance(of, dict) and isinstance(value, dict) and all(isinstance(k, str) for k in of):
                is_same = value.get("name", of.get("name")) == of.get("name")
                values[key] = merged(of, value, f"{place}.{key}") if is_same else value
            else:
                same.extend([f"{place}.{key}"] if key in base and of == value else [])
                values[key] = value
        return values

    assert preset_values(name, ROOT / PRESETS) == merged(base, changes, name)
    assert same == []


def test_all_presets_together_are_short():
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / PRESETS).glob("*.yaml")) < 480


def test_the_effective_parameters_are_complete_and_can_be_read_again(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    params.main(preset=None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert checked_parameters(printed, "printed") == read_parameters()
    written = preset_values("avatars")
    recipes = printed["train"].pop("definitions"), written["train"].pop("definitions")
    assert printed == written
    assert set(recipes[0]) == set(recipes[1])
    assert recipes[0]["erm"] == {**recipes[1]["erm"], **recipes[0]["erm"]}  # and what it leaves out
    assert recipes[0]["erm"]["phases"] == {"name": "one"}
    params.main(preset="table")
    assert yaml.safe_load(capsys.readouterr().out)["prepare"]["source"]["split_values"]["val"] == "validation"


def test_what_a_file_leaves_out_is_printed_as_well(capsys, monkeypatch, tmp_path):
    values = preset_values("avatars", ROOT / PRESETS)
    del values["sample"]["pair"], values["cluster"], values["prepare"]["source"]["seed"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    params.main(preset=None)
    printed = yaml.safe_load(capsys.readouterr().out)
    whole = preset_values("avatars", ROOT / PRESETS)
    for section in ("sample", "cluster", "prepare"):
        assert printed[section] == whole[section]
