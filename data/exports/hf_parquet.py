"""`hf-parquet`: Parquet shards and a data card, as Hugging Face `datasets` and the Hub read them.

    data/balanced-train-00000-of-00003.parquet    columns id, image (struct<bytes, path>), y, a, group, ...
    README.md                                     the data card; its YAML header names the files of a split

The features stand in the schema's metadata under `huggingface`, so that `load_dataset("parquet", ...)` gives
PIL images and named labels (datasets: `Features.arrow_schema`, "Create a dataset card").
"""

import json
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from data.exports.base import NAME, ExportFormat, Piece
from pipeline.content.files import committed
from pipeline.content.groups import group_names

DATA = "data"  # a folder of its own: pandas and pyarrow read it as one table
ROW_GROUP = 256  # images: a reader of one of them reads all

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})

CARD = """---
{header}---

# {target} by {protected}, balanced by zprime
{verdict}
`y` is {target}, `a` is {protected}, `group` = y * {n_a} + a. `source` is real, z (generated), z_prime (the
complement of a z) or real_prime (the complement of a real image); `pair_id` is the id of a pair's original.
{scores} are the classifiers' scores of generated images. Generated images are training images.

| group | {columns} |
|---|{rule}
{rows}
"""


VERDICT = """
{verdict}
The training images here are the data set that zprime calls `augmented`; those with the source real alone are
`original`, and `duplicated` repeats these until all groups are of one size.
"""


class HFParquet(ExportFormat):
    """Writes Parquet with the columns of `dtypes`; y, a and protected attributes are named ClassLabels."""

    @property
    def dtypes(self) -> dict[str, str]:
        """The columns' types, as Hugging Face calls them and, but for the image, Arrow too."""
        text, scores = ("source", "pair_id"), self.manifest.scores
        types = {
            name: "string" if name in text else "float64" if name in scores else "int64"
            for name in self.columns
        }
        return {"id": "string", "image": "image", **types}

    @property
    def labels(self) -> dict[str, list[str]]:
        """The names of the classes, by column; for `a` the combinations of the protected attributes'."""
        protected = {name: [f"not_{name}", name] for name in self.manifest.protected}
        combinations = ["+".join(names) for names in product(*protected.values())]
        return {"y": list(self.classes), **protected, "a": combinations}

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, with Hugging Face's features in its metadata."""
        features: dict[str, Any] = {name: {"dtype": t, "_type": "Value"} for name, t in self.dtypes.items()}
        features["image"] = {"_type": "Image"}
        features |= {name: {"names": names, "_type": "ClassLabel"} for name, names in self.labels.items()}
        types = {name: IMAGE if t == "image" else pa.type_for_alias(t) for name, t in self.dtypes.items()}
        return pa.schema(types, {"huggingface": json.dumps({"info": {"features": features}})})

    def write_piece(
        self, folder: Path, piece: Piece, rows: pd.DataFrame, images: Iterator[bytes]
    ) -> list[str]:
        """Write a piece as one Parquet file."""
        name = f"{DATA}/{NAME}-{piece.split}-{piece.index:05d}-of-{piece.of:05d}.parquet"
        schema = self.schema
        # The images are compressed already; a dictionary or statistics of their bytes would be useless.
        options: dict[str, Any] = {"compression": "none", "use_dictionary": ["source"]}
        with (
            committed(folder / name) as temporary,
            pq.ParquetWriter(temporary, schema, write_statistics=False, **options) as writer,
        ):
            for start in range(0, len(rows), ROW_GROUP):
                part = rows.iloc[start : start + ROW_GROUP]
                files = zip(islice(images, len(part)), part["file"], strict=True)
                content: dict[str, Any] = {column: part[column] for column in ("id", *self.columns)}
                content["image"] = [{"bytes": image, "path": file} for image, file in files]
                arrays = [pa.array(content[field.name], field.type, from_pandas=True) for field in schema]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        return [name]

    def write_tables(self, folder: Path) -> None:
        """Write the data card."""
        (folder / "README.md").write_text(self.card(folder), encoding="utf-8")

    def card(self, folder: Path) -> str:
        """Write the data card: a YAML header for the Hub; for people, the verdict and each split's groups.

        Args:
            folder: of the export, with all pieces.

        Returns:
            The card's text, in Markdown.
        """
        types: dict[str, Any] = dict(self.dtypes)
        for column, classes in self.labels.items():
            types[column] = {"class_label": {"names": {str(k): name for k, name in enumerate(classes)}}}
        features = [{"name": column, "dtype": dtype} for column, dtype in types.items()]
        splits, files = [], []
        for split, images in self.images_by_split.items():
            shards = f"{DATA}/{NAME}-{split}-*.parquet"
            size = sum(path.stat().st_size for path in folder.glob(shards))
            splits.append({"name": split, "num_bytes": size, "num_examples": images})
            files.append({"split": split, "path": shards})
        header = {
            "task_categories": ["image-classification"],
            "tags": ["fairness", "synthetic"],
            "dataset_info": {"features": features, "splits": splits},
            "configs": [{"config_name": "default", "data_files": files}],
        }
        names = group_names(self.manifest.target, self.manifest.protected)
        groups = self.counts.pivot_table("images", "group", ["split", "source"], aggfunc="sum", fill_value=0)
        return CARD.format(
            header=yaml.safe_dump(header, sort_keys=False),
            target=self.manifest.target,
            protected=" and ".join(self.manifest.protected),
            verdict=VERDICT.format(verdict=self.verdict) if self.verdict else "",
            scores=", ".join(f"`{name}`" for name in self.manifest.scores),
            n_a=self.manifest.n_a,
            columns=" | ".join(", ".join(column) for column in groups.columns),
            rule="---|" * len(groups.columns),
            rows="\n".join(
                f"| {group}: {names[int(str(group))]} | {' | '.join(map(str, row))} |"
                for group, row in groups.iterrows()
            ),
        )
