"""The file-based sources: what they read from small real folders, and their error sentences for bad ones."""

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from data.names import UNKNOWN
from data.sources.base import BadImage, Source, check_groups
from data.sources.celeba import CelebA
from data.sources.files import MAX_PIXELS, decode_image
from data.sources.table import TableSource
from data.sources.waterbirds import Waterbirds
from pipeline.errors import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
HERE = "row 17 of list.csv"


def picture(size: tuple[int, int], centre: int, colour: tuple[int, int, int] = RED) -> Image.Image:
    """Draw a blue picture with a square of the colour, `centre` px wide, in its middle."""
    image = Image.new("RGB", size, BLUE)
    left, top = (size[0] - centre) // 2, (size[1] - centre) // 2
    image.paste(colour, (left, top, left + centre, top + centre))
    return image


def says(*parts: str) -> str:
    """Return a pattern of a message that has these parts in this order, on one line."""
    return ".*".join(map(re.escape, parts))


# CelebA

FACES = {  # file: Blond_Hair, Male, partition
    "000001.jpg": (1, -1, 0),
    "000002.jpg": (-1, 1, 1),
    "000003.jpg": (-1, -1, 2),
    "000004.jpg": (1, 1, 0),
}
FACE_COLOURS = dict(zip(FACES, (RED, GREEN, (255, 255, 0), (255, 0, 255)), strict=True))


def celeba_folder(folder: Path, variant: str = "txt", nested: bool = False) -> Path:
    images = folder / "img_align_celeba"
    images = images / "img_align_celeba" if nested else images
    images.mkdir(parents=True)
    for name, colour in FACE_COLOURS.items():
        picture((178, 218), 178, colour).save(images / name, quality=95)
    if variant == "txt":
        rows = [f"{name}  {blond}  {male}" for name, (blond, male, _) in FACES.items()]
        lines = [str(len(FACES)), "Blond_Hair Male ", *rows]
        partition = [f"{name} {part}" for name, (_, _, part) in FACES.items()]
    else:
        rows = [f"{name},{blond},{male}" for name, (blond, male, _) in FACES.items()]
        lines = ["image_id,Blond_Hair,Male", *rows]
        partition = ["image_id,partition", *(f"{name},{part}" for name, (_, _, part) in FACES.items())]
    write_lines(folder / f"list_attr_celeba.{variant}", lines)
    write_lines(folder / f"list_eval_partition.{variant}", partition)
    return folder


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` of a list, which must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def records(source: Source) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in source.table().to_dict("records")]


@pytest.mark.parametrize(("variant", "nested"), [("txt", False), ("csv", False), ("csv", True)])
def test_celeba_reads_ids_splits_attributes_and_the_centre_of_each_face(
    tmp_path: Path, variant: str, nested: bool
) -> None:
    source = CelebA(name="celeba", folder=celeba_folder(tmp_path, variant, nested))
    table = source.table()
    assert list(table["id"]) == list(FACES)
    assert list(table["split"]) == ["train", "validation", "test", "train"]
    assert list(table["Blond_Hair"]) == [1, 0, 0, 1]
    assert list(table["Male"]) == [0, 1, 0, 1]
    assert [c for c in table.columns if not c.startswith("_")] == ["id", "split", "Blond_Hair", "Male"]
    for row in records(source):
        image = source.image(row, 32)
        assert image.shape == (32, 32, 3)
        assert image.dtype == np.uint8
        colour = np.array(FACE_COLOURS[row["id"]])
        # The blue above and below the centre 178 x 178 is cropped away; JPEG blurs 8 px at the edge.
        assert np.abs(image[2:-2].astype(int) - colour).max() <= 6


def test_celeba_crop_of_the_parameter_is_the_one_applied(tmp_path: Path) -> None:
    folder = celeba_folder(tmp_path)
    picture((178, 218), 100, GREEN).save(folder / "img_align_celeba/000001.jpg", quality=95)
    shares = {}
    for crop in (100, 178):
        source = CelebA(name="celeba", folder=folder, crop=crop)
        image = source.image(records(source)[0], 64)
        shares[crop] = (image[..., 1] > 128).mean()
    assert shares[100] > 0.95
    assert shares[178] == pytest.approx((100 / 178) ** 2, abs=0.03)


def test_celeba_crops_to_178_px_by_default(tmp_path: Path) -> None:
    folder = celeba_folder(tmp_path)
    picture((400, 400), 178, GREEN).save(folder / "img_align_celeba/000001.jpg", format="png")
    source = CelebA(name="celeba", folder=folder)
    assert (source.image(records(source)[0], 32) == GREEN).all()


@pytest.mark.parametrize("variant", ["txt", "csv"])
def test_celeba_joins_its_lists_by_file_name(tmp_path: Path, variant: str) -> None:
    source = CelebA(name="celeba", folder=celeba_folder(tmp_path, variant))
    expected = source.table()
    path = tmp_path / f"list_eval_partition.{variant}"
    lines = path.read_text().splitlines()
    header = lines[: 1 if variant == "csv" else 0]
    rows = lines[len(header) :]
    write_lines(path, [*header, *(rows[i] for i in (2, 0, 3, 1))])
    pd.testing.assert_frame_equal(source.table(), expected)


def test_celeba_prefers_the_txt_lists(tmp_path: Path) -> None:
    folder = celeba_folder(tmp_path)
    write_lines(folder / "list_attr_celeba.csv", ["image_id,Blond_Hair,Male", "000001.jpg,-1,1"])
    write_lines(folder / "list_eval_partition.csv", ["image_id,partition", "000001.jpg,2"])
    assert len(CelebA(name="celeba", folder=folder).table()) == len(FACES)


ATTR, PART = "list_attr_celeba.", "list_eval_partition."


@pytest.mark.parametrize(
    ("variant", "name", "old", "new", "message"),
    [
        ("txt", ATTR, "000002.jpg  -1", "000002.jpg  2", ("row 4 of", "txt: Blond_Hair", "'2'", "-1 or 1")),
        ("txt", ATTR, "000002.jpg  -1", "000002.jpg  0", ("row 4 of", "txt: Blond_Hair", "'0'", "-1 or 1")),
        ("csv", ATTR, "000002.jpg,-1", "000002.jpg,no", ("row 3 of", "csv: Blond_Hair", "'no'", "-1 or 1")),
        ("csv", ATTR, "000002.jpg,-1", "000002.jpg,", ("row 3 of", "csv: Blond_Hair", "empty", "-1 or 1")),
        ("txt", ATTR, "000002.jpg  -1  1", "000002.jpg  -1", ("row 4 of", "Male", "empty", "-1 or 1")),
        ("txt", ATTR, "000002.jpg  -1", "000002.jpg  -1 -1", (ATTR, "same columns", "line 4")),
        ("csv", ATTR, "000001.jpg,1,", "000001.jpg,1,1,", (ATTR, "same columns")),
        ("txt", ATTR, "4\n", "5\n", ("row 1 of", ATTR, "number of images", "5, and 4 follow")),
        ("txt", ATTR, "4\n", "", ("row 1 of", ATTR, "expected the number of images", "'Blond_Hair Male'")),
        ("txt", ATTR, "000003.jpg", "000002.jpg", ("row 5 of", "'000002.jpg'", "row 4 of", "its own")),
        ("csv", PART, "000003.jpg", "000002.jpg", ("row 4 of", PART, "'000002.jpg'", "row 3 of", "its own")),
        ("txt", PART, "000003.jpg 2\n", "", ("row 5 of", ATTR, "000003.jpg is not in the other list")),
        ("csv", PART, "000003.jpg", "9.jpg", ("row 4 of", ATTR, "000003.jpg is not in the other list")),
        ("txt", PART, "000004.jpg 0", "000004.jpg 0\n9.jpg 1", ("row 5 of", PART, "9.jpg", "other list")),
        ("txt", PART, "000003.jpg 2", "000003.jpg 3", ("row 3 of", PART, "partition", "'3'", "0, 1, 2")),
        ("csv", PART, "000003.jpg,2", "000003.jpg,test", ("row 4 of", PART, "'test'", "0, 1, 2")),
        ("csv", PART, ",partition", ",split", (PART, "no column 'partition'", "image_id, split")),
        ("csv", ATTR, "image_id", "file", (ATTR, "no column 'image_id'", "file, Blond_Hair, Male")),
        ("csv", ATTR, "000002.jpg", "../2.jpg", ("row 3 of", ATTR, "'../2.jpg'", "leaves the folder")),
    ],
)
def test_celeba_names_the_row_of_a_bad_list(
    tmp_path: Path, variant: str, name: str, old: str, new: str, message: tuple[str, ...]
) -> None:
    folder = celeba_folder(tmp_path, variant)
    edit(folder / f"{name}{variant}", old, new)
    with pytest.raises(UserError, match=says(*message)):
        CelebA(name="celeba", folder=folder).table()


@pytest.mark.parametrize("name", ["list_attr_celeba", "list_eval_partition", "img_align_celeba"])
def test_celeba_names_what_is_missing(tmp_path: Path, name: str) -> None:
    folder = celeba_folder(tmp_path)
    path = next(folder.glob(f"{name}*"))
    path.rename(folder / "elsewhere")
    with pytest.raises(UserError, match=says(str(path), "missing", "expected")):
        CelebA(name="celeba", folder=folder).table()


def test_an_image_that_is_missing_is_a_bad_image_not_a_bad_list(tmp_path: Path) -> None:
    source = CelebA(name="celeba", folder=celeba_folder(tmp_path))
    (tmp_path / "img_align_celeba/000003.jpg").unlink()
    row = records(source)[2]
    with pytest.raises(BadImage, match=says("000003.jpg", "row 5 of list_attr_celeba.txt", "missing")):
        source.image(row, 16)


def test_the_folder_of_images_may_itself_be_a_link(tmp_path: Path) -> None:
    folder = celeba_folder(tmp_path / "celeba")
    (folder / "img_align_celeba").rename(tmp_path / "big_disk")
    (folder / "img_align_celeba").symlink_to(tmp_path / "big_disk")
    source = CelebA(name="celeba", folder=folder)
    assert source.image(records(source)[0], 8).shape == (8, 8, 3)


# Waterbirds

BIRDS = ["img_id,img_filename,y,split,place", "7,a/one.png,1,0,0", "9,a/two.png,0,1,1", "12,three.png,1,2,1"]


def waterbirds_folder(folder: Path) -> Path:
    (folder / "a").mkdir(parents=True)
    for name, colour in (("a/one.png", RED), ("a/two.png", GREEN), ("three.png", (255, 255, 0))):
        picture((60, 40), 40, colour).save(folder / name)
    write_lines(folder / "metadata.csv", BIRDS)
    return folder


def test_waterbirds_reads_ids_splits_attributes_and_the_largest_square(tmp_path: Path) -> None:
    source = Waterbirds(name="waterbirds", folder=waterbirds_folder(tmp_path))
    table = source.table()
    assert list(table["id"]) == ["7", "9", "12"]
    assert list(table["split"]) == ["train", "validation", "test"]
    assert list(table["y"]) == [1, 0, 1]
    assert list(table["place"]) == [0, 1, 1]
    first, second, _ = records(source)
    assert (source.image(first, 10) == RED).all()
    assert (source.image(second, 10) == GREEN).all()


def test_blank_lines_do_not_shift_the_row_numbers(tmp_path: Path) -> None:
    folder = waterbirds_folder(tmp_path)
    source = Waterbirds(name="waterbirds", folder=folder)
    write_lines(folder / "metadata.csv", [BIRDS[0], BIRDS[1], "", *BIRDS[2:], "", ""])
    assert list(source.table()["id"]) == ["7", "9", "12"]
    edit(folder / "metadata.csv", "two.png,0", "two.png,5")
    with pytest.raises(UserError, match=says("row 4 of metadata.csv", "y", "'5'")):
        source.table()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("one.png,1", "one.png,2", ("row 2 of metadata.csv", "y", "'2'", "expected 0 or 1")),
        ("one.png,1", "one.png,-1", ("row 2 of metadata.csv", "y", "'-1'", "expected 0 or 1")),
        ("two.png,0,1,1", "two.png,0,1,0.5", ("row 3 of metadata.csv", "place", "'0.5'", "expected 0 or 1")),
        ("two.png,0,1", "two.png,0,3", ("row 3 of metadata.csv", "split", "'3'", "one of 0, 1, 2")),
        ("two.png,0,1", "two.png,0,", ("row 3 of metadata.csv", "split", "empty", "expected text")),
        ("9,", "7,", ("row 3 of metadata.csv", "img_id", "'7'", "row 2 of metadata.csv", "its own")),
        (",place", ",where", ("metadata.csv", "no column 'place'", "img_id, img_filename, y, split, where")),
        ("a/two.png", "../two.png", ("row 3 of metadata.csv", "'../two.png'", "leaves the folder")),
        ("a/two.png", "a/../../two.png", ("row 3 of metadata.csv", "expected a path", "leaves the folder")),
        ("a/two.png", "/etc/two.png", ("row 3 of metadata.csv", "'/etc/two.png'", "leaves the folder")),
        ("a/two.png", r"..\two.png", ("row 3 of metadata.csv", "two.png", "leaves the folder")),
        ("a/two.png", "C:/two.png", ("row 3 of metadata.csv", "'C:/two.png'", "leaves the folder")),
        ("a/two.png", "", ("row 3 of metadata.csv", "img_filename", "empty", "expected text")),
    ],
)
def test_waterbirds_names_the_row_of_a_bad_list(
    tmp_path: Path, old: str, new: str, message: tuple[str, ...]
) -> None:
    folder = waterbirds_folder(tmp_path)
    edit(folder / "metadata.csv", old, new)
    with pytest.raises(UserError, match=says(*message)):
        Waterbirds(name="waterbirds", folder=folder).table()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00\x81 not a table"])
def test_a_list_that_is_missing_empty_or_not_text_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = waterbirds_folder(tmp_path) / "metadata.csv"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says(str(path), "missing" if content is None else "cannot be read")):
        Waterbirds(name="waterbirds", folder=tmp_path).table()


def test_a_name_with_two_dots_inside_it_is_no_escape(tmp_path: Path) -> None:
    folder = waterbirds_folder(tmp_path)
    (folder / "three.png").rename(folder / "th..ree.png")
    edit(folder / "metadata.csv", "three.png", "th..ree.png")
    source = Waterbirds(name="waterbirds", folder=folder)
    assert source.image(records(source)[2], 8).shape == (8, 8, 3)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_out_of_the_folder_is_a_bad_image(tmp_path: Path, link: str) -> None:
    folder = waterbirds_folder(tmp_path / "birds")
    (folder / "a").rename(tmp_path / "outside")
    if link == "folder":
        (folder / "a").symlink_to(tmp_path / "outside")
    else:
        (folder / "a").mkdir()
        (folder / "a/one.png").symlink_to(tmp_path / "outside/one.png")
    source = Waterbirds(name="waterbirds", folder=folder)
    row = records(source)[0]
    with pytest.raises(BadImage, match=says("a/one.png", "row 2 of metadata.csv", "leaves the folder")):
        source.image(row, 8)


def test_a_link_that_stays_in_the_folder_is_followed(tmp_path: Path) -> None:
    folder = waterbirds_folder(tmp_path)
    (folder / "three.png").unlink()
    (folder / "three.png").symlink_to(folder / "a/two.png")
    source = Waterbirds(name="waterbirds", folder=folder)
    assert (source.image(records(source)[2], 8) == GREEN).all()


def test_links_in_a_circle_are_a_bad_image(tmp_path: Path) -> None:
    folder = waterbirds_folder(tmp_path)
    (folder / "three.png").unlink()
    (folder / "three.png").symlink_to(folder / "three.png")
    source = Waterbirds(name="waterbirds", folder=folder)
    row = records(source)[2]
    with pytest.raises(BadImage, match=says("three.png", "row 4 of metadata.csv", "expected an image")):
        source.image(row, 8)


def test_a_group_without_images_is_named(tmp_path: Path) -> None:
    rows = [f"{i},three.png,{i >> 1 & 1},{i >> 2},{i & 1}" for i in range(12)]
    write_lines(tmp_path / "metadata.csv", [BIRDS[0], *rows])
    source = Waterbirds(name="waterbirds", folder=tmp_path)
    check_groups(source.table(), ["y", "place"], "prepare")
    write_lines(tmp_path / "metadata.csv", [BIRDS[0], *rows[:6], *rows[7:]])
    with pytest.raises(UserError, match=says("prepare", "validation", "no image", "y=1, place=0")):
        check_groups(source.table(), ["y", "place"], "prepare")


# Table


def table_folder(folder: Path, rows: dict[str, list[Any]], form: str = "csv") -> Path:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame(rows)
    if form == "csv":
        frame.to_csv(folder / "list.csv", index=False)
    else:
        frame.to_parquet(folder / "list.parquet")
    return folder


def table_source(folder: Path, form: str = "csv", **parameters: Any) -> TableSource:
    given = {"attribute_columns": ["happy", "hat"], "split_column": "part", **parameters}
    return TableSource(name="table", folder=folder, table=f"list.{form}", path_column="path", **given)


def people() -> dict[str, list[Any]]:
    return {
        "path": ["p/1.png", "p/2.png", "p/3.png"],
        "happy": [1, 0, 1],
        "hat": [True, False, False],
        "part": ["train", "val", "test"],
        "number": [7, 8, 9],
    }


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_table_reads_ids_splits_attributes_and_pixels(tmp_path: Path, form: str) -> None:
    folder = table_folder(tmp_path, people(), form)
    (folder / "p").mkdir()
    picture((30, 50), 20, GREEN).save(folder / "p/2.png")
    source = table_source(folder, form, crop=20)
    table = source.table()
    assert list(table["id"]) == ["p/1.png", "p/2.png", "p/3.png"]
    assert list(table["split"]) == ["train", "validation", "test"]
    assert list(table["happy"]) == [1, 0, 1]
    assert list(table["hat"]) == [1, 0, 0]
    assert [c for c in table.columns if not c.startswith("_")] == ["id", "split", "happy", "hat"]
    assert (source.image(records(source)[1], 16) == GREEN).all()
    assert list(table_source(folder, form, id_column="number").table()["id"]) == ["7", "8", "9"]


def test_table_keeps_ids_as_they_are_written(tmp_path: Path) -> None:
    folder = table_folder(tmp_path, people() | {"number": ["007", "7", "NA"]})
    assert list(table_source(folder, id_column="number").table()["id"]) == ["007", "7", "NA"]


def test_table_reads_minus_one_as_negative_only_where_told(tmp_path: Path) -> None:
    folder = table_folder(tmp_path, people() | {"happy": [1, -1, 1]})
    assert list(table_source(folder, negative=-1).table()["happy"]) == [1, 0, 1]
    with pytest.raises(UserError, match=says("row 3 of list.csv", "happy", "'-1'", "expected 0 or 1")):
        table_source(folder).table()


@pytest.mark.parametrize("negative", [0, -1])
def test_table_reads_true_and_false_beside_numbers(tmp_path: Path, negative: int) -> None:
    folder = table_folder(tmp_path, people() | {"happy": ["TRUE", "false", "1"], "hat": [True, False, True]})
    table = table_source(folder, negative=negative).table()
    assert list(table["happy"]) == [1, 0, 1]
    assert list(table["hat"]) == [1, 0, 1]


def test_table_takes_the_split_values_it_is_given(tmp_path: Path) -> None:
    folder = table_folder(tmp_path, people() | {"part": [10, 20, 30]})
    values = {10: "test", 20: "train", "30": "validation"}
    split = table_source(folder, split_values=values).table()["split"]
    assert list(split) == ["test", "train", "validation"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("values", [["1", None, "0"], [1, None, 0]])
def test_table_takes_an_empty_attribute_as_unknown(tmp_path: Path, form: str, values: list) -> None:
    source = table_source(table_folder(tmp_path, people() | {"happy": values}, form), form)
    assert list(source.table()["happy"]) == [1, UNKNOWN, 0]


@pytest.mark.parametrize(
    ("form", "row"), [("csv", "row 3 of list.csv"), ("parquet", "row 2 of list.parquet")]
)
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("happy", "maybe", ("happy", "'maybe'", "expected 0 or 1")),
        ("part", "dev", ("part", "'dev'", "one of train, validation, val")),
        ("part", None, ("part", "empty", "expected text")),
        ("path", "p/1.png", ("path", "'p/1.png'", "as in row", "its own")),
        ("path", "../1.png", ("path", "'../1.png'", "leaves the folder")),
        ("path", "/p/1.png", ("path", "'/p/1.png'", "leaves the folder")),
    ],
)
def test_table_names_the_row_of_a_bad_value(
    tmp_path: Path, form: str, row: str, column: str, value: str | None, message: tuple[str, ...]
) -> None:
    rows = people()
    rows[column] = [str(item) for item in rows[column]]
    rows[column][1] = value
    source = table_source(table_folder(tmp_path, rows, form), form)
    with pytest.raises(UserError, match=says(row, *message)):
        source.table()


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["path", "happy", "part", "number"])
def test_table_names_a_missing_column(tmp_path: Path, form: str, column: str) -> None:
    rows = people()
    del rows[column]
    source = table_source(table_folder(tmp_path, rows, form), form, id_column="number")
    with pytest.raises(UserError, match=says(f"list.{form}", f"no column '{column}'", ", ".join(rows))):
        source.table()


def test_a_broken_parquet_is_named(tmp_path: Path) -> None:
    folder = table_folder(tmp_path, people(), "parquet")
    content = (folder / "list.parquet").read_bytes()
    (folder / "list.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=says("list.parquet", "cannot be read", "expected a table")):
        table_source(folder, "parquet").table()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fractions": {"validation": 0.1, "test": 0.1}}, ("either split_column", "or fractions")),
        ({"split_column": None}, ("either split_column", "or fractions")),
        (
            {"split_column": None, "fractions": {"validation": 0.5, "test": 0.5}},
            ("validation and test together must be below 1",),
        ),
        ({"attribute_columns": ["happy", "split"]}, ("'split' cannot be an attribute",)),
        ({"attribute_columns": ["_hat"]}, ("'_hat' cannot be an attribute",)),
        ({"attribute_columns": ["hat", "hat"]}, ("'hat' cannot be an attribute", "once")),
        ({"table": "list.xlsx"}, (".csv or .parquet",)),
    ],
)
def test_table_refuses_parameters_that_contradict(
    tmp_path: Path, parameters: dict[str, Any], message: tuple[str, ...]
) -> None:
    given = {
        "name": "table",
        "folder": tmp_path,
        "table": "list.csv",
        "path_column": "path",
        "attribute_columns": ["happy", "hat"],
        "split_column": "part",
    }
    with pytest.raises(ValidationError, match=says(*message)):
        TableSource.model_validate(given | parameters)


def crowd(counts: tuple[int, int, int, int]) -> pd.DataFrame:
    """Make rows of the groups (happy, hat) = 00, 01, 10, 11, so many of each."""
    groups = np.repeat(np.arange(4), counts)
    paths = [f"{number}.png" for number in range(len(groups))]
    return pd.DataFrame({"path": paths, "happy": groups // 2, "hat": groups % 2})


def split_of(folder: Path, frame: pd.DataFrame, seed: int = 0) -> "pd.Series[str]":
    frame.to_csv(folder / "list.csv", index=False)
    fractions = {"validation": 0.1, "test": 0.2}
    source = table_source(folder, split_column=None, fractions=fractions, seed=seed)
    return source.table().set_index("id")["split"].sort_index()


def test_fractions_split_every_group_alike(tmp_path: Path) -> None:
    frame = crowd((1000, 400, 100, 30))
    split = split_of(tmp_path, frame)
    assert split.value_counts().to_dict() == {"train": 1071, "test": 306, "validation": 153}
    counts = pd.crosstab([frame["happy"], frame["hat"]], split.loc[frame["path"]].to_numpy())
    for (_, row), n in zip(counts.iterrows(), (1000, 400, 100, 30), strict=True):
        assert abs(row["validation"] - 0.1 * n) <= 1
        assert abs(row["test"] - 0.2 * n) <= 2


def test_fractions_reach_validation_and_test_where_every_group_is_one_image(tmp_path: Path) -> None:
    columns = [f"a{i}" for i in range(6)]
    bits = pd.DataFrame([[n >> i & 1 for i in range(6)] for n in range(64)], columns=columns)
    bits.insert(0, "path", [f"{n}.png" for n in range(64)])
    bits.to_csv(tmp_path / "list.csv", index=False)
    source = table_source(
        tmp_path, attribute_columns=columns, split_column=None, fractions={"validation": 0.25, "test": 0.25}
    )
    assert source.table()["split"].value_counts().to_dict() == {"train": 32, "validation": 16, "test": 16}


def test_fractions_depend_on_ids_and_seed_not_on_the_order(tmp_path: Path) -> None:
    frame = crowd((50, 40, 30, 20))
    split = split_of(tmp_path, frame)
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(split_of(tmp_path, shuffled), split)
    assert (split_of(tmp_path, frame, seed=1) != split).any()


# Images


def png_claiming(width: int, height: int) -> bytes:
    """Make a tiny PNG whose header claims a size that its data does not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path.read_bytes()


def truncated(path: Path) -> None:
    content = jpeg(path)
    path.write_bytes(content[: len(content) // 2])


def damaged_png(path: Path) -> None:
    picture((64, 64), 32).save(path, format="png")
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)


def sixteen_bit(path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path, format="png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, ("missing", "expected an image file")),
        (lambda path: path.mkdir(), ("missing", "expected an image file")),
        (lambda path: path.write_bytes(b""), ("not a readable image", "expected JPEG")),
        (lambda path: path.write_text("<html>not found</html>"), ("not a readable image", "expected JPEG")),
        (lambda path: picture((9, 9), 3).save(path, format="eps"), ("not a readable image", "expected JPEG")),
        (truncated, ("truncated", "expected a complete image")),
        (damaged_png, ("broken", "expected a complete image")),
        (lambda path: path.write_bytes(png_claiming(30_000, 30_000)), ("too many pixels", "64,000,000")),
        (lambda path: path.write_bytes(png_claiming(12_000, 12_000)), ("too many pixels", "64,000,000")),
        (lambda path: path.write_bytes(png_claiming(8_001, 8_000)), ("too many pixels", "64,000,000")),
        (lambda path: picture((40, 19), 9).save(path, format="png"), ("40 x 19 px", "crop of 20 x 20")),
        (sixteen_bit, ("mode I;16", "expected 8 bits per channel")),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as data/sources/files.py does
def test_a_bad_image_is_named_with_its_row(
    tmp_path: Path, make: Callable[[Path], object], message: tuple[str, ...]
) -> None:
    path = tmp_path / "face.jpg"
    make(path)
    with pytest.raises(BadImage, match=says(str(path), HERE, *message)):
        decode_image(path, 20, 8, HERE)


def test_the_limit_is_on_pixels_and_is_not_below_real_photographs(tmp_path: Path) -> None:
    path = tmp_path / "edge.png"
    path.write_bytes(png_claiming(8_000, 8_000))
    assert MAX_PIXELS == 8_000 * 8_000
    with pytest.raises(BadImage, match="truncated"):  # within the limit, so that decoding is tried
        decode_image(path, None, 8, HERE)


def test_orientation_is_applied_before_the_crop(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 30), BLUE)
    image.paste(GREEN, (0, 0, 20, 15))  # the upper half as stored is the right half as shown
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    shown = decode_image(tmp_path / "turned.png", 20, 20, HERE)
    assert (shown[:, :10] == BLUE).all()
    assert (shown[:, 10:] == GREEN).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tiff"
    Image.new("RGB", (12, 12), (255, 255, 255)).convert(mode).save(path)
    assert (decode_image(path, None, 6, HERE) == 255).all()


def test_resizing_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    small = decode_image(tmp_path / "stripes.png", None, 8, HERE)
    assert np.abs(small.astype(int) - 127).max() <= 8
