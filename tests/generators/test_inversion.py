"""Inversion: the latents of a generator's own images are found again, each image by itself."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from generators.inversion.encoders import Encoder, encode, load_encoder, new_encoder, project, train_encoder
from generators.inversion.latents import (
    invert,
    latent_distances,
    pixel_errors,
    psnr,
    refine_inversions,
    refuse_without_gradients,
)
from generators.inversion.parameters import InversionRefinement, Invert, TrainEncoder
from generators.latents import sample_latents, to_sphere
from generators.networks.programs import Program, open_exported, open_factory, open_torchscript
from generators.networks.progressive import Generator
from generators.synthesis import render
from pipeline.content.resumable import Session
from pipeline.content.tensors import images_to_tensor
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

CPU = torch.device("cpu")
FP32 = Runtime(device="cpu", precision="fp32")
D, R = 8, 8
PIXELS = 3 * R * R
LONG = InversionRefinement(steps=300, learning_rate=0.1, prior_weight=0.0)


class Linear(nn.Module):
    """Maps z [n, 8] to images of 8 px: A z, with orthonormal columns of A."""

    latent_dim: int = D
    resolution: int = R

    def __init__(self, normalises: bool = False) -> None:
        super().__init__()
        self.normalises = normalises
        random = torch.randn(PIXELS, D, generator=torch.Generator().manual_seed(0))
        self.register_buffer("matrix", torch.linalg.qr(random).Q)

    def forward(self, z: Tensor) -> Tensor:
        if self.normalises:
            z = z * (z.shape[1] / z.square().sum(dim=1, keepdim=True)).sqrt()
        return (z @ self.matrix.T).reshape(z.shape[0], 3, 8, 8)


def images_of(generator: Any, latents: np.ndarray) -> np.ndarray:
    return render(generator, latents, 64, new_accelerator(FP32))


def values_of(images: np.ndarray) -> np.ndarray:
    """Return the images' values in [-1, 1] in the order of the columns of A: float64 [n, P]."""
    return images_to_tensor(images, CPU).double().reshape(len(images), -1).numpy()


@pytest.fixture(scope="module")
def progressive() -> Generator:
    """Build the progressive GAN's generator with random weights: it normalises its latents."""
    torch.manual_seed(0)
    generator = Generator(latent_dim=D, resolution=R, channels={4: 16, 8: 16})
    with torch.no_grad():  # images that use the range of [-1, 1]
        generator.to_rgb[-1].weight.mul_(0.5)
    return generator.eval().requires_grad_(False)


# The latents are known


def test_a_linear_generator_gives_the_least_squares_solution():
    generator = Linear()
    images = images_of(generator, sample_latents(0, "z", 0, 20, D))
    assert 0 < images.min() < images.max() < 255  # nothing clipped
    start = sample_latents(1, "start", 0, 20, D)
    found = refine_inversions(generator, False, images, start, LONG, 64, new_accelerator(FP32))
    matrix = generator.matrix.double().numpy()
    exact = np.linalg.lstsq(matrix, values_of(images).T, rcond=None)[0].T
    np.testing.assert_allclose(found, exact, atol=1e-3)
    np.testing.assert_allclose(found, sample_latents(0, "z", 0, 20, D), atol=0.02)  # but for pixels' rounding


def test_the_prior_pulls_latents_towards_zero_by_its_weight():
    generator = Linear()
    images = images_of(generator, sample_latents(0, "z", 0, 20, D))
    start = sample_latents(1, "start", 0, 20, D)
    settings = LONG.model_copy(update={"prior_weight": 0.05})
    found = refine_inversions(generator, False, images, start, settings, 64, new_accelerator(FP32))
    matrix = generator.matrix.double().numpy()
    normal = matrix.T @ matrix / PIXELS + 0.05 / D * np.eye(D)  # of |A z - x|²/P + 0.05 |z|²/D
    exact = np.linalg.solve(normal, matrix.T @ values_of(images).T / PIXELS).T
    np.testing.assert_allclose(found, exact, atol=1e-3)
    shrunk = np.linalg.norm(found, axis=1) / np.linalg.norm(sample_latents(0, "z", 0, 20, D), axis=1)
    np.testing.assert_allclose(shrunk, (1 / PIXELS) / (1 / PIXELS + 0.05 / D), atol=0.01)


def test_latents_that_the_generator_normalises_are_found_on_the_sphere():
    generator = Linear(normalises=True)
    z = sample_latents(0, "z", 0, 20, D)
    start = to_sphere(sample_latents(1, "start", 0, 20, D))
    found = refine_inversions(
        generator, True, images_of(generator, z), start, LONG, 64, new_accelerator(FP32)
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), D**0.5, rtol=1e-5)
    np.testing.assert_allclose(found, to_sphere(z), atol=0.02)
    assert latent_distances(start, to_sphere(z)).min() > 0.3


@pytest.mark.slow
def test_a_progressive_generators_latents_are_found_again(progressive, tmp_path):
    accelerator = new_accelerator(FP32)
    z = sample_latents(0, "held out", 0, 64, D)
    images = images_of(progressive, z)
    settings = Invert(
        encoder=TrainEncoder(width=16, steps=400, batch_size=32, learning_rate=2e-3),
        refine=InversionRefinement(steps=150, learning_rate=0.1),
    )
    session = Session("encoder", accelerator, tmp_path / "state.pt", 60)
    encoder = train_encoder(session, progressive, True, settings.encoder, 0)
    encoded, refined = invert(progressive, encoder, True, images, settings, accelerator)
    untrained = new_encoder(progressive, settings.encoder, 0)
    guessed = encode(untrained, images, True, 64, accelerator)
    of_encoder = latent_distances(encoded.latents, to_sphere(z))
    assert np.median(latent_distances(guessed, to_sphere(z))) > 0.8
    assert np.median(of_encoder) < 0.25
    assert np.median(refined.error) < 0.25 * np.median(encoded.error)
    assert np.median(latent_distances(refined.latents, to_sphere(z))) < 0.25 * np.median(of_encoder)
    np.testing.assert_allclose(refined.error, pixel_errors(images, images_of(progressive, refined.latents)))
    np.testing.assert_allclose(encoded.psnr, psnr(images, images_of(progressive, encoded.latents)))


def test_a_latent_never_gets_worse(progressive):
    images = images_of(progressive, sample_latents(0, "z", 0, 16, D))
    start = to_sphere(sample_latents(0, "z", 1, 16, D))
    start[:8] = to_sphere(sample_latents(0, "z", 0, 8, D))  # there is nothing better

    def losses(latents: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            made = progressive(torch.from_numpy(latents)).double().reshape(16, -1).numpy()
        return ((made - values_of(images)) ** 2).mean(axis=1)

    settings = InversionRefinement(steps=3, learning_rate=30.0)  # which leads anywhere
    found = refine_inversions(progressive, True, images, start, settings, 16, new_accelerator(FP32))
    assert (losses(found) <= losses(start) + 1e-7).all()
    np.testing.assert_allclose(found[:8], start[:8], atol=1e-6)


def test_no_steps_leave_the_start(progressive):
    images = images_of(progressive, sample_latents(0, "z", 0, 5, D))
    start = to_sphere(sample_latents(1, "z", 0, 5, D))
    settings = InversionRefinement(steps=0)
    np.testing.assert_array_equal(
        refine_inversions(progressive, True, images, start, settings, 5, new_accelerator(FP32)), start
    )


# Each image by itself


@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_neither_the_batch_nor_the_order_changes_a_latent(batch_size, progressive):
    accelerator = new_accelerator(FP32)
    images = images_of(progressive, sample_latents(0, "z", 0, 11, D))
    encoder = new_encoder(progressive, TrainEncoder(width=4), seed=3)
    settings = Invert(refine=InversionRefinement(steps=10, learning_rate=0.1))
    whole = invert(progressive, encoder, True, images, settings, accelerator)
    order = np.random.default_rng(0).permutation(11)
    done: list[int] = []
    settings = settings.model_copy(update={"batch_size": batch_size})
    parts = invert(progressive, encoder, True, images[order], settings, accelerator, done.append)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other.latents, one.latents[order], atol=1e-4)
        np.testing.assert_allclose(other.error, one.error[order], atol=0.05)
    assert sum(done) == 11


# The encoder


@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_an_encoder_takes_images_of_any_power_of_two(resolution):
    encoder = Encoder(resolution, latent_dim=5, width=2)
    images = torch.rand(3, 3, resolution, resolution, requires_grad=True)
    latents = encoder(images)
    assert latents.shape == (3, 5)
    (gradient,) = torch.autograd.grad(latents[1].sum(), images)
    assert gradient[1].abs().amax(dim=0).count_nonzero() == resolution**2  # every pixel counts
    assert gradient[[0, 2]].count_nonzero() == 0  # of this image alone


@pytest.mark.parametrize("resolution", [2, 12])
def test_other_resolutions_are_refused(resolution):
    with pytest.raises(UserError, match=f"{resolution} px, and inverting real images needs a power of two"):
        Encoder(resolution, latent_dim=5, width=2)


def test_projection_is_that_of_the_latents(progressive):
    z = sample_latents(0, "z", 0, 6, D)
    np.testing.assert_allclose(project(torch.from_numpy(z)).numpy(), to_sphere(z), rtol=1e-5)


class Interrupted(Exception):
    pass


class Interrupting(Linear):
    """Fails in its sixth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, z: Tensor) -> Tensor:
        self.batches += 1
        if self.batches == 6:
            raise Interrupted
        return super().forward(z)


SHORT = TrainEncoder(width=4, steps=9, batch_size=8, learning_rate=1e-2)


def trained(checkpoint: Path, generator: Any = None, seed: int = 0) -> dict[str, Tensor]:
    generator = generator or Linear()
    session = Session("encoder", new_accelerator(FP32), checkpoint, 1e-9)
    encoder = train_encoder(session, generator, False, SHORT, seed)
    return encoder.state_dict()


def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path):
    whole = trained(tmp_path / "whole.pt")
    generator = Interrupting()
    with pytest.raises(Interrupted):
        trained(tmp_path / "state.pt", generator)
    resumed = trained(tmp_path / "state.pt", generator)
    assert generator.batches == 6 + 4  # the five before were not made again
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)
    other = trained(tmp_path / "other.pt", seed=1)
    assert not torch.equal(other["hidden.weight"], whole["hidden.weight"])


def test_the_encoder_of_a_checkpoint_is_the_trained_one(tmp_path):
    generator = Linear()
    weights = trained(tmp_path / "state.pt", generator)
    loaded = load_encoder(tmp_path / "state.pt", generator, SHORT, new_accelerator(FP32))
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)


def test_a_training_that_diverges_says_what_to_do(tmp_path):
    settings = SHORT.model_copy(update={"learning_rate": 1e30})
    session = Session("encoder", new_accelerator(FP32), tmp_path / "state.pt", 1e9)
    with pytest.raises(
        UserError, match=r"^encoder: the loss is not finite at step 9: lower invert\.encoder\."
    ):
        train_encoder(session, Linear(), False, settings, 0)
    assert not (tmp_path / "state.pt").exists()


# Generators from elsewhere


class WithoutGradients(Linear):
    @torch.no_grad()
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)


class InInferenceMode(Linear):
    @torch.inference_mode()
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)


class Rounding(Linear):
    def forward(self, z: Tensor) -> Tensor:
        return (super().forward(z) * 127.5).round() / 127.5


class InNumPy(Linear):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(torch.from_numpy(z.numpy()))


@pytest.mark.parametrize("kind", [WithoutGradients, InInferenceMode, Rounding, InNumPy])
def test_a_generator_without_gradients_is_refused(kind):
    with pytest.raises(UserError) as raised:
        refuse_without_gradients(Program(kind(), D, R), CPU)
    assert str(raised.value) == (
        "the generator gives images without gradients, and inverting real images needs them: take "
        "torch.no_grad, torch.inference_mode, rounding and NumPy out of it, or set inverted to []."
    )


def as_torchscript(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    torch.jit.save(torch.jit.script(Linear()), folder / "a.pt")
    return Program(open_torchscript(folder / "a.pt", CPU).call, D, R)


def as_exported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(
        torch.export.export(Linear(), (torch.zeros(3, D),), dynamic_shapes=shapes), folder / "a.pt2"
    )
    return Program(open_exported(folder / "a.pt2", CPU).call, D, R)


def as_factory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    module = types.ModuleType("my_gan")
    module.make = Linear  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_gan", module)
    return Program(open_factory("my_gan:make", CPU).call, D, R)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("load", [as_torchscript, as_exported, as_factory])
def test_programs_with_gradients_are_inverted_as_networks_are(
    load: Callable[..., Program], tmp_path, monkeypatch
):
    generator = load(tmp_path, monkeypatch)
    refuse_without_gradients(generator, CPU)
    z = sample_latents(0, "z", 0, 6, D)
    images = images_of(Linear(), z)
    start = sample_latents(1, "start", 0, 6, D)
    found = refine_inversions(generator, False, images, start, LONG, 4, new_accelerator(FP32))
    np.testing.assert_allclose(found, z, atol=0.02)


# Figures


def test_errors_of_reconstructions_by_hand():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    others = images.copy()
    others[1] = 255
    others[2, 0, 0] = (30, 0, 60)  # of 12 values
    np.testing.assert_allclose(pixel_errors(images, others), [0, 255, 7.5])
    np.testing.assert_allclose(pixel_errors(others, images), [0, 255, 7.5])
    # 10 log10(255² * 12), 0, and of a mean square of (900 + 3600) / 12 = 375
    np.testing.assert_allclose(psnr(images, others), [58.9226, 0.0, 22.3905], atol=1e-4)


def test_two_random_latents_are_at_distance_one():
    one, other = sample_latents(0, "one", 0, 500, 200), sample_latents(0, "other", 0, 500, 200)
    assert latent_distances(one, other).mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(latent_distances(one[:, :2], one[:, :2] + np.float32(1)), 0.5**0.5, rtol=1e-6)
