"""prepare: render or read the source's images; writes the image store out/real/ with labels.parquet."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.parameters import Prepare
from data.protected_labels import check_known, weakened
from data.sources import BadImage, check_groups, source_of
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.files import write_json
from pipeline.content.stores import commit_shard, finish_store, shard_sizes
from pipeline.content.tables import write_table
from pipeline.errors import UserError
from pipeline.stage import run_stage
from pipeline.work import work_folder
from stages.parameters import read_parameters
from stages.shared.paths import REAL


def new_preparer(section: Prepare, table: pd.DataFrame, work: Path) -> MakeShard:
    """Return the function that makes a shard of images, one for each of its rows in the source's table."""
    source = source_of(section.source)

    def make(shard: int, advance: Advancing) -> Record:
        rows = table.iloc[shard * section.shard_size :][: section.shard_size]
        images, left_out = [], {}
        records: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]
        for row in records:
            try:
                images.append(source.image(row, section.resolution))
            except BadImage as error:
                if section.on_bad_image == "stop":
                    raise UserError(f"{error} Mend it, or set prepare.on_bad_image to skip.") from error
                left_out[row["id"]] = str(error)
            advance(1)
        shape = (section.resolution, section.resolution, 3)
        items = np.stack(images) if images else np.empty((0, *shape), np.uint8)
        kept = rows.loc[~rows["id"].isin(left_out), ["id"]]
        return commit_shard(work, shard, kept, "images", items, left_out=left_out)

    return make


def source_summary(labels: pd.DataFrame, attributes: list[str], bad: int) -> dict[str, Any]:
    """Count the images of every group by split, and the bad images."""
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
    work = work_folder("prepare", table.to_csv(index=False))
    sizes = shard_sizes(len(table), section.shard_size)
    set_up = partial(new_preparer, section, table, work.folder)
    records = make_shards("prepare", work.folder, sizes, set_up, parameters.cluster)
    finish_store(
        work.folder,
        len(sizes),
        "images",
        (section.resolution, section.resolution, 3),
        "uint8",
        records=records,
    )

    left_out = {id: why for record in records.values() for id, why in record["left_out"].items()}
    labels = table[~table["id"].isin(left_out)]
    labels = labels[[column for column in labels.columns if not column.startswith("_")]]
    labels = weakened(labels, parameters.protected, section.protected_labels)
    check_known(labels, parameters.attributes, "prepare")
    check_groups(labels, parameters.attributes, "prepare, without the bad images")
    write_table(work.folder / "labels.parquet", labels)
    bad = pd.DataFrame({"id": list(left_out), "why": list(left_out.values())})
    write_table(work.folder / "bad_images.parquet", bad)
    write_json(work.folder / "summary.json", source_summary(labels, parameters.attributes, len(bad)))
    if len(bad):
        print(f"prepare: {len(bad)} bad images left out, listed in {REAL}/bad_images.parquet")
    work.publish(REAL)


if __name__ == "__main__":
    run_stage(main)
