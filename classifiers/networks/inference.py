"""Computes a network's outputs for images, in batches of any size."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.content.arrays import FloatArray, IntArray
from pipeline.content.batches import alike, in_batches
from pipeline.content.tensors import images_to_tensor

EVALUATION_BATCH = 512  # images


def per_image(
    network: nn.Module,
    output: Callable[[Tensor], Tensor],
    read: Callable[[IntArray], NDArray[np.uint8]],
    count: int,
    accelerator: Accelerator,
    batch_size: int = EVALUATION_BATCH,
    on_batch: Callable[[int], object] = lambda images: None,
) -> FloatArray:
    """Compute an output of a network in evaluation mode for images 0 to count - 1.

    Args:
        network: put into evaluation mode meanwhile.
        output: computes the output [n, ...] of images [n, 3, H, W] in [-1, 1]; it calls the network.
        read: maps positions [n] to uint8 [n, H, W, 3].
        count: the number of images.
        accelerator: the device and the precision.
        batch_size: the number of images in a batch; it is halved if memory does not suffice.
        on_batch: called after each batch with the number of its images.

    Returns:
        [count, ...].
    """
    parts: list[Tensor] = []

    def compute(start: int, stop: int) -> None:
        images = images_to_tensor(read(np.arange(start, stop)), accelerator.device)
        with accelerator.autocast():
            values = alike(output, images)
        # Without waiting for a GPU: the next images are read while it computes.
        parts.append(values.float().to("cpu", non_blocking=True))

    was_training = network.training
    network.eval()
    with torch.inference_mode():
        in_batches(compute, count, batch_size, on_batch)
    network.train(was_training)
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)
    return torch.cat(parts).numpy().astype(np.float64)


def predict(
    network: nn.Module,
    read: Callable[[IntArray], NDArray[np.uint8]],
    count: int,
    accelerator: Accelerator,
    batch_size: int = EVALUATION_BATCH,
    on_batch: Callable[[int], object] = lambda images: None,
) -> FloatArray:
    """Compute the network's scores σ(logit) of images 0 to count - 1: [count] in [0, 1]; see `per_image`."""

    def scores(images: Tensor) -> Tensor:
        return torch.sigmoid(network(images).float())

    return per_image(network, scores, read, count, accelerator, batch_size, on_batch)
