"""What all tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; read when Triton is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, as `one_torch_thread` here

settings.register_profile("zprime", deadline=None)  # cores are shared: how long an example took says nothing
settings.load_profile("zprime")

TESTS = Path(__file__).parent
LONG = ("end_to_end", "pipeline/test_cluster", "pipeline/test_launch", "zprime/test_installed")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests on one worker of pytest-xdist, for its fixtures; begin with what takes long.

    A test with a group of its own is on the worker of that group.
    """
    names = {item: str(item.path.relative_to(TESTS).with_suffix("")) for item in items}
    for item, name in names.items():
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: not names[item].startswith(LONG))


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


@pytest.fixture(scope="module")
def forked_workers() -> Iterator[None]:
    """Dask's local workers begin with all that is imported, in a tenth of the time."""
    import dask

    from tests.support import start_server

    start_server()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield
