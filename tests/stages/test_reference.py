"""The generated pages docs/parameters.md and docs/files.md: how they are made, and that they are current."""

from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field

from pipeline.parameters import Parameters
from stages.parameters import AllParameters
from stages.reporting import outputs
from stages.reporting.files_page import file_text, shown_path, stage_text
from stages.reporting.markdown import table
from stages.reporting.outputs import File
from stages.reporting.reference import (
    COMMENTED,
    DECLARATION,
    DISCRIMINATOR,
    PARAMETERS_PAGE,
    Commented,
    Row,
    comments_in,
    pages,
    parameter_rows,
    parts_of,
)
from stages.reporting.schema_texts import comments_of, schema_fields


class Circle(Parameters):
    """Everything as far from its middle.

    And more.
    """

    name: Literal["circle"]
    # In pixels,
    radius: float = Field(1.5, gt=0)  # from the middle


class Square(Parameters):
    """Four sides."""

    name: Literal["square"]
    side: int | None = Field(None, ge=2, lt=2**32)


class Style(Parameters):
    colours: list[Literal["red", "green"]] = Field(["red"])
    filled: bool = True


class Drawing(Parameters):
    shape: Annotated[Circle | Square, Field(discriminator="name")]
    style: Style = Style(filled=False)
    frame: Style = Style()
    layers: dict[str, Square] = Field({})
    sizes: dict[int, int] = Field({4: 8})


def test_parameters_are_shown_with_what_they_may_be_what_they_are_and_what_they_mean() -> None:
    file = Commented(
        {"drawing": {"shape": {"name": "square"}}},
        {
            "drawing.style.filled": "with colour",
            "drawing.frame": "around it",
            "drawing.shape.radius": "of a circle, which the file has not",
            "drawing.shape.side": "of the square",
        },
    )

    rows = list(parameter_rows(Drawing, file, "drawing."))

    assert rows == [
        Row("drawing.shape", "section", "must be given", ""),
        Row("drawing.shape", "`name: circle`", "", "Everything as far from its middle."),
        Row("drawing.shape.radius", "number > 0", "`1.5`", "In pixels, from the middle"),
        Row("drawing.shape", "`name: square`", "", "Four sides."),
        Row("drawing.shape.side", "whole number ≥ 2 and < 4294967296, or null", "`null`", "of the square"),
        Row("drawing.style", "section", "`{filled: false}`", ""),
        Row("drawing.style.colours", "list of: red, green", "`[red]`", ""),
        Row("drawing.style.filled", "true, false", "`true`", "with colour"),
        Row("drawing.frame", "section", "", "around it; as `drawing.style`"),
        Row("drawing.layers", "map of text to section", "`{}`", "as `drawing.shape`"),
        Row("drawing.sizes", "map of whole number to whole number", "`{4: 8}`", ""),
    ]


def test_comments_of_a_parameter_file_belong_to_the_key_below_and_beside_them() -> None:
    text = "# A file.\n\na: 1 # one\n# Of b,\n# a section.\nb:\n  c: {d: 1}\n  d: [x] # two\ne: x\n"

    assert comments_in(text) == {"a": "one", "b": "Of b, a section.", "b.d": "two"}


def test_comments_beside_the_fields_of_a_schema_are_found() -> None:
    assert comments_of(Circle) == {"radius": "In pixels, from the middle"}


def test_the_keys_of_a_typed_file_follow_from_its_schema() -> None:
    class Part(Parameters):
        """Some.

        Attributes:
            first, second: two
                numbers; None where they are not known.
        """

        first: int
        second: int
        third: int

    assert schema_fields(Part) == {
        "first": "two numbers; null where they are not known",
        "second": "two numbers; null where they are not known",
        "third": "",
    }
    text = file_text(File("part.json", "A part.", schemas={"": Part, "parts.": Part}))
    assert "| `second` | two numbers; null where they are not known |" in text
    assert "| `parts.third` |  |" in text


def test_a_stage_is_described_with_its_command_its_outputs_and_what_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(outputs.OUTPUTS, "draw", ("A drawing.", (File("a.csv", "It.", {"x, y": "where"}),)))
    entry = {
        "cmd": "exec python -m stages.draw ${item.name} ${size}",
        "deps": ["stages/draw.py", "out/real"],
        "outs": ["out/drawn/${item.name}_x", {"sizes.json": {"cache": False}}],
    }

    assert stage_text("draw", entry) == (
        "## out/drawn/NAME_x and sizes.json\n\n"
        "A drawing. Written by `python -m stages.draw NAME SIZE`. It reads `out/real`.\n\n"
        "`a.csv`: It.\n\n| column | is |\n| --- | --- |\n| `x`, `y` | where |"
    )


def test_bars_do_not_end_the_cells_of_a_table() -> None:
    assert table(("a",), [("|z|",)]) == "| a |\n| --- |\n| \\|z\\| |"


def test_holes_of_the_declaration_are_shown_in_capitals() -> None:
    assert shown_path("out/runs/${item.data}/${train.recipes}") == "out/runs/DATA/RECIPES"


def test_every_stage_is_described_and_no_other() -> None:
    stages = set(yaml.safe_load(DECLARATION.read_text())["stages"])

    assert set(outputs.OUTPUTS) == stages
    assert set(outputs.SAME) | set(outputs.SAME.values()) <= stages


def test_the_keys_that_are_described_are_those_of_the_schemas() -> None:
    typed = [file for _, files in outputs.OUTPUTS.values() for file in files if "" in file.schemas]

    assert [file.name for file in typed] == [
        "card.json", "card.json", "metrics.json", "metrics.json", "metrics.json", "datasheet.json",
        "card.json", "metrics.json", "quality.json", "card.json", "cost.json", "card.json", "cost.json",
        "card.json", "cost.json", "data.json", "recommendation.json",
    ]  # fmt: skip
    for file in typed:
        listed = {name for names in file.fields for name in names.split(", ")} - {"NAME"}
        assert listed <= set(file.schemas[""].model_fields), file.name


def test_every_parameter_has_a_meaning() -> None:
    rows = [line for line in pages()[PARAMETERS_PAGE].splitlines() if line.startswith("| `")]

    assert len(rows) > 150
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_parameter_has_a_row() -> None:
    page = pages()[PARAMETERS_PAGE]
    sections = {name: parts_of(field.annotation) for name, field in AllParameters.model_fields.items()}
    keys = [
        f"{name}.{key}"
        for name, parts in sections.items()
        for part in parts
        for key in part.model_fields
        if key != DISCRIMINATOR or len(parts) == 1
    ]

    assert len(keys) > 80
    assert [key for key in keys if f"| `{key}` |" not in page] == []


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_the_committed_pages_are_current(path) -> None:
    current = path.read_text(encoding="utf-8") == pages(COMMENTED)[path]
    assert current, f"{path} is old: run `python -m stages.reporting.reference`."
