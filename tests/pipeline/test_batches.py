"""Batches are halved if memory does not suffice, with the same result; images leave the device complete."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.content.batches import UNIT, ImagesToHost, alike, in_batches
from pipeline.content.tensors import tensor_to_images
from pipeline.errors import UserError

CPU = torch.device("cpu")


class Device:
    """Squares numbers in batches of at most `room`; records what it was asked for."""

    def __init__(self, count: int, room: int, error: Exception | None = None) -> None:
        self.numbers, self.squares = np.arange(count), np.full(count, -1)
        self.room, self.error = room, error
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> None:
        self.asked.append((start, stop))
        if stop - start > self.room:
            if self.error is not None:
                raise self.error
            torch.empty(2**50)
        self.squares[start:stop] = self.numbers[start:stop] ** 2


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 0 bytes free.")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 80), st.integers(1, 80), st.booleans())
def test_the_result_is_the_same_whatever_the_batch_size_and_the_room(count, batch_size, room, on_gpu):
    """On the CPU the error is the system's own."""
    device, done = Device(count, room, CUDA if on_gpu else None), []
    sufficed = in_batches(device, count, batch_size, done.append)
    np.testing.assert_array_equal(device.squares, device.numbers**2)
    assert sum(done) == count
    assert sufficed <= batch_size
    assert min(batch_size, count) <= room or sufficed <= room
    assert all(0 < items <= min(batch_size, room) for items in done)


def test_a_batch_that_does_not_fit_is_halved_and_so_are_those_after_it(capsys):
    device, done = Device(20, 3, CUDA), []
    assert in_batches(device, 20, 8, done.append) == 2
    assert device.asked[:4] == [(0, 8), (0, 4), (0, 2), (2, 4)]
    assert done == [2] * 10
    assert capsys.readouterr().out.splitlines() == [
        "the device has no memory for a batch of 8: going on with 4",
        "the device has no memory for a batch of 4: going on with 2",
    ]


def test_what_fits_is_computed_as_asked_for(capsys):
    device = Device(10, 4)
    assert in_batches(device, 10, 4) == 4
    assert device.asked == [(0, 4), (4, 8), (8, 10)]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [CUDA, None])
def test_a_batch_of_one_that_does_not_fit_is_said(error):
    device = Device(5, 0, error)
    with pytest.raises(UserError) as raised:
        in_batches(device, 5, 4)
    assert str(raised.value) == (
        "the device has no memory for a batch of one: free some, or set runtime.device to cpu."
    )
    assert device.asked == [(0, 4), (0, 2), (0, 1)]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), RuntimeError(), ValueError("memory")])
def test_other_errors_pass_through_at_once(error):
    device = Device(5, 0, error)
    with pytest.raises(type(error)) as raised:
        in_batches(device, 5, 4)
    assert raised.value is error
    assert device.asked == [(0, 4)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_images_arrive_as_tensor_to_images_makes_them_each_at_its_place(count, batch, seed):
    images = torch.randn(count, 3, 4, 6, generator=torch.Generator().manual_seed(seed)) * 1.2
    host = ImagesToHost(count, CPU)
    for start in reversed(range(0, count, batch)):
        host.put(start, images[start : start + batch])
    array = host.array()
    assert array.dtype == np.uint8
    assert array.shape == (count, 4, 6, 3)
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, tensor_to_images(images).numpy())


# Alike


class Gpu(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3 * UNIT), st.booleans())
def test_a_network_sees_even_batches_and_on_a_gpu_always_as_many(count, on_gpu):
    seen = []

    def network(batch):
        seen.append(len(batch))
        return batch.as_subclass(torch.Tensor) * 2

    batch = torch.arange(count * 2.0).reshape(count, 2)
    made = alike(network, batch.as_subclass(Gpu) if on_gpu else batch)
    np.testing.assert_array_equal(made.numpy(), 2 * batch.numpy())
    assert seen == ([UNIT] * -(-count // UNIT) if on_gpu else [count + count % 2])
