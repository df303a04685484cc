"""Generators on disk, and rendering: the same images in batches of any size."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from generators.latents import sample_latents
from generators.networks.cards import GeneratorCard
from generators.networks.loading import load_generator, save_generator
from generators.networks.progressive import Generator
from generators.synthesis import render
from pipeline.content.tensors import tensor_to_images
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

CPU = torch.device("cpu")
FP32 = Runtime(device="cpu", precision="fp32")
ARCHITECTURE = {
    "latent_dim": 6,
    "resolution": 8,
    "channels": {4: 4, 8: 3},
    "mapping_layers": 2,
    "mapping_width": 5,
}
SIZES = {"latent_dim": 6, "resolution": 8}
LATENTS = sample_latents(0, "z", 0, 11, 6)


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.manual_seed(0)
    save_generator(
        tmp_path / "generator",
        Generator(**ARCHITECTURE),
        GeneratorCard(**SIZES, architecture=ARCHITECTURE, note=1),
    )
    return tmp_path / "generator"


def test_a_loaded_generator_makes_the_same_images(saved):
    torch.manual_seed(0)
    original = Generator(**ARCHITECTURE)
    loaded = load_generator(saved, CPU)
    z = torch.from_numpy(LATENTS)
    torch.testing.assert_close(loaded(z), original(z), rtol=0, atol=1e-6)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert json.loads((saved / "card.json").read_text())["note"] == 1


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_rendered_images_are_the_generators_in_batches_of_any_size(batch_size, saved):
    generator, done = load_generator(saved, CPU), []
    images = render(generator, LATENTS, batch_size, new_accelerator(FP32), done.append)
    assert images.shape == (11, 8, 8, 3)
    assert images.dtype == np.uint8
    with torch.no_grad():
        whole = tensor_to_images(generator(torch.from_numpy(LATENTS))).numpy()
    assert np.abs(images.astype(int) - whole).max() <= 1
    assert len(done) == -(-11 // batch_size)
    assert sum(done) == 11


@pytest.fixture(scope="module")
def default_generator() -> Generator:
    """Build a generator with the architecture of presets/avatars.yaml and random weights."""
    torch.manual_seed(1)
    generator = Generator(latent_dim=64, resolution=32, channels={4: 128, 8: 128, 16: 64, 32: 32})
    return generator.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neither_batch_size_nor_threads_change_a_pixel_by_more_than_1(precision, default_generator):
    latents = sample_latents(3, "z", 0, 100, 64)
    accelerator = new_accelerator(Runtime(device="cpu", precision=precision))
    made, before = [], torch.get_num_threads()
    for batch_size, threads in ((64, 1), (256, 1), (7, 1), (64, 2), (256, 2)):
        torch.set_num_threads(threads)
        made.append(render(default_generator, latents, batch_size, accelerator).astype(int))
    torch.set_num_threads(before)
    assert made[0].std() > 20
    largest = [int(np.abs(images - made[0]).max()) for images in made[1:]]
    assert max(largest) <= 1, largest


def test_a_batch_that_memory_does_not_suffice_for_is_rendered_in_halves(saved, capsys):
    generator, done = load_generator(saved, CPU), []

    def small_device(z: torch.Tensor) -> torch.Tensor:
        if len(z) > 3:
            torch.empty(2**50)
        return generator(z)

    images = render(small_device, LATENTS, 8, new_accelerator(FP32), done.append)
    assert done == [2, 2, 2, 2, 2, 1]
    whole = render(generator, LATENTS, 11, new_accelerator(FP32))
    assert np.abs(images.astype(int) - whole).max() <= 1
    assert "going on with 2" in capsys.readouterr().out


def test_rendering_maps_minus_one_to_one_onto_0_to_255():
    def generator(z: torch.Tensor) -> torch.Tensor:
        return z[:, :, None, None].expand(len(z), 3, 2, 2)

    latents = np.array([[-1.0, 0.2, 1.0], [-9.0, -0.6, 9.0]], np.float32)
    images = render(generator, latents, 1, new_accelerator(FP32))
    assert images[:, 1, 0].tolist() == [[0, 153, 255], [0, 51, 255]]


def without_card(folder: Path) -> None:
    (folder / "card.json").unlink()


def with_another_card(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"architecture": {**ARCHITECTURE, "latent_dim": 7}}))


def with_an_unknown_key(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"architecture": {**ARCHITECTURE, "depth": 7}}))


def with_truncated_weights(folder: Path) -> None:
    os.truncate(folder / "generator.safetensors", 1000)


@pytest.mark.parametrize(
    "damage", [without_card, with_another_card, with_an_unknown_key, with_truncated_weights]
)
def test_a_broken_folder_is_refused_and_named(damage, saved):
    damage(saved)
    with pytest.raises(UserError) as raised:
        load_generator(saved, CPU)
    assert str(saved) in str(raised.value)
    assert "\n" not in str(raised.value)
