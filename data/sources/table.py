"""Any folder of images with a CSV or Parquet that lists them."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from data.names import UNKNOWN
from data.sources.files import FileSource, binary, check_ids, check_inside, read_image_list, splits
from pipeline.content.seeds import derived_seed
from pipeline.parameters import Parameters

Split = Literal["train", "validation", "test"]


class Fractions(Parameters):
    """Gives the shares of validation and test in every group; the rest is for training."""

    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _some_are_left_for_training(self) -> "Fractions":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1: the rest is for training")
        return self


class TableSource(FileSource):
    """Reads a folder, and a list with a column of paths, the attributes' columns, and perhaps the split's."""

    name: Literal["table"]
    table_: Path = Field(alias="table")  # .csv or .parquet, relative to the folder
    path_column: str  # paths of the images, relative to the folder
    attribute_columns: list[str] = Field(min_length=1)
    negative: Literal[0, -1] = 0  # what the attributes' columns have where the attribute is absent
    id_column: str | None = None  # null: the path is the id
    split_column: str | None = None
    split_values: dict[str | int, Split] = {  # noqa: RUF012 - pydantic copies defaults
        "train": "train",
        "validation": "validation",
        "val": "validation",
        "valid": "validation",
        "test": "test",
        0: "train",
        1: "validation",
        2: "test",
    }
    fractions: Fractions | None = None
    seed: int = 0  # of the split by fractions

    @field_validator("table_")
    @classmethod
    def _is_csv_or_parquet(cls, path: Path) -> Path:
        if path.suffix not in (".csv", ".parquet"):
            raise ValueError("expected the name of a .csv or .parquet file")
        return path

    @field_validator("attribute_columns")
    @classmethod
    def _are_names_for_attributes(cls, names: list[str]) -> list[str]:
        for name in names:
            if name in ("id", "split") or name.startswith("_") or names.count(name) > 1:
                raise ValueError(
                    f"{name!r} cannot be an attribute: expected each name once, not 'id', not 'split', "
                    "and without a leading '_'"
                )
        return names

    @model_validator(mode="after")
    def _splits_one_way(self) -> "TableSource":
        if (self.split_column is None) == (self.fractions is None):
            raise ValueError(
                "give either split_column, the column that has the split, or fractions, such as "
                "{validation: 0.1, test: 0.2}"
            )
        return self

    def table(self) -> pd.DataFrame:
        """Read the list; `UserError` for a value that is not expected."""
        id_column = self.id_column or self.path_column
        texts = [self.path_column, id_column, *([self.split_column] if self.split_column else [])]
        frame = read_image_list(self.folder / self.table_, [*texts, *self.attribute_columns], texts)
        check_ids(frame, id_column)
        check_inside(frame, self.path_column, self.folder)
        attributes = pd.DataFrame(
            {name: binary(frame, name, self.negative, gaps=True) for name in self.attribute_columns}
        )
        if self.split_column is not None:
            meaning = {str(value): split for value, split in self.split_values.items()}
            split = splits(frame, self.split_column, meaning)
        else:
            assert self.fractions is not None  # by _splits_one_way
            complete = (attributes != UNKNOWN).all(axis=1)  # the others can only be trained on
            split = split_by_fractions(
                frame[id_column][complete], attributes[complete], self.fractions, self.seed
            ).reindex(frame.index, fill_value="train")
        table = attributes.assign(_file=frame[self.path_column], _where=frame["_where"])
        table.insert(0, "id", frame[id_column])
        table.insert(1, "split", split)
        return table


def split_by_fractions(
    ids: "pd.Series[str]", attributes: pd.DataFrame, fractions: Fractions, seed: int
) -> "pd.Series[str]":
    """Assign splits so that every group (equal in all attributes) is split by the fractions.

    The same ids, attributes and seed give the same splits, whatever the order of the rows. Of n images of a
    group, validation has its share up to 1 image, and test up to 2; the totals are exact.

    Args:
        ids: of the images, [n].
        attributes: of the images, a column each, [n].
        fractions: the shares of validation and test.
        seed: of the draw.

    Returns:
        The split of each image, [n].
    """
    keys = attributes.assign(_seed=[derived_seed(seed, "split", name) for name in ids])
    # In this order groups follow one another, each in a random order. Images taken at even distances are
    # then a share of every group, and of many groups of one image together.
    order = keys.sort_values(list(keys.columns)).index
    validation = _evenly(len(order), fractions.validation)
    rest = order[~validation]
    test = _evenly(len(rest), fractions.test / (1 - fractions.validation))
    split = pd.Series("train", index=ids.index)
    split[order[validation]] = "validation"
    split[rest[test]] = "test"
    return split


def _evenly(count: int, share: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Choose a share of `count` places evenly: every stretch of them has that share; bool [count]."""
    return np.asarray(np.diff(np.floor(np.arange(count + 1) * share + 0.5)) > 0, dtype=np.bool_)
