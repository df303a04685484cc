"""Rendering latents: a generator on disk, and images in batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from generators.cards import CARD, read_card
from generators.networks import Generator
from pipeline.errors import UserError
from pipeline.runtime import tensor_to_images
from pipeline.stores import write_json

WEIGHTS = "generator.safetensors"


def save_generator(folder: Path, generator: Generator, card: dict[str, Any]) -> None:
    """Write a generator's weights, and a card: its architecture under "architecture", and what else."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    write_json(folder / CARD, card)


def load_generator(folder: Path, device: torch.device) -> Generator:
    """Read a generator that `save_generator` wrote: in evaluation mode, without gradients."""
    try:
        architecture = read_card(folder)["architecture"]
        channels = {int(size): width for size, width in architecture.pop("channels").items()}
        generator = Generator(channels=channels, **architecture)
        generator.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no generator that zprime wrote: {' '.join(str(error).split())}."
        ) from error
    generator.eval().requires_grad_(False)
    return generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.inference_mode()
def render(
    generator: Callable[[torch.Tensor], torch.Tensor],
    latents: NDArray[np.float32],
    batch_size: int,
    accelerator: Accelerator,
    on_batch: Callable[[int], object] = lambda count: None,
) -> NDArray[np.uint8]:
    """The images G(z) of latents [n, D]: uint8 [n, H, W, 3], [-1, 1] mapped to [0, 255]."""
    images = []
    for start in range(0, len(latents), batch_size):
        batch = torch.from_numpy(latents[start : start + batch_size]).to(accelerator.device)
        with accelerator.autocast():
            rendered = generator(batch)
        images.append(tensor_to_images(rendered))
        on_batch(len(batch))
    return np.concatenate(images)
