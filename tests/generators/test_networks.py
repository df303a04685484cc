"""The progressive GAN's networks: fade-in, equalised layers, normalisations, shapes."""

import math

import pytest
import torch
import torch.nn.functional as F

from generators.networks.progressive import (
    Discriminator,
    EqualizedConv2d,
    EqualizedLinear,
    Generator,
    downsample,
    minibatch_std,
    pixel_norm,
    resolutions_up_to,
    upsample,
)

CHANNELS = {4: 6, 8: 5, 16: 4, 32: 3, 64: 3, 128: 2, 256: 2}
SIZES = list(CHANNELS)


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def with_random_biases(network: torch.nn.Module) -> torch.nn.Module:
    """Draw random biases: they start at zero, where a forgotten one would not show."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False)


def lower_generator(generator: Generator, resolution: int) -> Generator:
    """Build a generator that ends at a lower resolution, with the same weights."""
    lower = Generator(generator.latent_dim, resolution, CHANNELS, len(generator.mapping))
    lower.load_state_dict({name: generator.state_dict()[name] for name in lower.state_dict()})
    return lower


def lower_discriminator(discriminator: Discriminator, resolution: int) -> Discriminator:
    lower = Discriminator(resolution, CHANNELS)
    lower.load_state_dict({name: discriminator.state_dict()[name] for name in lower.state_dict()})
    return lower


# Fade-in


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_generator_at_alpha_0_equals_the_upsampled_lower_network(resolution):
    generator = with_random_biases(Generator(7, 32, CHANNELS, mapping_layers=2))
    z = torch.randn(3, 7)
    lower = (
        lower_generator(generator, resolution // 2)(z).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    )
    torch.testing.assert_close(generator(z, resolution, alpha=0.0), lower, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_generator_at_alpha_1_equals_the_higher_network(resolution):
    generator = with_random_biases(Generator(7, 32, CHANNELS, mapping_layers=2))
    z = torch.randn(3, 7)
    higher = lower_generator(generator, resolution)
    torch.testing.assert_close(generator(z, resolution, alpha=1.0), higher(z), rtol=0, atol=1e-6)
    # The fade-in ends without a jump, and the lower network's colours no longer count.
    torch.testing.assert_close(generator(z, resolution, alpha=1 - 1e-6), higher(z), rtol=0, atol=1e-4)
    torch.nn.init.constant_(generator.to_rgb[SIZES.index(resolution) - 1].bias, 100.0)
    torch.testing.assert_close(generator(z, resolution, alpha=1.0), higher(z), rtol=0, atol=1e-6)


def test_generator_in_between_is_the_weighted_mean_of_both():
    generator = with_random_biases(Generator(7, 16, CHANNELS))
    z = torch.randn(3, 7)
    low, high = upsample(lower_generator(generator, 8)(z)), generator(z)
    assert (low - high).abs().mean() > 0.1
    torch.testing.assert_close(generator(z, 16, alpha=0.25), 0.75 * low + 0.25 * high, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_discriminator_at_alpha_0_equals_the_lower_network_on_the_downsampled_image(resolution):
    discriminator = with_random_biases(Discriminator(32, CHANNELS))
    images = torch.randn(4, 3, resolution, resolution)
    halved = (
        images[..., ::2, ::2] + images[..., 1::2, ::2] + images[..., ::2, 1::2] + images[..., 1::2, 1::2]
    ) / 4
    lower = lower_discriminator(discriminator, resolution // 2)(halved)
    torch.testing.assert_close(discriminator(images, alpha=0.0), lower, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_discriminator_at_alpha_1_equals_the_higher_network(resolution):
    discriminator = with_random_biases(Discriminator(32, CHANNELS))
    images = torch.randn(4, 3, resolution, resolution)
    higher = lower_discriminator(discriminator, resolution)(images)
    torch.testing.assert_close(discriminator(images, alpha=1.0), higher, rtol=0, atol=1e-5)
    torch.testing.assert_close(discriminator(images, alpha=1 - 1e-6), higher, rtol=0, atol=1e-3)
    torch.nn.init.constant_(discriminator.from_rgb[SIZES.index(resolution) - 1].bias, 100.0)
    torch.testing.assert_close(discriminator(images, alpha=1.0), higher, rtol=0, atol=1e-5)


def test_the_lowest_resolution_has_nothing_to_fade_in():
    generator, discriminator = Generator(7, 8, CHANNELS), Discriminator(8, CHANNELS)
    z, images = torch.randn(2, 7), torch.randn(4, 3, 4, 4)
    torch.testing.assert_close(generator(z, 4, alpha=0.3), generator(z, 4), rtol=0, atol=0)
    torch.testing.assert_close(discriminator(images, alpha=0.3), discriminator(images), rtol=0, atol=0)


# Shapes


@pytest.mark.parametrize("resolution", SIZES)
def test_shapes_at_every_resolution(resolution):
    generator, discriminator = Generator(5, 256, CHANNELS), Discriminator(256, CHANNELS)
    with torch.no_grad():
        images = generator(torch.randn(2, 5), resolution)
        assert images.shape == (2, 3, resolution, resolution)
        assert discriminator(images).shape == (2,)
        finished = Generator(5, resolution, CHANNELS)
        assert finished(torch.randn(2, 5)).shape == (2, 3, resolution, resolution)


def test_resolutions_up_to():
    assert resolutions_up_to(4) == [4]
    assert resolutions_up_to(256) == SIZES


def test_every_parameter_of_both_networks_has_a_gradient_while_fading_in():
    generator, discriminator = Generator(5, 8, CHANNELS, mapping_layers=2), Discriminator(8, CHANNELS)
    discriminator(generator(torch.randn(4, 5), 8, alpha=0.5), alpha=0.5).sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


# Equalised learning rate


@pytest.mark.parametrize(("gain", "variance"), [(math.sqrt(2), 2.0), (1.0, 1.0)])
def test_an_equalised_convolution_has_the_square_of_its_gain_as_output_variance(gain, variance):
    layer = EqualizedConv2d(64, 128, 3, gain=gain)
    output = layer(torch.randn(8, 64, 18, 18))[..., 1:-1, 1:-1]  # without the zero padding's border
    assert output.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(("gain", "variance"), [(math.sqrt(2), 2.0), (1.0, 1.0)])
def test_an_equalised_linear_layer_has_the_square_of_its_gain_as_output_variance(gain, variance):
    layer = EqualizedLinear(256, 512, gain=gain)
    assert layer(torch.randn(512, 256)).var().item() == pytest.approx(variance, rel=0.05)


def test_an_equalised_convolution_uses_weight_times_gain_over_the_root_of_its_fan_in():
    layer = EqualizedConv2d(2, 5, 3, gain=1.5)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 2, 6, 6)
    expected = F.conv2d(x, layer.weight * 1.5 / math.sqrt(2 * 3 * 3), layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_an_equalised_linear_layer_uses_weight_times_gain_over_the_root_of_its_fan_in():
    layer = EqualizedLinear(9, 1, gain=6.0)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.constant_(layer.bias, 0.5)
    # 9 inputs of 1, weights 1 * 6 / 3, and the bias as it is.
    assert layer(torch.ones(1, 9)).item() == pytest.approx(18.5)


def test_equalised_weights_start_standard_normal_and_biases_at_zero():
    for layer in (EqualizedConv2d(64, 64, 3), EqualizedLinear(256, 256)):
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.02)
        assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
        assert not layer.bias.any()


# Normalisations


def test_pixel_norm_by_hand():
    """(3, 4) has mean square 12.5: (3, 4) / √12.5; every pixel by itself."""
    x = torch.tensor([[[[3.0, 30.0]], [[4.0, -40.0]]]])  # one image of two channels, 1 x 2 px
    root = math.sqrt(12.5)
    expected = torch.tensor([[[[3 / root, 3 / root]], [[4 / root, -4 / root]]]])
    torch.testing.assert_close(pixel_norm(x), expected)
    torch.testing.assert_close(pixel_norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[3 / root, 4 / root]]))
    assert torch.isfinite(pixel_norm(torch.zeros(1, 2, 1, 1))).all()


def test_minibatch_std_by_hand_in_two_groups_of_four():
    """Images 0, 2, 4, 6 make one group and 1, 3, 5, 7 the other: every second one."""
    values = torch.tensor([0.0, 5.0, 0.0, 5.0, 2.0, 9.0, 2.0, 9.0])
    x = values.reshape(8, 1, 1, 1).expand(8, 1, 2, 2)
    result = minibatch_std(x)
    assert result.shape == (8, 2, 2, 2)
    torch.testing.assert_close(result[:, :1], x)
    deviations = torch.tensor([1.0, 2.0] * 4).reshape(8, 1, 1).expand(8, 2, 2)  # of 0, 0, 2, 2 and 5, 5, 9, 9
    torch.testing.assert_close(result[:, 1], deviations, rtol=0, atol=1e-6)


def test_minibatch_std_averages_over_channels_and_pixels():
    """Deviations 3 and 0 over the channels of the first pixel, 1 and 0 over the second's: 1 on average."""
    x = torch.zeros(4, 2, 1, 2)
    x[:2, 0, 0, 0] = 6.0
    x[:2, 0, 0, 1] = -2.0
    torch.testing.assert_close(minibatch_std(x)[:, 2], torch.ones(4, 1, 2), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("n", "deviation"), [(3, math.sqrt(2 / 3)), (6, math.sqrt(35 / 12)), (1, 0.0)])
def test_a_batch_that_the_group_does_not_divide_is_one_group(n, deviation):
    """The standard deviation of 0 .. n - 1 is √((n² - 1) / 12)."""
    result = minibatch_std(torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1))
    torch.testing.assert_close(result[:, 1].flatten(), torch.full((n,), deviation), rtol=0, atol=2e-4)


def test_resampling_by_hand():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    doubled = torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 6, 6], [3, 3, 6, 6]])
    torch.testing.assert_close(upsample(x)[0, 0], doubled, rtol=0, atol=0)
    assert downsample(x).item() == 3.0
    torch.testing.assert_close(downsample(upsample(x)), x)


# The way in


def test_the_length_of_a_latent_does_not_matter():
    generator = Generator(7, 8, CHANNELS, mapping_layers=2)
    z = torch.randn(3, 7)
    torch.testing.assert_close(generator(5 * z), generator(z), rtol=0, atol=1e-4)


def test_without_a_mapping_network_w_is_the_normalised_latent():
    z = torch.randn(3, 7)
    torch.testing.assert_close(Generator(7, 4, CHANNELS).map(z), pixel_norm(z), rtol=0, atol=0)


def test_the_mapping_network_has_its_widths_and_nonlinearity():
    generator = Generator(7, 4, CHANNELS, mapping_layers=3, mapping_width=11)
    assert [tuple(layer.weight.shape) for layer in generator.mapping] == [(11, 7), (11, 11), (7, 11)]
    z = torch.randn(3, 7)
    w = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for layer in generator.mapping:
        w = layer.weight.mul(math.sqrt(2) / math.sqrt(layer.in_features)) @ w.T + layer.bias[:, None]
        w = torch.where(w > 0, w, 0.2 * w).T
    torch.testing.assert_close(generator.map(z), w)


def test_an_image_depends_on_its_own_latent_only():
    generator = Generator(7, 16, CHANNELS, mapping_layers=1)
    z = torch.randn(5, 7)
    torch.testing.assert_close(generator(z)[3:4], generator(z[3:4]), rtol=0, atol=1e-5)
