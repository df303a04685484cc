"""`hf-parquet`: Parquet shards and a data card, as Hugging Face `datasets` and the Hub read them.

    data/balanced-train-00000-of-00003.parquet    columns id, image (struct<bytes, path>), y, a, group, ...
    README.md                                     the data card; its YAML header names the files of a split

The features stand in the schema's metadata under `huggingface`, so that `load_dataset("parquet", ...)` gives
PIL images and named labels (datasets: `Features.arrow_schema`, "Create a dataset card").
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from data.exports.base import COLUMNS, NAME, ExportFormat, Piece
from pipeline.stores import committed

DATA = "data"  # a folder of its own: pandas and pyarrow read it as one table
ROW_GROUP = 256  # images: what a reader of one row reads with it

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
TYPES: dict[str, pa.DataType] = {
    "id": pa.string(), "image": IMAGE, "y": pa.int64(), "a": pa.int64(), "group": pa.int64(),
    "source": pa.string(), "pair_id": pa.string(),
    "target_score": pa.float64(), "protected_score": pa.float64(),
}  # fmt: skip


def shards_of(split: str) -> str:
    """What matches the names of a split's files."""
    return f"{DATA}/{NAME}-{split}-*.parquet"


class HFParquet(ExportFormat):
    """Columns: `TYPES`; y and a are ClassLabels with names."""

    @property
    def labels(self) -> dict[str, list[str]]:
        """The names of the classes of y and a, by column."""
        protected = self.manifest.protected
        names = [f"{protected}_{value}" for value in range(self.manifest.n_a)]
        if self.manifest.n_a == 2:
            names = [f"not_{protected}", protected]
        return {"y": list(self.classes), "a": names}

    @property
    def schema(self) -> pa.Schema:
        features: dict[str, Any] = {
            name: {"dtype": str(kind).replace("double", "float64"), "_type": "Value"}
            for name, kind in TYPES.items()
        }
        features["image"] = {"_type": "Image"}
        for column, names in self.labels.items():
            features[column] = {"names": names, "_type": "ClassLabel"}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        return pa.schema(TYPES, metadata=metadata)

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        name = f"{DATA}/{NAME}-{piece.split}-{piece.index:05d}-of-{piece.of:05d}.parquet"
        schema = self.schema
        # The images are compressed already; their bytes make no dictionary and no statistics.
        options: dict[str, Any] = {"compression": "none", "use_dictionary": ["source"]}
        with (
            committed(folder / name) as temporary,
            pq.ParquetWriter(temporary, schema, write_statistics=False, **options) as writer,
        ):
            for start in range(0, len(rows), ROW_GROUP):
                part = rows.iloc[start : start + ROW_GROUP]
                files = zip(islice(images, len(part)), part["file"], strict=True)
                content: dict[str, Any] = {column: part[column] for column in ("id", *COLUMNS)}
                content["image"] = [{"bytes": image, "path": file} for image, file in files]
                arrays = [
                    pa.array(content[column], type=kind, from_pandas=True) for column, kind in TYPES.items()
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        return [name]

    def write_tables(self, folder: Path) -> None:
        (folder / "README.md").write_text(self.card(folder))

    def card(self, folder: Path) -> str:
        """The data card: a YAML header for the Hub, and the groups of each split for people."""
        features: list[dict[str, Any]] = []
        for name, kind in TYPES.items():
            dtype: Any = str(kind).replace("double", "float64")
            if name in self.labels:
                dtype = {"class_label": {"names": {str(k): n for k, n in enumerate(self.labels[name])}}}
            features.append({"name": name, "dtype": "image" if name == "image" else dtype})
        counts = self.table["split"].value_counts(sort=False).to_dict()
        splits = []
        for split, count in counts.items():
            size = sum(path.stat().st_size for path in folder.glob(shards_of(split)))
            splits.append({"name": split, "num_bytes": size, "num_examples": count})
        files = [{"split": split, "path": shards_of(split)} for split in counts]
        header = {
            "task_categories": ["image-classification"],
            "tags": ["fairness", "synthetic"],
            "dataset_info": {"features": features, "splits": splits},
            "configs": [{"config_name": "default", "data_files": files}],
        }
        target, protected = self.manifest.target, self.manifest.protected
        groups = pd.crosstab(self.table["group"], [self.table["split"], self.table["source"]])
        lines = [f"| {group} | {' | '.join(map(str, row))} |" for group, row in groups.iterrows()]
        columns = " | ".join(", ".join(column) for column in groups.columns)
        return "\n".join(
            [
                "---", yaml.safe_dump(header, sort_keys=False).rstrip(), "---", "",
                f"# {target} by {protected}, balanced by zprime", "",
                f"`y` is {target}, `a` is {protected}, `group` = y * {self.manifest.n_a} + a. `source` is "
                "real, z (generated) or z_prime (its complement: the same y, another a); `pair_id` is the id "
                "of a complement's z. `target_score` and `protected_score` are the classifiers' scores of "
                "generated images. Generated images are training images.", "",
                f"| group | {columns} |", f"|---|{'---|' * len(groups.columns)}", *lines, "",
            ]
        )  # fmt: skip
