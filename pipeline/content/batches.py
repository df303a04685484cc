"""Computes in batches, with smaller ones if the device's memory does not suffice; copies images from it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.content.tensors import tensor_to_images
from pipeline.errors import UserError

UNIT = 64  # items that a GPU computes at once


def in_batches(
    compute: Callable[[int, int], object],
    count: int,
    batch_size: int,
    on_batch: Callable[[int], object] = lambda items: None,
) -> int:
    """Call ``compute(start, stop)`` for batches of items 0 to count - 1.

    If the device has no memory for a batch, this batch and all later ones are halved.

    Args:
        compute: computes the items from `start` to before `stop`.
        count: the number of items.
        batch_size: the number of items in a batch at first.
        on_batch: called after each batch with the number of its items.

    Returns:
        The batch size that the memory sufficed for.

    Raises:
        UserError: not even a single item fits.
        RuntimeError: `compute` failed for another reason than memory.
    """
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    start = 0
    while start < count:
        stop = min(start + batch_size, count)
        try:
            compute(start, stop)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if stop - start == 1:
                raise UserError(
                    "the device has no memory for a batch of one: free some, or set runtime.device to cpu."
                ) from error
            batch_size = (stop - start) // 2
        else:
            on_batch(stop - start)
            start = stop
            continue
        # After the except clause: until then the error holds the batch's tensors.
        clear_device_cache(garbage_collection=True)
        print(
            f"the device has no memory for a batch of {stop - start}: going on with {batch_size}", flush=True
        )
    return batch_size


def evened(batch: Tensor) -> Tensor:
    """Repeat the last item of a batch whose length is odd.

    In bfloat16 the CPU's kernels compute the last item of an odd number differently, by up to 8 of 255; the
    result for an item must not depend on its batch.

    Args:
        batch: [n, ...].

    Returns:
        [n, ...] for even n, else [n + 1, ...]: drop the result for the last item.
    """
    return batch if len(batch) % 2 == 0 else torch.cat([batch, batch[-1:]])


def alike(network: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Apply a network to a batch so that an item's result is the same in batches of any size.

    A GPU's kernels round differently for each batch size, in bfloat16 by up to 6 of 255. So on a GPU the
    network gets `UNIT` items at a time, which keep it as busy as more would; the last unit is filled up with
    copies of the last item.

    Args:
        network: maps [n, ...] to [n, ...].
        batch: [n, ...].

    Returns:
        The network's output for the n items, [n, ...].
    """
    if not batch.is_cuda:
        return network(evened(batch))[: len(batch)]
    missing = -len(batch) % UNIT
    filled = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
    return torch.cat([network(part) for part in filled.split(UNIT)])[: len(batch)]


class ImagesToHost:
    """Collects batches of images in one array; copies from a GPU while the next batch is rendered.

    Args:
        count: the number of images in all batches together.
        device: the device that the batches are on.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.count = count
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.images: Tensor | None = None

    def put(self, start: int, images: Tensor) -> None:
        """Take float images [b, 3, H, W] in [-1, 1] as numbers `start` to `start + b - 1`."""
        batch = tensor_to_images(images)
        if self.images is None:
            shape = (self.count, *batch.shape[1:])
            self.images = torch.empty(shape, dtype=torch.uint8, pin_memory=self.copying is not None)
        place = self.images[start : start + len(batch)]
        if self.copying is None:
            place.copy_(batch)
            return
        self.copying.wait_stream(torch.cuda.current_stream(batch.device))
        with torch.cuda.stream(self.copying):
            place.copy_(batch, non_blocking=True)
        batch.record_stream(self.copying)

    def array(self) -> NDArray[np.uint8]:
        """Wait for the copies to end and return all images: uint8 [n, H, W, 3]."""
        assert self.images is not None, "no batch was put"
        if self.copying is not None:
            self.copying.synchronize()
        images: NDArray[np.uint8] = self.images.numpy()
        return images
