"""What all tests share."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; read when Triton is imported
# Of processes that tests start, in whatever folder: one thread, as `one_torch_thread` here; the project.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])

settings.register_profile("zprime", deadline=None)  # cores are shared: how long an example took says nothing
settings.load_profile("zprime")

SMOKE = "smoke"  # the tests of one run of the pipeline, which takes minutes
RUNS_OF_SMOKE = tuple(f"tests/end_to_end/test_{name}.py" for name in ("pipeline", "kills", "files"))
LONG = ("tests/end_to_end", "tests/pipeline/test_cluster", "tests/pipeline/test_launch", "tests/zprime")


def scope_of(nodeid: str) -> str:
    """Which tests stay together on one worker of pytest-xdist, for their fixtures: a file's, or `SMOKE`."""
    file = nodeid.split("::")[0]
    return SMOKE if file in RUNS_OF_SMOKE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal tests out to the workers scope by scope, in the order of the tests."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker is left with it at the end."""
    items.sort(key=lambda item: (scope_of(item.nodeid) != SMOKE, not item.nodeid.startswith(LONG)))


def pytest_collection_finish() -> None:
    """Spare all later collections of garbage the millions of objects that were imported."""
    gc.collect()
    gc.freeze()


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
