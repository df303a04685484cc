"""Sources of images, the balanced manifest, exports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.dataset import BalancedDataset

__all__ = ["BalancedDataset"]


def __getattr__(name: str) -> Any:
    """`BalancedDataset`, when somebody asks for it: torch takes seconds to import, and most do without."""
    if name == "BalancedDataset":
        from data.dataset import BalancedDataset

        return BalancedDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
