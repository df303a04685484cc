"""Makes the batch of a step: images mirrored and moved at random, and their labels, on the device."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from classifiers.networks.images import LabelledImages
from classifiers.training.parameters import Training
from pipeline.content.arrays import IntArray
from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.tensors import images_to_tensor


@dataclass(frozen=True)
class Batch:
    """Images and labels of one process's part of a batch.

    Attributes:
        images: [n, 3, H, W] in [-1, 1].
        targets: [n] in {0, 1}.
        groups: [n], integers below the number of groups.
        known: whether the image's protected group is known, [n] bool; where it is not, `groups` has the
            right target and, of the protected groups, the most likely one.
        synthetic: whether a generator has rendered the image, so that its labels are inferred, [n] bool.
        positions: of the images in the phase's training images, [n].
        places: of the images in the whole batch of all processes, [n], integers below `size`.
        size: the number of images in the whole batch.
        progress: the share of the phase's steps that are done, in [0, 1).
        seed: of whatever is random in this step; the same for all processes.
        memberships: how likely each image is of each group, [n, n_groups]; None: images whose group is not
            known are left out of the groups.
    """

    images: Tensor
    targets: Tensor
    groups: Tensor
    known: Tensor
    synthetic: Tensor
    positions: Tensor
    places: Tensor
    size: int
    progress: float
    seed: int
    memberships: Tensor | None = None

    def sums_by_group(self, values: Tensor, n_groups: int) -> Tensor:
        """Sum numbers of the images [n] by group, each image by its memberships: [n_groups]."""
        if self.memberships is not None:
            return self.memberships.T @ values
        return values.new_zeros(n_groups).index_add(0, self.groups, values * self.known)


def batch_at(
    data: LabelledImages,
    positions: IntArray,
    settings: Training,
    step: int,
    progress: float,
    accelerator: Accelerator,
) -> Batch:
    """Read this process's part of the batch at `positions`, mirrored and moved as (seed, step) decide.

    A sampler that draws several images for each place of a batch, such as pairs to be mixed, returns rows:
    a row stays together in one process.

    Args:
        data: the images.
        positions: of the whole batch in `data`: [B], or [B, m] with m images in each row.
        settings: flip, shift and seed.
        step: its number in the whole training.
        progress: the share of the phase's steps that are done, in [0, 1).
        accelerator: the device, and the number of this process.

    Returns:
        Every num_processes-th row of the batch, beginning with this process's number: the first images of
        the rows, then their second ones, and so on.
    """
    mirrored = generator_for(settings.seed, "flip", step).random(positions.shape) < 0.5
    moves = generator_for(settings.seed, "shift", step).uniform(-1, 1, (*positions.shape, 2))
    places = np.arange(positions.size).reshape(positions.shape[::-1]).T
    mine = slice(accelerator.process_index, None, accelerator.num_processes)
    size, positions, places = positions.size, _in_columns(positions[mine]), _in_columns(places[mine])
    mirrored, moves = _in_columns(mirrored[mine]), moves[mine].swapaxes(0, -2).reshape(-1, 2)
    pixels = data.read(positions)
    if settings.flip:
        pixels[mirrored] = pixels[mirrored, :, ::-1]
    if settings.shift:
        pixels = shifted(pixels, np.rint(moves * settings.shift * pixels.shape[1]).astype(np.int64))
    everywhere = np.ones(len(data), dtype=bool)

    def on_device(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(accelerator.device)

    return Batch(
        images=images_to_tensor(pixels, accelerator.device),
        targets=on_device(data.targets[positions]),
        groups=on_device(data.groups[positions]),
        known=on_device((everywhere if data.known is None else data.known)[positions]),
        synthetic=on_device((~everywhere if data.synthetic is None else data.synthetic)[positions]),
        positions=on_device(positions),
        places=on_device(places),
        size=size,
        progress=progress,
        seed=derived_seed(settings.seed, "method", step),
        memberships=None if data.memberships is None else on_device(data.memberships[positions]).float(),
    )


def _in_columns(values: NDArray[Any]) -> NDArray[Any]:
    """Flatten the rows of a batch, [n] or [n, m]: the first column, then the second, and so on."""
    return values.T.reshape(-1)


def shifted(pixels: NDArray[np.uint8], moves: IntArray) -> NDArray[np.uint8]:
    """Move images [n, H, W, C] down and to the right by `moves` [n, 2] pixels; edges are repeated."""
    height, width = pixels.shape[1:3]
    rows = np.clip(np.arange(height) - moves[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - moves[:, 1:], 0, width - 1)
    moved: NDArray[np.uint8] = pixels[
        np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return moved
