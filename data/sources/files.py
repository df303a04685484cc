"""The common part of sources made of files: reads their lists, checks each value, decodes their images.

Both the lists and the images come from outside and are not trusted. `UserError` is about a list, which has to
be mended; `BadImage` is about one image, which may be left out (``prepare.on_bad_image``).
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from data.names import UNKNOWN
from data.sources.base import BadImage, Source
from pipeline.errors import UserError

MAX_PIXELS = 64_000_000  # of an image as stored, before its crop
# Only some of Pillow's formats: some of its readers start other programs (EPS starts Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
LEAVES_FOLDER = re.compile(r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)")  # on any system

# Pillow warns above 89 megapixels and raises above 179; `decode_image` raises above MAX_PIXELS.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class FileSource(Source):
    """Reads images from files, which the table's column `_file` names.

    The column `_where` says where an image is listed: "row 17 of list.csv".
    """

    folder: Path
    crop: int | None = Field(None, ge=1)  # side of the centre crop, px of the file; null: the largest

    def image_folder(self) -> Path:
        """Return the folder that `_file` is relative to, and that no image may lie outside of."""
        return self.folder

    def image(self, row: Mapping[str, Any], resolution: int) -> NDArray[np.uint8]:
        """Decode the image file of one row."""
        path = resolve_inside(self.image_folder(), row["_file"], row["_where"])
        return decode_image(path, self.crop, resolution, row["_where"])


def read_image_list(
    path: Path,
    columns: Sequence[str],
    texts: Sequence[str],
    names: Sequence[str] | None = None,
    skip: int = 0,
) -> pd.DataFrame:
    """Read a list of images: a CSV, a Parquet, or with `names` a list separated by spaces.

    Args:
        path: the list.
        columns: the columns that it must have; a CSV's other columns are returned as well.
        texts: of these, the ones to keep as text ("007" is not 7), in which no cell may be empty.
        names: the columns of a list that has no line of names.
        skip: the lines before the first row of such a list.

    Returns:
        The list, with one more column `_where`, "row 17 of list.csv": the line of the file, its header being
        line 1; in a Parquet file, which has no lines, rows count from 1.

    Raises:
        UserError: a file or column is missing, a cell is empty, or the file is not such a list.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: expected a file that lists the images, as a table.")
    try:
        if path.suffix == ".parquet":
            present = pyarrow.parquet.read_schema(path).names
            frame = pd.read_parquet(path, columns=[name for name in present if name in columns])
            frame = frame.reset_index(drop=True)
            first = 1
        else:
            layout: dict[str, Any] = {"sep": r"\s+", "header": None, "names": names, "skiprows": skip}
            with warnings.catch_warnings():
                # Otherwise pandas would drop a row's surplus values and go on.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(
                    path,
                    dtype=dict.fromkeys(texts, str),
                    index_col=False,
                    keep_default_na=False,  # "NA" may be a name
                    skip_blank_lines=False,  # otherwise rows could not be counted as lines
                    low_memory=False,
                    **(layout if names else {}),
                )
            present = list(frame.columns)
            first = skip + 1 if names else 2
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise UserError(
            f"{path} cannot be read: expected a table with the same columns in every row "
            f"({' '.join(str(error).split()).rstrip('.')})."
        ) from error
    for name in columns:
        if name not in present:
            raise UserError(f"{path}: there is no column {name!r}; it has {', '.join(map(str, present))}.")
    frame["_where"] = [f"row {number} of {path.name}" for number in range(first, first + len(frame))]
    if path.suffix != ".parquet":
        content = frame.drop(columns="_where")
        frame = frame[~(content.isna() | (content == "")).all(axis=1)].reset_index(drop=True)
    for name in texts:
        text = frame[name].astype(str)
        refuse_first(frame, name, frame[name].isna() | (text == ""), "text")
        frame[name] = text
    return frame


def refuse_first(frame: pd.DataFrame, column: str, bad: "pd.Series[bool]", expected: str) -> None:
    """Refuse the first bad value of a column, if there is one.

    Args:
        frame: as `read_image_list` returns it.
        column: the column's name.
        bad: which values are bad, [n].
        expected: what was expected, for the sentence.

    Raises:
        UserError: there is a bad value.
    """
    if bad.any():
        position = int(np.argmax(bad))
        value = frame[column].iloc[position]
        shown = "empty" if pd.isna(value) or value == "" else repr(str(value))
        raise UserError(f"{frame['_where'].iloc[position]}: {column} is {shown}; expected {expected}.")


def binary(frame: pd.DataFrame, column: str, negative: int, gaps: bool = False) -> "pd.Series[int]":
    """Convert a column of `read_image_list` to 0 and 1.

    A `UserError` names a value that is neither.

    Args:
        frame: the list.
        column: of values 1 and `negative`, or true and false.
        negative: 0 or -1.
        gaps: whether cells may be empty.

    Returns:
        The column's values, in {0, 1}, and `UNKNOWN` where a cell is empty.
    """
    values = frame[column]
    if pd.api.types.is_bool_dtype(values):
        return values.astype(np.int64)
    empty = (values.isna() | (values.astype(str).str.strip() == "")) & gaps
    if not pd.api.types.is_numeric_dtype(values):
        text = values.astype(str).str.strip().str.lower()
        values = pd.to_numeric(text.replace({"true": "1", "false": str(negative)}), errors="coerce")
    refuse_first(frame, column, ~values.isin((negative, 1)) & ~empty, f"{negative} or 1")
    return (values == 1).astype(np.int64).mask(empty, UNKNOWN)


def splits(frame: pd.DataFrame, column: str, meaning: Mapping[str, str]) -> "pd.Series[str]":
    """Convert a text column of `read_image_list` to splits; `UserError` for a value without a meaning."""
    refuse_first(frame, column, ~frame[column].isin(list(meaning)), f"one of {', '.join(meaning)}")
    return frame[column].map(meaning)


def check_ids(frame: pd.DataFrame, column: str) -> None:
    """Raise `UserError` if an id of this text column of `read_image_list` stands in two rows."""
    repeated = frame[column].duplicated()
    if repeated.any():
        again = frame[repeated].iloc[0]
        before = frame[frame[column] == again[column]].iloc[0]
        raise UserError(
            f"{again['_where']}: {column} is {again[column]!r}, as in {before['_where']}; "
            "expected every row to have its own."
        )


def check_inside(frame: pd.DataFrame, column: str, folder: Path) -> None:
    """Raise `UserError` for a path of this text column of `read_image_list` that leaves the folder."""
    leaves = frame[column].str.contains(LEAVES_FOLDER, regex=True)
    refuse_first(frame, column, leaves, f"a path inside {folder}, not one that leaves the folder")


def resolve_inside(folder: Path, name: str, where: str) -> Path:
    """Resolve the path of a file of a folder, all links followed.

    Args:
        folder: that the file must lie in.
        name: the file's, relative to the folder.
        where: the row that lists the file, as "row 17 of list.csv".

    Returns:
        The path.

    Raises:
        BadImage: the path leaves the folder: by an absolute name, "..", or a link to elsewhere.
    """
    root = folder.resolve()
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a cycle of links, or a name that no file can have
        raise BadImage(
            f"{folder / name} ({where}) is not a path that can be followed ({error}); expected an image."
        ) from error
    if not path.is_relative_to(root):
        raise BadImage(f"{folder / name} ({where}) is a path that leaves the folder; expected one inside it.")
    return path


def decode_image(path: Path, crop: int | None, resolution: int, where: str) -> NDArray[np.uint8]:
    """Decode an image file, crop its centre and resize the crop.

    Args:
        path: the file.
        crop: side of the centred square in px of the upright image; None: the largest that fits.
        resolution: the side of the result, px.
        where: the row that lists the image, as "row 17 of list.csv".

    Returns:
        RGB, uint8 [resolution, resolution, 3].

    Raises:
        BadImage: the file is missing, not an image, broken, larger than `MAX_PIXELS`, smaller than the crop,
            or has more than 8 bits per channel.
        MemoryError: the memory does not suffice.
    """
    name = f"{path} ({where})"
    too_large = f"{name} has too many pixels; expected at most {MAX_PIXELS:,}."
    try:
        if not path.is_file():
            raise BadImage(f"{name} is missing; expected an image file.")
        with Image.open(path, formats=FORMATS) as image:  # reads the header only
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(too_large)
            if image.mode.startswith(("I", "F")):  # Pillow would clip these values, mostly to white
                raise BadImage(f"{name} has pixels of mode {image.mode}; expected 8 bits per channel.")
            ImageOps.exif_transpose(image, in_place=True)
            side = min(image.size) if crop is None else crop
            if side > min(image.size):
                size = f"{image.width} x {image.height}"
                raise BadImage(f"{name} is {size} px; expected at least the crop of {crop} x {crop}.")
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side)).convert("RGB")
            return np.array(square.resize((resolution, resolution), Image.Resampling.LANCZOS))
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(too_large) from error
    except UnidentifiedImageError as error:
        raise BadImage(f"{name} is not a readable image; expected {', '.join(FORMATS)}.") from error
    except Exception as error:  # on broken data Pillow's readers raise anything: OSError, SyntaxError, ...
        reason = " ".join(str(error).split())
        raise BadImage(f"{name} is broken or truncated ({reason}); expected a complete image.") from error
