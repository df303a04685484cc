"""Benchmarks of complements: one matrix product for all latents against a loop; constant memory."""

import contextlib
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measuring import Result, compare, peak_bytes, seconds
from generators.complements import Constraints, complement, subset_flips
from generators.hyperplanes import Hyperplane, Planes
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.stores import Store, commit_shard, finish_store, shard_sizes
from pipeline.parameters import Cluster
from stages.shared.paths import LABELS, LATENTS

VECTORS, DIM = 160_000, 512  # the paper's
FEW, MANY, STREAMED_DIM = 100_000, 10_000_000, 16  # latents; narrow ones do: memory goes by shards
SHARD = 65536
NAMES = ["target", "protected"]
POSITIVE = np.array([0.2, 0.4])  # shares of the labels
PER_GROUP = 0.25  # of all latents; two groups have more than this


def random_planes(dim: int) -> Planes:
    """Return two random hyperplanes: one to keep, one to flip."""
    random = np.random.default_rng(0)
    target, protected = random.standard_normal((2, dim))
    return Planes(
        Hyperplane("target", target / np.linalg.norm(target), 0.3),
        (Hyperplane("protected", protected / np.linalg.norm(protected), -0.2),),
    )


def one_by_one(latents: NDArray[np.float32], of: Constraints) -> NDArray[np.float32]:
    """Compute the baseline: the same formula for one latent after another."""
    W = of.normals
    moved = np.empty_like(latents)
    for row, z in enumerate(latents):
        distances = W @ z + of.offsets
        moved[row] = z + W.T @ np.linalg.solve(W @ W.T, (of.factors - 1.0) * distances)
    return moved


def speedup() -> Result:
    """Compare one product for all latents with a loop over them."""
    latents = np.random.default_rng(1).standard_normal((VECTORS, DIM), dtype=np.float32)
    moved = np.empty_like(latents)
    (of,) = subset_flips("complement", random_planes(DIM))[0].by_domain
    complement(latents, of, out=moved)
    np.testing.assert_allclose(moved[:100], one_by_one(latents[:100], of), atol=1e-5)
    ratio, theirs, ours = compare(lambda: one_by_one(latents, of), lambda: complement(latents, of, out=moved))
    copied = seconds(lambda: np.copyto(moved, latents))
    detail = f"{theirs:.2f} s one by one, {ours * 1e3:.0f} ms; {copied * 1e3:.0f} ms to copy them"
    return Result("complement_speedup", ratio, 100, True, detail)


def new_random_sampler(folder: Path, sizes: list[int]) -> MakeShard:
    """Return the function that writes a shard of latents to pair, as the stage `sample` does."""

    def make(shard: int, advance: Advancing) -> Record:
        random = np.random.default_rng(shard)
        latents = random.standard_normal((sizes[shard], STREAMED_DIM), dtype=np.float32)
        numbers = range(shard * SHARD, shard * SHARD + sizes[shard])
        rows = pd.DataFrame({"id": [f"z-{number:08d}" for number in numbers], "part": "pair"})
        return commit_shard(folder, shard, rows, "latents", latents)

    return make


def new_random_labeller(folder: Path, sizes: list[int]) -> MakeShard:
    """Return the function that writes random labels of a shard of latents, as the stage `label` does."""

    def make(shard: int, advance: Advancing) -> Record:
        scores = np.random.default_rng(shard).random((sizes[shard], len(NAMES)))
        rows = Store(LATENTS / "z").rows_between(shard * SHARD, shard * SHARD + sizes[shard])[["id"]]
        for name, score, share in zip(NAMES, scores.T, POSITIVE, strict=True):
            rows = rows.assign(**{f"{name}_score": score, name: (score < share).astype(np.int64)})
        return commit_shard(folder, shard, rows)

    return make


def stream(count: int) -> None:
    """Make `count` latents, labels, and complements of the first of each group; print the peak memory."""
    from stages.complement import first_of_each_group, metrics_of, new_complementer

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        store, labels, work = LATENTS / "z", LABELS / "z", Path("work")
        sizes = shard_sizes(count, SHARD)
        make_shards(
            "sample",
            store,
            sizes,
            partial(new_random_sampler, store, sizes),
            Cluster(mode="inline"),
            "latents",
        )
        finish_store(store, len(sizes), "latents", (STREAMED_DIM,), "float32")
        make_shards(
            "label",
            labels,
            sizes,
            partial(new_random_labeller, labels, sizes),
            Cluster(mode="inline"),
            "latents",
        )
        finish_store(labels, len(sizes))
        planes = random_planes(STREAMED_DIM)
        flips = subset_flips("complement", planes)
        chosen = first_of_each_group(NAMES, int(PER_GROUP * count))
        on_sphere, normalises = False, True
        set_up = partial(
            new_complementer, "z", flips, planes, None, on_sphere, normalises, chosen, None, work
        )
        make_shards("complement", work, sizes, set_up, Cluster(mode="inline"), "latents")
        finish_store(work, len(sizes), "latents", (STREAMED_DIM,), "float32")
        metrics_of(Store(work), flips)
    print(peak_bytes())


def memory_growth() -> Result:
    """Compare the peak memory of many latents with that of few."""
    peaks = []
    for count in (FEW, MANY):
        command = [sys.executable, "-m", "benchmarks.complement", str(count)]
        peaks.append(int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.split()[-1]))
    detail = f"{peaks[0] / 2**20:.0f} MiB for {FEW:,} latents, {peaks[1] / 2**20:.0f} MiB for {MANY:,}"
    return Result("complement_memory_growth", peaks[1] / peaks[0], 1.1, False, detail)


def measure() -> list[Result]:
    """Run all benchmarks of this module."""
    return [speedup(), memory_growth()]


if __name__ == "__main__":
    stream(int(sys.argv[1]))
