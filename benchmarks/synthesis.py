"""Benchmarks of rendering and labelling, store to store: speed against the bare networks, memory, bytes."""

import shutil
from functools import partial

import numpy as np
import torch

from benchmarks.measuring import Result, compare, resident_bytes
from benchmarks.models import ATTRIBUTE, Subject, project_of, subject_for
from classifiers.labellers import load_labeller
from classifiers.parameters import Label
from generators.networks.loading import load_generator
from generators.parameters import Synthesize
from pipeline.cluster import Advancing, MakeShard, Record, make_shards
from pipeline.content.stores import Store, finish_store, shard_sizes
from pipeline.parameters import Cluster, Runtime
from pipeline.runtime import new_accelerator
from stages.label import new_labeller, pilot_shifts
from stages.shared.paths import ATTRIBUTES, GENERATOR, LABELS, LATENTS, SYNTHETIC
from stages.synthesize import new_renderer

RUNTIME = Runtime()


class BareNetworks:
    """The forward passes alone, of the same batches in the same dtype, with the latents on the device."""

    def __init__(self, subject: Subject) -> None:
        self.accelerator = new_accelerator(RUNTIME)
        device = self.accelerator.device
        self.generator = load_generator(GENERATOR, device)
        self.classifier, _ = load_labeller(ATTRIBUTES / ATTRIBUTE, device)
        self.latents = torch.from_numpy(Store(LATENTS / "z").read_between(0, subject.images)).to(device)
        self.batch_size = subject.batch_size

    @torch.inference_mode()
    def forward(self, label: bool) -> None:
        """Render all latents and, if `label`, classify the images."""
        with self.accelerator.autocast():
            for batch in self.latents.split(self.batch_size):
                images = self.generator(batch)
                if label:
                    self.classifier(images)
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize()


def remove_stores() -> None:
    """Remove the outputs of `synthesize` and `label`, as DVC does before a stage."""
    for work in (SYNTHETIC / "z", LABELS / "z"):
        shutil.rmtree(work, ignore_errors=True)


def synthesize(subject: Subject, on_shard: list[int] | None = None) -> None:
    """Run the stage's work, from latents on disk to a finished store; append memory to `on_shard`."""
    work = SYNTHETIC / "z"
    sizes = shard_sizes(subject.images, subject.shard_size)
    section = Synthesize(batch_size=subject.batch_size, shard_size=subject.shard_size)

    def set_up() -> MakeShard:
        make = new_renderer("z", section, RUNTIME, work)

        def make_and_weigh(shard: int, advance: Advancing) -> Record:
            record = make(shard, advance)
            if on_shard is not None:
                on_shard.append(resident_bytes())
            return record

        return make_and_weigh

    make_shards("synthesize", work, sizes, set_up, Cluster(mode="inline"), runtime=RUNTIME)
    finish_store(work, len(sizes), "images", (subject.resolution, subject.resolution, 3), "uint8")


def label(subject: Subject) -> None:
    """Run the stage's work, from images on disk to a finished store of scores."""
    work = LABELS / "z"
    sizes = Store(SYNTHETIC / "z").items_per_shard
    section = Label(batch_size=subject.batch_size)
    shifts = pilot_shifts("z", [ATTRIBUTE], section, RUNTIME)
    set_up = partial(new_labeller, "z", [ATTRIBUTE], section, RUNTIME, shifts, work)
    make_shards("label", work, sizes, set_up, Cluster(mode="inline"), runtime=RUNTIME)
    finish_store(work, len(sizes))


def measure() -> list[Result]:
    """Run all benchmarks of this module."""
    subject = subject_for(RUNTIME)
    with project_of(subject):
        bare = BareNetworks(subject)
        on = f"{subject.resolution} px, {bare.accelerator.device.type}, batch {subject.batch_size}"
        ratio, theirs, ours = compare(
            lambda: bare.forward(False), lambda: synthesize(subject), prepare=remove_stores
        )
        rates = f"{subject.images / theirs:,.0f} images/s bare, {subject.images / ours:,.0f} to disk ({on})"
        results = [Result("synthesize_efficiency", ratio, 0.9, True, rates)]

        def both() -> None:
            synthesize(subject)
            label(subject)

        ratio, theirs, ours = compare(lambda: bare.forward(True), both, prepare=remove_stores)
        rates = f"{subject.images / theirs:,.0f} images/s bare, {subject.images / ours:,.0f} to disk ({on})"
        results.append(Result("label_efficiency", ratio, 0.9, True, rates))
        if bare.accelerator.device.type == "cuda":
            rates = f"rendered, labelled and on disk ({on})"
            results.append(Result("images_per_second", subject.images / ours, 6000, True, rates))

        weights: list[int] = []
        remove_stores()
        synthesize(subject, weights)
        later = np.array(weights[1:])
        detail = f"{later[0] / 2**20:.0f} to {later[-1] / 2**20:.0f} MiB, shards 2 to {len(weights)}"
        growth = float(later.max() / later[0])
        results.append(Result("synthesize_memory_growth", growth, 1.05, False, detail))

        files = [path for path in (SYNTHETIC / "z").rglob("*") if path.is_file()]
        on_disk = sum(path.stat().st_size for path in files) / subject.images
        pixels = subject.resolution**2 * 3
        detail = f"{on_disk:,.0f} bytes on disk per image of {pixels:,} pixel bytes"
        results.append(Result("image_bytes_ratio", on_disk / pixels, 1.05, False, detail))
    return results
