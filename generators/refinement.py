"""Refined complements: a few gradient steps through the generator and the classifiers.

A linear complement lies where the hyperplanes want it, but its image has the wanted attributes only as far
as attributes are linear in the latents. From the linear complement, each latent is moved on until the
classifiers see in its image what the complement promises, and no further than necessary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from generators.latents import project
from generators.parameters import ComplementRefinement
from pipeline.content.batches import evened, in_batches

ADAM_BETAS = (0.9, 0.99)
MARGIN = 2.0  # logits, by which classifiers have to see the wanted value
DISTANCE = 0.3  # weight of the mean square of the move from the linear complement

Network = Callable[[Tensor], Tensor]


def refine_complements(
    generator: Network,
    classifiers: Sequence[Network],
    latents: NDArray[np.float32],
    wanted: NDArray[np.int64],
    settings: ComplementRefinement,
    accelerator: Accelerator,
    on_sphere: bool = False,
    on_batch: Callable[[int], object] = lambda count: None,
) -> NDArray[np.float32]:
    """Move latents until the classifiers see the wanted attributes in their images.

    Each latent descends, by Adam, the sum of two terms: the mean over the classifiers of max(0, MARGIN - m),
    where m is how far the logit lies on the wanted side; and DISTANCE times the mean square of the latent's
    move from its start, so that it stops as soon as all classifiers are satisfied. The path of a latent
    depends on no other latent.

    Args:
        generator: z [b, D] to images [b, 3, H, W] in [-1, 1], differentiable.
        classifiers: images to logits [b], positive where the attribute is 1; one for each attribute.
        latents: where to start, float32 [n, D].
        wanted: the wanted values of the attributes, [n, attributes] in {0, 1}.
        settings: steps, learning rate and batch size.
        accelerator: the device and the precision.
        on_sphere: whether the latents lie on the sphere of radius √D: then every step ends on it.
        on_batch: called with the number of latents of each batch that is done.

    Returns:
        The moved latents, float32 [n, D].
    """
    moved = np.empty_like(latents)
    signs = torch.from_numpy(2.0 * wanted - 1.0).float().to(accelerator.device)
    starts = torch.from_numpy(latents).to(accelerator.device)

    def refine_batch(first: int, last: int) -> None:
        start, sign = evened(starts[first:last]), evened(signs[first:last])
        z = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([z], lr=settings.learning_rate, betas=ADAM_BETAS)
        for _ in range(settings.steps):
            with accelerator.autocast():
                images = generator(z)
                logits = torch.stack([classifier(images) for classifier in classifiers], dim=1)
            missing = F.relu(MARGIN - sign * logits.float()).mean(dim=1)
            far = (z - start).square().mean(dim=1)
            (gradient,) = torch.autograd.grad((missing + DISTANCE * far).sum(), z)
            z.grad = gradient
            optimizer.step()
            if on_sphere:
                with torch.no_grad():
                    z.copy_(project(z))
        moved[first:last] = z.detach()[: last - first].cpu().numpy()

    in_batches(refine_batch, len(latents), settings.batch_size, on_batch)
    return moved
