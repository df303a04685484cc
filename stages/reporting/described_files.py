"""How a file under out/ is described, and the files that several stages write."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.content.index import FileRecord, Index, ShardRecord

Fields = dict[str, str]  # a column or key, or several with a comma between -> its meaning


@dataclass(frozen=True)
class File:
    """A file of a stage's output, or several whose names match one pattern.

    Attributes:
        name: its path in the output's folder; * stands for what differs. Empty if the output is a file.
        what: one sentence on what it holds.
        fields: the columns of a table, the keys of a JSON file. A name in capitals or with NAME in it stands
            for all names of its kind, such as those of the attributes.
        schemas: the typed schemas of a JSON file, models or typed dictionaries, by where each stands: "" for
            the whole file, "cells." for the content of the list `cells`. Their fields are added to `fields`,
            with their docstrings' text.
    """

    name: str
    what: str
    fields: Fields = field(default_factory=dict)
    schemas: dict[str, type[Any]] = field(default_factory=dict)


TRUST = File(
    "trust.json",
    "Whether the step may be trusted.",
    {
        "judgements": "a list; of each: `step`, `level` (fine, doubtful, useless), `sentence`, `remedy` and "
        "the `figures` that decided"
    },
)
INDEX = File(
    "index.json",
    "The size and sha256 of every file: `zprime verify` compares them.",
    schemas={"": Index, "shards.": ShardRecord, "files.": FileRecord},
)
SHARDS = File(
    "shard-*.h5",
    "Of a store: the dataset `images`, uint8 [n, H, W, 3], or `latents`, float32 [n, D]; contiguous and not "
    "compressed.",
)
ROWS = File(
    "rows/shard-*.parquet",
    "Of a store: a row for each image or latent of the shard, in its order.",
    {"id": "unique", "shard, row": "where it stands in the store", "others": "are listed below"},
)
COMMON = (SHARDS, ROWS, INDEX, TRUST)  # files of several outputs, described once
NETWORK = File("network.safetensors", "The weights.")
