"""The kernel of the generator: its formula, by Triton's interpreter on the CPU, and on a GPU if any."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.networks.progressive import SLOPE, Generator, pixel_norm, upsample
from generators.synthesis import render
from pipeline.content.batches import UNIT
from pipeline.content.seeds import generator_for
from pipeline.content.tensors import tensor_to_images
from pipeline.parameters import Runtime
from pipeline.runtime import new_accelerator

kernels = pytest.importorskip("generators.networks.kernels", reason="needs Triton", exc_type=ImportError)
finish = kernels.finish
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CHANNELS = {4: 96, 8: 64, 16: 32, 32: 16}


def by_formula(features: Tensor, bias: Tensor, doubled: bool) -> Tensor:
    x = pixel_norm(F.leaky_relu(features.float() + bias.float()[None, :, None, None], SLOPE))
    return upsample(x) if doubled else x


def numbers(*shape: int) -> Tensor:
    return torch.from_numpy(generator_for(0, f"{shape}").standard_normal(shape, dtype="float32"))


def test_by_hand():
    """Two channels 3 and -5 with biases 1 and -5: 4 and -2, whose root mean square is √10."""
    features = torch.tensor([3.0, -5.0]).reshape(1, 2, 1, 1)
    finished = finish(features.to(DEVICE), torch.tensor([1.0, -5.0]).to(DEVICE), 0.2, doubled=True).cpu()
    assert finished.shape == (1, 2, 2, 2)
    expected = torch.tensor([4.0, -2.0]).div(10**0.5).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    torch.testing.assert_close(finished, expected)


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize(("n", "channels", "height", "width"), [(3, 16, 8, 8), (2, 96, 4, 8), (1, 3, 5, 7)])
def test_it_is_the_formula(n, channels, height, width, doubled):
    """It holds in every layout, for channels that are no power of two and pixels that fill no program."""
    features, bias = numbers(n, channels, height, width).to(DEVICE), numbers(channels).to(DEVICE)
    finished = finish(features, bias, SLOPE, doubled)
    torch.testing.assert_close(finished, by_formula(features, bias, doubled), rtol=1e-5, atol=1e-6)
    assert finished.is_contiguous(memory_format=torch.channels_last)
    laid_out = features.to(memory_format=torch.channels_last)
    torch.testing.assert_close(finish(laid_out, bias, SLOPE, doubled), finished, rtol=0, atol=0)


@GPU
@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_computes_the_formula(dtype, doubled):
    features, bias = numbers(5, 96, 16, 8).cuda().to(dtype), numbers(96).cuda()
    finished = finish(features, bias, SLOPE, doubled)
    assert finished.dtype == dtype
    torch.testing.assert_close(finished, by_formula(features, bias, doubled).to(dtype))


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(32, 32, CHANNELS).eval().requires_grad_(False)


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_the_network_finishes_every_convolution_by_it(resolution, monkeypatch):
    torch.manual_seed(1)
    network = Generator(8, 16, {4: 12, 8: 8, 16: 4}).to(DEVICE).requires_grad_(False)
    for layer in network.modules():
        if getattr(layer, "bias", None) is not None:
            torch.nn.init.normal_(layer.bias)
    z = numbers(3, 8).to(DEVICE)
    expected = network(z, resolution)
    monkeypatch.setattr("generators.networks.progressive._takes_kernel", lambda x: True)
    torch.testing.assert_close(network(z, resolution), expected, rtol=1e-4, atol=1e-5)


@GPU
@pytest.mark.parametrize("resolution", [4, 8, 32])
def test_the_network_renders_by_it_what_it_renders_without(resolution, generator, monkeypatch):
    network, z = generator.cuda().to(memory_format=torch.channels_last), numbers(16, 32).cuda()
    calls = []
    assert kernels.compiles()  # which calls it, once
    real = kernels.finish
    monkeypatch.setattr(kernels, "finish", lambda *args, **more: calls.append(1) or real(*args, **more))
    with torch.no_grad():
        exact = network(z, resolution)
        assert not calls
        with torch.autocast("cuda", torch.bfloat16):
            by_kernel = network(z, resolution)
            assert len(calls) == {4: 1, 8: 3, 32: 7}[resolution]
            monkeypatch.setattr(kernels, "compiles", lambda: False)
            without = network(z, resolution)
    assert by_kernel.shape == exact.shape
    scale = exact.std()
    assert (by_kernel - exact).abs().max() < 0.15 * scale
    assert (by_kernel - exact).abs().mean() <= 1.1 * (without - exact).abs().mean()


@GPU
def test_training_and_fading_in_do_without_it(generator, monkeypatch):
    monkeypatch.setattr(kernels, "finish", None)
    network, z = generator.cuda(), numbers(4, 32).cuda().requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        network(z).float().sum().backward()
        assert z.grad is not None
        with torch.no_grad():
            network(z, 8, alpha=0.5)


@GPU
def test_where_it_does_not_compile_rendering_goes_on_and_says_so(generator, monkeypatch, capsys):
    def fails(*args: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    network, z = generator.cuda(), numbers(4, 32).cuda()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        expected = network(z).float()
        with monkeypatch.context() as patch:
            kernels.compiles.cache_clear()
            patch.setattr(kernels, "finish", fails)
            torch.testing.assert_close(network(z).float(), expected, rtol=0, atol=0.1)
            assert "Failed to find C compiler. Please specify one." in capsys.readouterr().err
            network(z)
            assert capsys.readouterr().err == ""
    kernels.compiles.cache_clear()


@GPU
def test_a_gpu_that_is_full_renders_the_same_in_smaller_batches(generator, capsys):
    accelerator = new_accelerator(Runtime(device="cuda"))
    network = generator.to(accelerator.device)
    z = numbers(8192, 32).numpy()
    expected = render(network, z, 256, accelerator)
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 300 * 2**20
    try:
        torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
        images = render(network, z, 8192, accelerator)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "the device has no memory for a batch of 8192: going on with 4096" in capsys.readouterr().out
    np.testing.assert_array_equal(images, expected)


@GPU
def test_images_leave_a_gpu_whole_while_it_renders_the_next(generator):
    accelerator = new_accelerator(Runtime(device="cuda"))
    network, z = generator.to(accelerator.device), numbers(2000, 32).numpy()
    images = render(network, z, 128, accelerator)
    with torch.inference_mode(), accelerator.autocast():
        for start in range(0, 1984, UNIT):
            batch = network(torch.from_numpy(z[start : start + UNIT]).to(accelerator.device))
            assert (tensor_to_images(batch).cpu().numpy() == images[start : start + UNIT]).all()
