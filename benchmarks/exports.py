"""Benchmarks of the export formats: speed against one file per image with Pillow, and growth of memory.

Each format is written by two workers; the baseline runs in the same process as the benchmark. Memory is
compared between few and many images.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measuring import ROUNDS, Result, own_bytes, peak_bytes
from data.exports import EXPORTS, export_of
from data.names import manifest_columns
from data.parameters import Export
from pipeline.cluster import make_shards
from pipeline.content.files import write_json
from pipeline.content.index import RECORDS
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.tables import write_table
from pipeline.parameters import Cluster
from pipeline.work import WORK
from stages.export import new_exporter
from stages.shared.paths import BALANCED, REAL

IMAGES, WORKERS, PIECES = 4096, 2, 16
QUALITY = 95
SHARD = 4096  # images
FEW, MANY = 16384, 131072  # images; a worker should hold at most one piece of them
# Rows; the process that sorts them should hold no more than its limit, which fewer rows do not reach.
FEW_ROWS, MANY_ROWS = 2**19, 2**21
PROJECT = Path(__file__).parents[1]
# Formats with a file per image take as long as the file system does to make files, and PNG as long as its
# encoder: they are measured once, for information.
TARGETS = {"hf-parquet": 2.0, "webdataset": 2.0}


def make_project(images: NDArray[np.uint8]) -> None:
    """Write a balanced manifest of real training images to the current folder."""
    rows = pd.DataFrame({"id": [f"image-{number:064d}" for number in range(len(images))]})
    starts = range(0, len(images), SHARD)
    for shard, start in enumerate(starts):
        of_shard = slice(start, start + SHARD)
        commit_shard(REAL, shard, rows.iloc[of_shard], "images", images[of_shard])
    finish_store(REAL, len(starts), "images", images.shape[1:], "uint8")
    sheet = {"attributes": {"target": "Blond_Hair", "protected": ["Male"]}}
    manifest = rows.reindex(columns=manifest_columns(["Blond_Hair", "Male"])).assign(
        store=str(REAL), split="train", source="real", target=np.arange(len(rows)) % 2, protected=0
    )
    write_table(BALANCED / "manifest.parquet", manifest)
    write_json(BALANCED / "datasheet.json", sheet)


def pillow_rate(encoding: str) -> float:
    """Return images per second of a loop that saves every image from memory to a file of its own."""
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
    """Return images per second while all workers run: from their first pieces' commits to the last one."""
    work = WORK / "export"
    shutil.rmtree(work, ignore_errors=True)
    size = IMAGES // PIECES
    section = Export(encoding=encoding, quality=QUALITY, images_per_file=size)
    cluster = Cluster(mode="local", workers=WORKERS, threads=1)
    export = export_of(format, BALANCED, section)
    export.write_rows(work)
    set_up = partial(new_exporter, export, work)
    make_shards(f"export {format}", work, [size] * PIECES, set_up, cluster)
    committed = sorted(path.stat().st_mtime for path in (work / RECORDS).glob("*.json"))
    return (PIECES - WORKERS) * size / (committed[-1] - committed[WORKERS - 1])


def memory_of_rows(format: str) -> int:
    """Do the work of the process that starts the workers; return its peak memory in bytes."""
    export_of(format, BALANCED, Export(images_per_file=SHARD)).write_rows(WORK)
    return peak_bytes()


def memory_of_pieces(format: str) -> int:
    """Write pieces as a worker does, and finish the export.

    Args:
        format: of the export, after `memory_of_rows` has sorted its rows.

    Returns:
        the largest memory of the process's own after a piece or at the end, in bytes.
    """
    export = export_of(format, BALANCED, Export(images_per_file=SHARD))
    make = new_exporter(export, WORK)
    records, weights = {}, []
    for piece in export.pieces:
        records[piece.number] = make(piece.number, int)
        weights.append(own_bytes())
    export.finish(WORK, records)
    return max(*weights, own_bytes())


def bytes_of(function: Callable[[str], int], format: str) -> int:
    """Return the result of a function of this module, run in a process of its own."""
    command = f"from benchmarks import exports; print(exports.{function.__name__}({format!r}))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, stdout=subprocess.PIPE, check=True
    )
    return int(done.stdout.split()[-1])


def memory_growth() -> list[Result]:
    """Compare the memory of exporting many images with that of few, in both kinds of processes."""
    taken: dict[str, dict[int, int]] = {key: {} for key in ("export", "export_images", "export_rows")}
    for count in (FEW, MANY, FEW_ROWS, MANY_ROWS):
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            make_project(np.zeros((count, 1, 1, 3), np.uint8))
            rows = bytes_of(memory_of_rows, "webdataset")
            if count >= FEW_ROWS:
                taken["export_rows"][count] = rows
                continue
            taken["export"][count] = bytes_of(memory_of_pieces, "webdataset")
            shutil.rmtree(WORK)
            bytes_of(memory_of_rows, "imagefolder")
            taken["export_images"][count] = bytes_of(memory_of_pieces, "imagefolder")
    return [_growth(f"{key}_memory_growth", by_count) for key, by_count in taken.items()]


def _growth(key: str, taken: dict[int, int]) -> Result:
    (few, less), (many, more) = taken.items()
    detail = f"{less / 2**20:.0f} MiB for {few:,} images, {more / 2**20:.0f} MiB for {many:,}"
    return Result(key, more / less, 1.1, False, detail)


def measure() -> list[Result]:
    """Run all benchmarks of this module."""
    from benchmarks.training import (
        smooth_images,
    )  # late: it imports torch, which no worker of an export loads

    results = memory_growth()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        make_project(smooth_images(IMAGES))
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
