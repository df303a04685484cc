"""Chooses what a computation runs on: device, precision, processes."""

import ctypes
from functools import cache

import torch
from accelerate import Accelerator

from pipeline.errors import UserError
from pipeline.parameters import Runtime

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h


def resolve_device(runtime: Runtime) -> torch.device:
    """Return the torch device that the parameters ask for; raise `UserError` if it is not there."""
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(runtime.device)
    except RuntimeError as error:
        raise UserError(
            f"runtime.device {runtime.device!r} is no device: auto, cpu, cuda or cuda:N."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"runtime.device is {runtime.device}, but torch finds no GPU: use auto or cpu.")
    return device


def computes_in_bf16(runtime: Runtime, device: torch.device) -> bool:
    """Tell whether networks run in bfloat16: as asked, or if the hardware has instructions for it."""
    if runtime.precision != "auto":
        return runtime.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available()) and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def new_accelerator(runtime: Runtime) -> Accelerator:
    """Return Accelerate's handle on the device, the precision and the processes of networks."""
    device = resolve_device(runtime)
    if device.type == "cpu":
        _keep_freed_memory()
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)
        # By default convolutions round their factors to 10 bits, so fp32 would not be fp32.
        torch.backends.cudnn.allow_tf32 = False
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if computes_in_bf16(runtime, device) else "no",
    )


@cache
def _keep_freed_memory() -> None:
    """Let this process reuse the memory of tensors, instead of giving it back and asking for new memory.

    The C library returns large blocks to the kernel at once, and each layer's output is such a block. The
    kernel must then find and clear new pages for the next one, which takes two fifths of the time of
    rendering on two cores.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(M_ARENA_MAX, 1)  # one arena: those of other threads cannot keep large blocks
