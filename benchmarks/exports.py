"""Each export format on two workers against writing one file per image with Pillow, in the same run."""

import shutil
import tempfile
import time
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmarks.measuring import ROUNDS, Result
from benchmarks.training import IMAGES, smooth_images
from data.balancing import manifest_columns
from data.exports import EXPORTS
from pipeline.cluster import make_shards
from pipeline.parameters import Cluster, Export
from pipeline.stores import RECORDS, Store, commit_shard, finish_store, write_json, write_table
from pipeline.work import WORK
from stages.export import new_exporter
from stages.paths import BALANCED, REAL

WORKERS, PIECES = 2, 16
QUALITY = 95
# Formats with a file per image take as long as the file system does to make files, and PNG as long as its
# encoder: they are measured once, for information.
TARGETS = {"hf-parquet": 2.0, "webdataset": 2.0}


def make_project() -> None:
    """A balanced manifest of real training images, in the current folder."""
    images = smooth_images()
    rows = pd.DataFrame({"id": [f"image-{number:06d}" for number in range(len(images))]})
    commit_shard(REAL, 0, rows, "images", images)
    finish_store(REAL, 1, "images", images.shape[1:], "uint8")
    sheet = {"attributes": {"target": "Blond_Hair", "protected": ["Male"]}}
    manifest = rows.reindex(columns=manifest_columns(["Blond_Hair", "Male"])).assign(
        store=str(REAL), split="train", source="real", target=np.arange(len(rows)) % 2, protected=0
    )
    write_table(BALANCED / "manifest.parquet", manifest)
    write_json(BALANCED / "datasheet.json", sheet)


def pillow_rate(encoding: str) -> float:
    """Images per second of a loop that saves every image to a file of its own, from memory."""
    from PIL import Image

    images = Store(REAL).read_between(0, IMAGES)
    options: dict[str, Any] = {"quality": QUALITY, "subsampling": 0} if encoding == "jpeg" else {}
    folder = Path(tempfile.mkdtemp(dir="."))
    start = time.perf_counter()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number:06d}.{encoding}", **options)
    rate = IMAGES / (time.perf_counter() - start)
    shutil.rmtree(folder)
    return rate


def export_rate(format: str, encoding: Literal["png", "jpeg"]) -> float:
    """Images per second while all workers run: from their first pieces' commits to the last commit."""
    work = WORK / "export"
    shutil.rmtree(work, ignore_errors=True)
    size = IMAGES // PIECES
    section = Export(encoding=encoding, quality=QUALITY, images_per_file=size)
    cluster = Cluster(mode="local", workers=WORKERS, threads=1)
    make_shards(
        f"export {format}", work, [size] * PIECES, partial(new_exporter, format, section, work), cluster
    )
    committed = sorted(path.stat().st_mtime for path in (work / RECORDS).glob("*.json"))
    return (PIECES - WORKERS) * size / (committed[-1] - committed[WORKERS - 1])


def measure() -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        make_project()
        for format, kind in EXPORTS.items():
            encoding: Literal["png", "jpeg"] = "png" if kind.png_only else "jpeg"
            target = TARGETS.get(format)
            rounds = 1 if target is None else ROUNDS
            rates = np.array([[pillow_rate(encoding), export_rate(format, encoding)] for _ in range(rounds)])
            theirs, ours = np.median(rates, axis=0)
            ratio = float(np.median(rates[:, 1] / rates[:, 0]))
            key = f"export_{format.replace('-', '_')}_speedup"
            detail = (
                f"{theirs:,.0f} images/s with Pillow, {ours:,.0f} exported ({encoding}, {WORKERS} workers)"
            )
            results.append(Result(key, ratio, target, True, detail))
    return results
