"""Losses of the GAN: Wasserstein with gradient penalty, non-saturating and relativistic; penalties R1 and R2.

Each loss takes logits [n] of real and of generated images and returns a scalar to minimise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DRIFT = 1e-3  # Karras et al.: keeps the critic's output near zero

Loss = Callable[[Tensor, Tensor], Tensor]
Critic = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """Holds what the discriminator and the generator minimise, given (real logits, generated logits)."""

    discriminator: Loss
    generator: Loss


LOSSES = {
    # Gulrajani et al., 2017, with the drift term of Karras et al., 2018.
    "wgan_gp": AdversarialLoss(
        discriminator=lambda real, fake: fake.mean() - real.mean() + DRIFT * real.square().mean(),
        generator=lambda real, fake: -fake.mean(),
    ),
    # Goodfellow et al., 2014.
    "non_saturating": AdversarialLoss(
        discriminator=lambda real, fake: F.softplus(fake).mean() + F.softplus(-real).mean(),
        generator=lambda real, fake: F.softplus(-fake).mean(),
    ),
    # Jolicoeur-Martineau, 2019, in pairs, as in Huang et al., 2024.
    "relativistic": AdversarialLoss(
        discriminator=lambda real, fake: F.softplus(fake - real).mean(),
        generator=lambda real, fake: F.softplus(real - fake).mean(),
    ),
}


def squared_gradient_norm(critic: Critic, images: Tensor) -> Tensor:
    """Compute ||∇ critic||² at each image, [n]; the graph is kept, for a second derivative."""
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(dim=1)


def zero_centred_penalty(critic: Critic, images: Tensor, gamma: float) -> Tensor:
    """Compute γ/2 E||∇ critic||² (Mescheder et al., 2018): R1 at real images, R2 at generated ones."""
    return gamma / 2 * squared_gradient_norm(critic, images).mean()


def wasserstein_penalty(critic: Critic, real: Tensor, fake: Tensor, share: Tensor, weight: float) -> Tensor:
    """Compute λ E(||∇ critic|| - 1)² between real and generated images (Gulrajani et al., 2017).

    Args:
        critic: images to logits [n].
        real: images, [n, 3, R, R].
        fake: generated images, [n, 3, R, R].
        share: how far each point lies from the real image to the generated one, [n, 1, 1, 1] in [0, 1].
        weight: λ.

    Returns:
        The penalty, a scalar.
    """
    between = torch.lerp(real, fake.detach(), share)
    norm = (squared_gradient_norm(critic, between) + 1e-12).sqrt()
    return weight * (norm - 1).square().mean()
