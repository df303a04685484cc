"""Runtime and seeds: images converted and back without loss, missing devices, fixed seeds."""

import numpy as np
import pytest
import torch

from pipeline.content.seeds import derived_seed, generator_for
from pipeline.content.tensors import images_to_tensor, tensor_to_images
from pipeline.errors import UserError
from pipeline.parameters import Runtime
from pipeline.runtime import computes_in_bf16, new_accelerator, resolve_device

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


# Images


def test_all_256_values_survive_the_way_there_and_back():
    images = np.arange(256 * 3, dtype=np.int64).reshape(4, 8, 8, 3).astype(np.uint8)
    assert set(np.unique(images)) == set(range(256))
    back = tensor_to_images(images_to_tensor(images, CPU)).numpy()
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, images)


def test_values_and_axes_by_hand():
    """0, 51 and 255 are -1, -0.6 and 1; the channels come before rows and columns."""
    images = np.zeros((1, 2, 4, 3), np.uint8)
    images[0, 1, 3] = (255, 51, 0)
    tensor = images_to_tensor(images, CPU)
    assert tensor.shape == (1, 3, 2, 4)
    assert tensor.dtype == torch.float32
    assert tensor[0, :, 1, 3].tolist() == pytest.approx([1, -0.6, -1], abs=1e-6)
    assert (tensor[0, :, 0] == -1).all()
    assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_what_lies_outside_is_clamped():
    tensor = torch.tensor([-5.0, -1.0, 1.0, 1.7]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    np.testing.assert_array_equal(tensor_to_images(tensor).numpy()[0, 0, :, 0], [0, 0, 255, 255])


def test_values_are_rounded_not_cut():
    tensor = torch.tensor([100.4, 100.6]).div(127.5).sub(1).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    np.testing.assert_array_equal(tensor_to_images(tensor).numpy()[0, 0, :, 0], [100, 101])


def test_images_are_never_stretched():
    """Images of low contrast keep it, beside others or alone."""
    faint = torch.linspace(0.1, 0.11, 48).reshape(1, 3, 4, 4)
    loud = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
    alone, beside = tensor_to_images(faint).numpy(), tensor_to_images(torch.cat([faint, loud])).numpy()
    assert alone.min() >= 140
    assert alone.max() <= 142
    np.testing.assert_array_equal(beside[:1], alone)


def test_bf16_images_and_those_with_a_graph_are_taken():
    tensor = torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert (tensor_to_images(tensor).numpy() == 191).all()  # 1.5 * 127.5 = 191.25


def test_images_come_back_contiguous():
    assert tensor_to_images(torch.zeros(2, 3, 4, 5)).numpy().flags.c_contiguous


# Devices and precision


@NO_GPU
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused_in_one_sentence(device):
    with pytest.raises(
        UserError, match=f"runtime.device is {device}, but torch finds no GPU: use auto or cpu"
    ):
        resolve_device(Runtime(device=device))


@NO_GPU
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert resolve_device(Runtime(device="auto")) == CPU


def test_the_cpu_can_be_asked_for():
    assert resolve_device(Runtime(device="cpu")) == CPU


@pytest.mark.parametrize("device", ["gpu", "cpu:x", ""])
def test_what_is_no_device_is_refused_in_one_sentence(device):
    with pytest.raises(UserError, match=r"runtime\.device .* is no device: auto, cpu, cuda or cuda:N"):
        resolve_device(Runtime(device=device))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_asked_for_is_the_one_used(precision, dtype):
    runtime = Runtime(device="cpu", precision=precision)
    assert computes_in_bf16(runtime, CPU) == (precision == "bf16")
    with new_accelerator(runtime).autocast():
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype


# Seeds


def test_derived_seeds_are_what_they_always_were():
    """Committed datasets depend on these seeds: another value here would change all images."""
    assert derived_seed(0, "z", 0) == 5539715442736093826
    assert derived_seed(1, "step", 123) == 8363192451301051082
    assert generator_for(0, "z", 0).integers(10**9) == 883390826


def test_seeds_fit_into_63_bits_and_depend_on_every_part():
    seeds = {
        derived_seed(seed, purpose, number) for seed in range(5) for purpose in "ab" for number in range(50)
    }
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_parts_do_not_run_into_one_another():
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert derived_seed("a", "bc") != derived_seed("ab", "c")
    assert derived_seed(1, "") != derived_seed(1)


def test_generators_of_neighbouring_numbers_are_independent():
    draws = np.stack([generator_for(0, "z", number).standard_normal(500) for number in range(20)])
    correlations = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlations).max() < 0.2
    np.testing.assert_array_equal(draws[3], generator_for(0, "z", 3).standard_normal(500))
