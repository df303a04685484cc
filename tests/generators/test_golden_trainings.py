"""Trainings of the GAN and of the encoder end with the weights that they ended with when they were recorded.

`python -m tests.generators.test_golden_trainings` records them again; only for a change that is meant to
change them.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.inversion.encoders import train_encoder
from generators.inversion.parameters import TrainEncoder
from generators.networks.progressive import Generator
from generators.training.loop import GANTraining, train_gan
from generators.training.parameters import DiffAugment, TrainGAN
from pipeline.content.resumable import Session
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator
from tests import golden

GOLDEN = Path(__file__).parent / "golden_trainings.json"
FP32 = Runtime(device="cpu", precision="fp32")
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
GROUPS = np.repeat([0, 1], [30, 10])

GANS: dict[str, dict[str, Any]] = {
    "wgan_gp": {
        "loss": "wgan_gp",
        "gradient_penalty": 10.0,
        "penalty_interval": 1,
        "flip": False,
        "group_balance": 0.0,
    },
    "non_saturating": {
        "loss": "non_saturating",
        "penalty_interval": 2,
        "r2": True,
        "flip": True,
        "group_balance": 0.5,
        "augment": DiffAugment(translation=0.25, cutout=0.5, color=True),
    },
}
TRAININGS = [*GANS, "encoder", "encoder_projected"]


def record_of_gan(name: str, checkpoint: Path) -> dict[str, Any]:
    parameters = TrainGAN(
        resolution=8,
        latent_dim=4,
        mapping_layers=1,
        mapping_width=8,
        channels={4: 4, 8: 4},
        batch_size={4: 8, 8: 8},
        steps={4: 4, 8: 6},
        fade_in=0.5,
        learning_rate=1.5e-3,
        seed=3,
        **GANS[name],
    )
    training = GANTraining(parameters, lambda positions: IMAGES[positions], GROUPS, new_accelerator(FP32))
    session = Session(name, training.accelerator, checkpoint, 3600.0)
    averaged = train_gan(session, training, lambda resolution: None, records=3)
    networks = {
        "averaged": averaged,
        "generator": training.generator,
        "discriminator": training.discriminator,
    }
    weights = {name: network.state_dict() for name, network in networks.items()}
    return golden.record_of(weights, training.losses.records)


def record_of_encoder(name: str, checkpoint: Path) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator = Generator(latent_dim=4, resolution=8, channels={4: 4, 8: 4}).eval().requires_grad_(False)
    settings = TrainEncoder(width=4, steps=10, batch_size=8, learning_rate=1e-2)
    session = Session(name, new_accelerator(FP32), checkpoint, 3600.0)
    encoder = train_encoder(session, generator, name == "encoder_projected", settings, 6)
    return golden.record_of({"encoder": encoder.state_dict()}, [])


def record(name: str, checkpoint: Path) -> dict[str, Any]:
    """Run one of `TRAININGS`; return its weights and its losses."""
    return record_of_gan(name, checkpoint) if name in GANS else record_of_encoder(name, checkpoint)


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_ends_as_it_was_recorded(training, tmp_path):
    golden.assert_is(record(training, tmp_path / "state.pt"), GOLDEN, training)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        golden.save(GOLDEN, {name: record(name, Path(folder) / f"{name}.pt") for name in TRAININGS})
