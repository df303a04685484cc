"""Computing in batches, smaller ones where the memory of the device does not suffice; images leaving it."""

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
    """Call ``compute(start, stop)`` for items 0 to count - 1; the batch size that memory sufficed for.

    A batch that the device has no memory for is halved and computed again, and so are those after it.
    `UserError` where a single item does not fit.
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
        # Only here, where the error that holds the batch's tensors is gone.
        clear_device_cache(garbage_collection=True)
        print(
            f"the device has no memory for a batch of {stop - start}: going on with {batch_size}", flush=True
        )
    return batch_size


def evened(batch: Tensor) -> Tensor:
    """A batch [n, ...] with its last item twice where n is odd; drop what comes of the second.

    In bfloat16 the CPU's kernels compute the last of an odd number otherwise, by up to 8 of 255: what comes
    of an item is not to depend on its batch.
    """
    return batch if len(batch) % 2 == 0 else torch.cat([batch, batch[-1:]])


def alike(network: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """What a network makes of a batch [n, ...]: of every item the same in batches of any size.

    A GPU's kernels round otherwise in every size of batch, in bfloat16 by up to 6 of 255. So there the
    network gets `UNIT` items at a time, which keep it as busy as more would; the last ones are filled up.
    """
    if not batch.is_cuda:
        return network(evened(batch))[: len(batch)]
    missing = -len(batch) % UNIT
    filled = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])
    return torch.cat([network(part) for part in filled.split(UNIT)])[: len(batch)]


class ImagesToHost:
    """Collects batches of images in one array: from a GPU, while the next batch renders.

    Args:
        count: n of all batches together.
        device: where the batches are.
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
        """All images, once they are here: uint8 [n, H, W, 3]."""
        assert self.images is not None, "no batch was put"
        if self.copying is not None:
            self.copying.synchronize()
        images: NDArray[np.uint8] = self.images.numpy()
        return images
