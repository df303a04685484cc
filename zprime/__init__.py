"""zprime makes image datasets fair to protected attributes.

This module offers what other people's code needs, whatever packages or folders named `data` it has itself::

    from zprime import BalancedDataset, Store, load_generator, metrics

Each is loaded when it is asked for first, as torch takes seconds to import.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zprime import metrics
    from zprime.packages.data.dataset import BalancedDataset
    from zprime.packages.generators.networks.loading import load_generator
    from zprime.packages.pipeline.content.stores import Store

__all__ = ["BalancedDataset", "Store", "load_generator", "metrics"]

_MODULES = {
    "BalancedDataset": "data.dataset",
    "Store": "pipeline.content.stores",
    "load_generator": "generators.networks.loading",
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used.

    Args:
        name: the attribute that is asked for.

    Returns:
        the class, function or module.

    Raises:
        AttributeError: zprime has no such name.
    """
    if name in _MODULES:
        return getattr(importlib.import_module(f"zprime.packages.{_MODULES[name]}"), name)
    if name == "metrics":
        return importlib.import_module("zprime.metrics")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
