"""What all tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; read when Triton is imported

settings.register_profile("zprime", deadline=None)  # cores are shared: how long an example took says nothing
settings.load_profile("zprime")


@pytest.fixture(autouse=True)
def no_accelerator_is_left_over() -> Iterator[None]:
    """Accelerate keeps one state per process: the next test may want another precision."""
    yield
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(True)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    """Networks as small as a test's are many times slower on two threads where the cores are shared."""
    torch = sys.modules.get("torch")
    if torch is None:  # the module's tests do without
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
