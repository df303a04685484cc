"""prepare: the source of images -> out/real/: an image store and labels.parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.sources import BadImage, check_groups, source_of
from pipeline.cluster import map_shards
from pipeline.errors import UserError
from pipeline.parameters import read_parameters
from pipeline.progress import progress
from pipeline.stage import run_stage
from pipeline.stores import StoreWriter, write_json, write_shard, write_table
from pipeline.work import publish, work_folder
from stages.paths import REAL


def prepare_shard(
    shard: int, source: dict[str, Any], rows: pd.DataFrame, resolution: int, folder: Path, skip: bool
) -> dict[str, Any]:
    """Make the images of `rows`, commit them as one shard, and give its record."""
    maker = source_of(source)
    images, left_out = [], {}
    records: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]
    for row in records:
        try:
            images.append(maker.image(row, resolution))
        except BadImage as error:
            if not skip:
                raise UserError(f"{error} Mend it, or set prepare.on_bad_image to skip.") from error
            left_out[row["id"]] = str(error)
    items = np.stack(images) if images else np.empty((0, resolution, resolution, 3), np.uint8)
    return {**write_shard(folder, shard, "images", items), "left_out": left_out}


def summary_of(labels: pd.DataFrame, attributes: list[str], bad: int) -> dict[str, Any]:
    """The number of images of every group, by split, and of bad ones."""
    counts = labels.groupby(["split", *attributes]).size().reset_index(name="images")
    groups: dict[str, dict[str, int]] = {}
    for row in counts.to_dict("records"):
        name = ", ".join(f"{attribute}={row[attribute]}" for attribute in attributes)
        groups.setdefault(str(row["split"]), {})[name] = int(row["images"])
    return {"images": len(labels), "bad_images": bad, "groups": groups}


def main() -> None:
    """Make the store of real images and the table of their labels."""
    parameters = read_parameters()
    section = parameters.prepare
    source = source_of(section.source)
    table = source.table()
    check_groups(table, parameters.attributes, "prepare")
    work = work_folder("prepare", [], [section.model_dump(), table.to_csv(index=False)])

    shape = (section.resolution, section.resolution, 3)
    writer = StoreWriter(work, "images", shape, "uint8", table[["id"]], section.shard_size)
    parts = {
        shard: table.iloc[shard * section.shard_size :][: section.shard_size] for shard in writer.missing()
    }
    finished = len(table) - sum(len(part) for part in parts.values())
    with progress("prepare", len(table), "images", finished) as advance:

        def on_shard(shard: int, record: dict[str, Any]) -> None:
            writer.record(shard, record)
            advance(len(parts[shard]))

        map_shards(
            prepare_shard,
            list(parts),
            lambda shard: (
                section.source, parts[shard], section.resolution, work, section.on_bad_image == "skip",
            ),
            parameters.cluster,
            on_shard,
        )  # fmt: skip
    writer.finish()

    left_out = writer.left_out()
    labels = table[~table["id"].isin(left_out)]
    labels = labels[[column for column in labels.columns if not column.startswith("_")]]
    check_groups(labels, parameters.attributes, "prepare, without the bad images")
    write_table(work / "labels.parquet", labels)
    bad = pd.DataFrame({"id": list(left_out), "why": list(left_out.values())})
    write_table(work / "bad_images.parquet", bad)
    write_json(work / "summary.json", summary_of(labels, parameters.attributes, len(bad)))
    if len(bad):
        print(f"prepare: {len(bad)} bad images left out, listed in {REAL}/bad_images.parquet")
    publish(work, REAL)


if __name__ == "__main__":
    run_stage(main)
