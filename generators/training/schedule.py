"""The steps of a training of a progressive GAN: at which resolution, and how far a layer is faded in."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.networks.progressive import resolutions_up_to
from generators.training.parameters import TrainGAN


@dataclass(frozen=True)
class Step:
    """Describes one step of the schedule.

    Attributes:
        number: among all steps, from 0.
        resolution: px.
        alpha: how far the resolution is faded in, in (0, 1].
        batch_size: images, over all processes.
        ema_decay: the weight of the old value in the generator's average.
    """

    number: int
    resolution: int
    alpha: float
    batch_size: int
    ema_decay: float


def schedule(parameters: TrainGAN) -> list[Step]:
    """List all steps of a training.

    The half-life of the generator's average is a share of the images seen so far at the resolution, but at
    most `ema_images`: a long one would leave a short training's average blurred.

    Args:
        parameters: the section `train_gan`.

    Returns:
        The steps, in order.
    """
    sizes = resolutions_up_to(parameters.resolution) if parameters.growing else [parameters.resolution]
    steps: list[Step] = []
    for size in sizes:
        total, batch = parameters.steps[size], parameters.batch_size[size]
        fading = round(total * parameters.fade_in) if size > sizes[0] else 0
        for k in range(total):
            half_life = min(parameters.ema_images, parameters.ema_share * (k + 1) * batch)
            steps.append(
                Step(
                    number=len(steps),
                    resolution=size,
                    alpha=min(1.0, (k + 1) / fading) if fading else 1.0,
                    batch_size=batch,
                    ema_decay=0.5 ** (batch / half_life),
                )
            )
    return steps


def shrink(images: Tensor, resolution: int, alpha: float) -> Tensor:
    """Resize real images to a resolution of the schedule, blended as far as it is faded in.

    Args:
        images: [n, 3, H, W].
        resolution: px.
        alpha: the share of the resolution itself; the rest is that of half the resolution, enlarged.

    Returns:
        The images, [n, 3, resolution, resolution].
    """
    images = F.interpolate(images, size=(resolution, resolution), mode="area")
    if alpha < 1.0:
        coarse = F.avg_pool2d(images, 2)
        images = torch.lerp(F.interpolate(coarse, scale_factor=2, mode="nearest"), images, alpha)
    return images
