"""Converts images to tensors and back, and reduces gradients over several processes."""

from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn


def reduce_gradients(network: nn.Module, accelerator: Accelerator, reduction: Literal["sum", "mean"]) -> None:
    """Replace every gradient by its sum or mean over the processes of the training."""
    if accelerator.num_processes > 1:
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, reduction)


def images_to_tensor(images: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Convert uint8 [n, H, W, 3] to float32 [n, 3, H, W] in [-1, 1], channels_last, on `device`."""
    tensor = torch.from_numpy(images)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # so that it is copied while the GPU computes
    tensor = tensor.to(device, non_blocking=True)
    return tensor.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def tensor_to_images(tensor: torch.Tensor) -> torch.Tensor:
    """Convert floats [n, 3, H, W] in [-1, 1] to uint8 [n, H, W, 3]: clamped and rounded, never stretched."""
    scaled = tensor.detach().float().clamp(-1, 1).add(1.0).mul(127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous()
