"""Rendering latents: images in batches, by a generator that `generators/networks/loading.py` loaded."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from pipeline.content.batches import ImagesToHost, alike, in_batches


def render(
    generator: Callable[[torch.Tensor], torch.Tensor],
    latents: NDArray[np.float32],
    batch_size: int,
    accelerator: Accelerator,
    on_batch: Callable[[int], object] = lambda count: None,
) -> NDArray[np.uint8]:
    """Render the images G(z) of latents, [-1, 1] mapped to [0, 255].

    The images become uint8 on the device, and leave a GPU while the next batch renders. A batch for which the
    memory does not suffice is halved.

    Args:
        generator: z [b, D] to images [b, 3, H, W] in [-1, 1].
        latents: z, float32 [n, D].
        batch_size: latents to render at once, at most.
        accelerator: the device and the precision.
        on_batch: called with the number of images of each batch that is done.

    Returns:
        The images, uint8 [n, H, W, 3].
    """
    images = ImagesToHost(len(latents), accelerator.device)
    z = torch.from_numpy(latents).to(accelerator.device)

    def render_batch(start: int, stop: int) -> None:
        with accelerator.autocast():
            rendered = alike(generator, z[start:stop])
        images.put(start, rendered)

    with torch.inference_mode():
        in_batches(render_batch, len(latents), batch_size, on_batch)
    return images.array()
