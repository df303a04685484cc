"""Benchmark of two local workers against one, each with one thread of torch."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.measuring import ROUNDS, Result
from benchmarks.models import Subject, project_of, subject_for
from generators.parameters import Synthesize
from pipeline.cluster import make_shards
from pipeline.content.index import RECORDS
from pipeline.content.stores import shard_sizes
from pipeline.parameters import Cluster, Runtime
from stages.shared.paths import SYNTHETIC
from stages.synthesize import new_renderer

RUNTIME = Runtime()
SHARDS, SHARD_SIZE = 12, 1024


def rate(subject: Subject, workers: int) -> float:
    """Return images per second while all workers run: from their first shards' commits to the last one."""
    work = SYNTHETIC / "z"
    shutil.rmtree(work, ignore_errors=True)
    section = Synthesize(batch_size=subject.batch_size, shard_size=SHARD_SIZE)
    sizes = shard_sizes(subject.images, SHARD_SIZE)
    set_up = partial(new_renderer, "z", section, RUNTIME, work)
    cluster = Cluster(mode="local", workers=workers, threads=1)
    make_shards(f"synthesize, {workers} workers", work, sizes, set_up, cluster, runtime=RUNTIME)
    committed = sorted(path.stat().st_mtime for path in (work / RECORDS).glob("*.json"))
    return (SHARDS - workers) * SHARD_SIZE / (committed[-1] - committed[workers - 1])


def measure() -> list[Result]:
    """Compare the rate of two workers with that of one."""
    subject = replace(subject_for(RUNTIME), images=SHARDS * SHARD_SIZE)
    with project_of(subject):
        rates = np.array([[rate(subject, 1), rate(subject, 2)] for _ in range(ROUNDS)])
    one, two = np.median(rates, axis=0)
    detail = f"{one:,.0f} images/s with one worker, {two:,.0f} with two"
    return [Result("two_worker_speedup", float(np.median(rates[:, 1] / rates[:, 0])), 1.6, True, detail)]
