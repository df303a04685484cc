"""Makes the batch of a step: images mirrored and moved at random, and their labels, on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from classifiers.networks.images import LabelledImages
from classifiers.training.parameters import Training
from pipeline.content.arrays import IntArray
from pipeline.content.seeds import generator_for
from pipeline.content.tensors import images_to_tensor


@dataclass(frozen=True)
class Batch:
    """Images and labels of one process's part of a batch.

    Attributes:
        images: [n, 3, H, W] in [-1, 1].
        targets: [n] in {0, 1}.
        groups: [n], integers below the number of groups.
    """

    images: Tensor
    targets: Tensor
    groups: Tensor


def batch_at(
    data: LabelledImages, positions: IntArray, settings: Training, step: int, accelerator: Accelerator
) -> Batch:
    """Read this process's part of the batch at `positions`, mirrored and moved as (seed, step) decide.

    Args:
        data: the images.
        positions: of the whole batch in `data`, [n].
        settings: flip, shift and seed.
        step: its number in the whole training.
        accelerator: the device, and the number of this process.

    Returns:
        Every num_processes-th image of the batch, beginning with this process's number.
    """
    mirrored = generator_for(settings.seed, "flip", step).random(len(positions)) < 0.5
    moves = generator_for(settings.seed, "shift", step).uniform(-1, 1, (len(positions), 2))
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    positions, mirrored, moves = positions[mine], mirrored[mine], moves[mine]
    pixels = data.read(positions)
    if settings.flip:
        pixels[mirrored] = pixels[mirrored, :, ::-1]
    if settings.shift:
        pixels = shifted(pixels, np.rint(moves * settings.shift * pixels.shape[1]).astype(np.int64))
    return Batch(
        images=images_to_tensor(pixels, accelerator.device),
        targets=torch.from_numpy(data.targets[positions]).to(accelerator.device),
        groups=torch.from_numpy(data.groups[positions]).to(accelerator.device),
    )


def shifted(pixels: NDArray[np.uint8], moves: IntArray) -> NDArray[np.uint8]:
    """Move images [n, H, W, C] down and to the right by `moves` [n, 2] pixels; edges are repeated."""
    height, width = pixels.shape[1:3]
    rows = np.clip(np.arange(height) - moves[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - moves[:, 1:], 0, width - 1)
    moved: NDArray[np.uint8] = pixels[
        np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return moved
