"""Data: sources of images, the balanced manifest, and exports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.dataset import BalancedDataset

__all__ = ["BalancedDataset"]


def __getattr__(name: str) -> Any:
    """Import `BalancedDataset` when it is asked for: torch takes seconds to import, and few need it."""
    if name == "BalancedDataset":
        from data.dataset import BalancedDataset

        return BalancedDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
