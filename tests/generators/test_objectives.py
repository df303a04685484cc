"""The GAN's losses by hand, and its gradient penalties against gradients known in closed form."""

import math

import pytest
import torch

from generators.training.objectives import (
    LOSSES,
    squared_gradient_norm,
    wasserstein_penalty,
    zero_centred_penalty,
)

LOG3 = math.log(3)


@pytest.mark.parametrize(
    ("loss", "real", "fake", "discriminator", "generator"),
    [
        # mean(0, 2) - mean(1, 3) + 1e-3 mean(1, 9); - mean(0, 2)
        ("wgan_gp", [1, 3], [0, 2], -1 + 5e-3, -1),
        # softplus(0) = ln 2
        ("non_saturating", [0], [0], 2 * math.log(2), math.log(2)),
        # softplus(-ln 3) = ln(4/3), softplus(ln 3) = ln 4
        ("non_saturating", [LOG3], [-LOG3], 2 * math.log(4 / 3), math.log(4)),
        (
            "non_saturating",
            [LOG3, -LOG3],
            [0, 0],
            math.log(2) + (math.log(4 / 3) + math.log(4)) / 2,
            math.log(2),
        ),
        # Only the difference of the pairs counts: 1 - (1 - ln 3) = ln 3.
        ("relativistic", [1], [1 - LOG3], math.log(4 / 3), math.log(4)),
        ("relativistic", [LOG3, 0], [0, LOG3], (math.log(4 / 3) + math.log(4)) / 2, math.log(16 / 3) / 2),
    ],
)
def test_losses_by_hand(loss, real, fake, discriminator, generator):
    real, fake = torch.tensor(real, dtype=torch.float32), torch.tensor(fake, dtype=torch.float32)
    assert LOSSES[loss].discriminator(real, fake).item() == pytest.approx(discriminator, abs=1e-6)
    assert LOSSES[loss].generator(real, fake).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_each_loss_pulls_the_logits_the_right_way(loss):
    """The discriminator wants real up and generated down, the generator wants generated up."""
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    of_real, of_fake = torch.autograd.grad(LOSSES[loss].discriminator(real, fake), (real, fake))
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    (of_fake,) = torch.autograd.grad(LOSSES[loss].generator(real, fake), (fake,))
    assert (of_fake < 0).all()


# Penalties. The critics: a·x with the gradient a, and c/2 ||x||² with the gradient c x.

A = torch.tensor([[[[1.0, 2.0]], [[0.0, 2.0]], [[4.0, 0.0]]]])  # ||a||² = 25


def linear(images: torch.Tensor) -> torch.Tensor:
    return (images * A).sum(dim=(1, 2, 3))


def quadratic(c: torch.Tensor):
    return lambda images: c / 2 * images.square().sum(dim=(1, 2, 3))


def random_images(n: int = 5) -> torch.Tensor:
    return torch.randn(n, 3, 1, 2, generator=torch.Generator().manual_seed(0))


def test_squared_gradient_norms_equal_the_analytic_ones():
    images = random_images()
    torch.testing.assert_close(squared_gradient_norm(linear, images), torch.full((5,), 25.0))
    expected = 9 * images.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(squared_gradient_norm(quadratic(torch.tensor(3.0)), images), expected)


def test_the_zero_centred_penalty_is_half_gamma_times_the_mean():
    images = random_images()
    assert zero_centred_penalty(linear, images, gamma=0.5).item() == pytest.approx(0.25 * 25)
    expected = 0.25 * 9 * images.square().sum(dim=(1, 2, 3)).mean().item()
    assert zero_centred_penalty(quadratic(torch.tensor(3.0)), images, 0.5).item() == pytest.approx(expected)


def test_the_wasserstein_penalty_of_a_linear_critic_by_hand():
    """||a|| = 5 everywhere: 10 (5 - 1)² = 160."""
    real, fake, share = random_images(), torch.zeros(5, 3, 1, 2), torch.rand(5, 1, 1, 1)
    assert wasserstein_penalty(linear, real, fake, share, weight=10.0).item() == pytest.approx(160)


def test_the_wasserstein_penalty_is_taken_between_real_and_generated():
    """At share 0.25 between 4 and 0 the point is 3, where ||x||²/2 has gradient 3; at share 1 it is 0."""
    real, fake = torch.full((2, 1, 1, 1), 4.0), torch.zeros(2, 1, 1, 1)
    share = torch.tensor([0.25, 1.0]).reshape(2, 1, 1, 1)
    penalty = wasserstein_penalty(quadratic(torch.tensor(1.0)), real, fake, share, weight=10.0)
    assert penalty.item() == pytest.approx(10 * ((3 - 1) ** 2 + (0 - 1) ** 2) / 2, rel=1e-5)


def test_the_second_derivative_reaches_the_critics_weights():
    """d/dc of γ/2 c² E||x||² is γ c E||x||²; of λ (c - 1)² at ||x|| = 1 it is 2 λ (c - 1)."""
    images, c = random_images(), torch.tensor(3.0, requires_grad=True)
    zero_centred_penalty(quadratic(c), images, gamma=0.5).backward()
    assert c.grad.item() == pytest.approx(0.5 * 3 * images.square().sum(dim=(1, 2, 3)).mean().item())
    c.grad = None
    unit = torch.ones(2, 1, 1, 1)
    wasserstein_penalty(quadratic(c), unit, unit, torch.rand(2, 1, 1, 1), weight=10.0).backward()
    assert c.grad.item() == pytest.approx(2 * 10 * (3 - 1), rel=1e-5)


def test_a_flat_critic_gives_finite_gradients():
    c = torch.tensor(0.0, requires_grad=True)
    images = random_images()
    wasserstein_penalty(quadratic(c), images, images, torch.rand(5, 1, 1, 1), weight=10.0).backward()
    assert torch.isfinite(c.grad)


def test_penalties_leave_the_generator_alone():
    """Generated images carry the generator's graph; the critic's penalty must not reach it."""
    fake = random_images().requires_grad_(True)
    c = torch.tensor(3.0, requires_grad=True)
    penalty = zero_centred_penalty(quadratic(c), fake, 1.0)
    penalty = penalty + wasserstein_penalty(quadratic(c), random_images(), fake, torch.rand(5, 1, 1, 1), 10.0)
    penalty.backward()
    assert fake.grad is None
