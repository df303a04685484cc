"""Benchmarks of training: input against a folder of JPEGs, Group DRO's step and memory against ERM's."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measuring import Result, compare, resident_bytes
from classifiers.networks.backbones import new_backbone
from classifiers.networks.images import LabelledImages
from classifiers.networks.parameters import Backbone
from classifiers.training.loop import in_one_phase, train_classifier
from classifiers.training.methods.base import Method
from classifiers.training.methods.erm import ERM
from classifiers.training.methods.group_dro import GroupDRO
from classifiers.training.parameters import Optimizer, Training
from classifiers.training.samplers import UniformSampler
from pipeline.content.resumable import Session
from pipeline.content.seeds import generator_for
from pipeline.content.stores import Store, commit_shard, finish_store
from pipeline.content.tensors import images_to_tensor
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

RUNTIME = Runtime()
IMAGES, RESOLUTION, BATCH = 4096, 64, 128  # images, px, images
N_GROUPS = 4
STEPS = 60  # of a timed training
MEMORY_STEPS = 3000  # of the training whose memory is measured; the first third warms up
WEIGHED_EVERY = 50  # steps
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def smooth_images(count: int) -> NDArray[np.uint8]:
    """Make images [count, RESOLUTION, RESOLUTION, 3] that compress as photographs do."""
    coarse = generator_for(0, "images").integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(c).resize((RESOLUTION, RESOLUTION), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(picture) for picture in pictures])


def from_store(folder: Path, images: NDArray[np.uint8]) -> Iterator[torch.Tensor]:
    """Yield the batches of one epoch as trainings take them."""
    store = Store(folder)
    sampler = UniformSampler(np.zeros(len(images), dtype=np.int64), BATCH, seed=0)
    for step in range(len(images) // BATCH):
        yield images_to_tensor(store.read(sampler(step)), torch.device("cpu"))


def input_speedup() -> Result:
    """Compare reading batches from a store with decoding JPEGs from a folder."""
    import pandas as pd
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    images = smooth_images(IMAGES)
    with tempfile.TemporaryDirectory() as temporary:
        jpegs, folder = Path(temporary) / "jpeg", Path(temporary) / "store"
        for number, image in enumerate(images):
            path = jpegs / str(number % 2) / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)
        rows = pd.DataFrame({"id": [str(number) for number in range(len(images))]})
        commit_shard(folder, 0, rows, "images", images)
        finish_store(folder, 1, "images", images.shape[1:], "uint8")
        to_tensor = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        dataset = ImageFolder(str(jpegs), transforms.Compose(to_tensor))
        loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, persistent_workers=True)

        def consume(batches: Iterator[torch.Tensor]) -> None:
            for batch in batches:
                assert batch.shape == (BATCH, 3, RESOLUTION, RESOLUTION)

        ratio, theirs, ours = compare(
            lambda: consume(batch for batch, _ in loader), lambda: consume(from_store(folder, images))
        )
    detail = f"{IMAGES / theirs:,.0f} images/s from JPEGs with 2 workers, {IMAGES / ours:,.0f} from the store"
    return Result("input_speedup", ratio, 3, True, f"{detail} ({RESOLUTION} px)")


def labelled_images(count: int, resolution: int, on_read: Callable[[], object] = int) -> LabelledImages:
    """Return random images of `N_GROUPS` groups; `on_read` is called at every step of a training."""
    random = generator_for(0, "labelled")
    images = random.integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)
    groups = random.integers(0, N_GROUPS, count)

    def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        on_read()
        return images[positions]

    ids = np.array([str(number) for number in range(count)], dtype=object)
    return LabelledImages(ids, read, groups // (N_GROUPS // 2), groups)


def run_training(method: Method, data: LabelledImages, steps: int, batch_size: int, width: int) -> None:
    """Run the training loop of the stages, with one evaluation on a few images.

    Args:
        method: ERM or Group DRO.
        data: the training images.
        steps: of the training.
        batch_size: images.
        width: of the network.
    """
    settings = Training(
        backbone=Backbone(width=width), optimizer=Optimizer(learning_rate=1e-3),
        steps=steps, batch_size=batch_size, evaluations=1, flip=False, shift=0.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "state.pt"
        train_classifier(
            Session("train", new_accelerator(RUNTIME), checkpoint, RUNTIME.checkpoint_seconds),
            new_backbone(settings.backbone, 0),
            in_one_phase(data, method, settings),
            labelled_images(64, data.read(np.zeros(1, dtype=np.int64)).shape[1]),
            settings,
            {"accuracy": lambda scores, images: 0.0},
        )


def dro_step_ratio() -> Result:
    """Compare the time of a step of Group DRO with ERM's."""
    data = labelled_images(2048, 32)
    counts = data.group_counts(N_GROUPS)
    inverse, erm, dro = compare(
        lambda: run_training(ERM(), data, STEPS, BATCH, 32),
        lambda: run_training(GroupDRO(counts), data, STEPS, BATCH, 32),
    )
    detail = f"{erm / STEPS * 1e3:.1f} ms a step of ERM, {dro / STEPS * 1e3:.1f} of Group DRO (batch {BATCH})"
    return Result("dro_step_ratio", 1 / inverse, 1.05, False, detail)


def dro_memory_slope() -> Result:
    """Measure how fast memory grows during a training with Group DRO."""
    steps = itertools.count()
    weights: dict[int, int] = {}

    def weigh() -> None:
        step = next(steps)
        if step >= MEMORY_STEPS // 3 and step % WEIGHED_EVERY == 0:
            weights[step] = resident_bytes()

    data = labelled_images(256, 16, weigh)
    run_training(GroupDRO(data.group_counts(N_GROUPS)), data, MEMORY_STEPS, 16, 4)
    slope = float(np.polyfit(list(weights), list(weights.values()), 1)[0])
    detail = f"over {MEMORY_STEPS * 2 // 3:,} steps, {max(weights.values()) / 2**20:.0f} MiB in use"
    return Result("dro_memory_slope_bytes", slope, 1024, False, detail)


def measure() -> list[Result]:
    """Run all benchmarks of this module."""
    return [input_speedup(), dro_step_ratio(), dro_memory_slope()]
