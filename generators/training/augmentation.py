"""DiffAugment (Zhao et al., 2020): the same differentiable distortions of real and generated images.

Every function takes images [n, 3, H, W] and a CPU generator of random numbers, which it advances.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.training.parameters import DiffAugment


def translate(images: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Move each image by up to `share` of its side in both directions, filling in zeros.

    Args:
        images: [n, 3, H, W].
        share: of the side, in [0, 0.5].
        random: advanced by the draw.

    Returns:
        The moved images, [n, 3, H, W].
    """
    n, _, height, width = images.shape
    reach_y, reach_x = round(height * share), round(width * share)
    dy = torch.randint(-reach_y, reach_y + 1, (n, 1), generator=random).to(images.device)
    dx = torch.randint(-reach_x, reach_x + 1, (n, 1), generator=random).to(images.device)
    # Positions outside are clamped to a border of zeros, one pixel wide.
    padded = F.pad(images, (1, 1, 1, 1))
    y = (torch.arange(height, device=images.device) + dy + 1).clamp(0, height + 1)
    x = (torch.arange(width, device=images.device) + dx + 1).clamp(0, width + 1)
    item = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[item, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Set a square of each image to zero, at a random place, which may lie partly outside.

    Args:
        images: [n, 3, H, W].
        share: the square's side as a share of the image's, in [0, 1].
        random: advanced by the draw.

    Returns:
        The images with a hole, [n, 3, H, W].
    """
    n, _, height, width = images.shape
    size_y, size_x = round(height * share), round(width * share)
    top = torch.randint(-(size_y // 2), height - size_y // 2, (n, 1), generator=random).to(images.device)
    left = torch.randint(-(size_x // 2), width - size_x // 2, (n, 1), generator=random).to(images.device)
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside_y = (y >= top) & (y < top + size_y)
    inside_x = (x >= left) & (x < left + size_x)
    inside = inside_y[:, None, :, None] & inside_x[:, None, None, :]
    return images.masked_fill(inside, 0.0)


def change_color(images: Tensor, random: torch.Generator) -> Tensor:
    """Change brightness (±0.5), saturation (0 to 2) and contrast (0.5 to 1.5) of each image."""
    n = images.shape[0]
    brightness, saturation, contrast = torch.rand(3, n, 1, 1, 1, generator=random).to(images.device)
    images = images + brightness - 0.5
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * saturation * 2
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = mean + (images - mean) * (contrast + 0.5)
    return changed


def augment(images: Tensor, parameters: DiffAugment, random: torch.Generator) -> Tensor:
    """Apply the distortions that the parameters ask for, in DiffAugment's order.

    Args:
        images: [n, 3, H, W].
        parameters: which distortions, and how strong.
        random: advanced by the draws.

    Returns:
        The distorted images, [n, 3, H, W].
    """
    if parameters.color:
        images = change_color(images, random)
    if parameters.translation > 0:
        images = translate(images, parameters.translation, random)
    if parameters.cutout > 0:
        images = cut_out(images, parameters.cutout, random)
    return images
