"""The balanced images as a PyTorch dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from data.manifest import read_manifest
from pipeline.content.stores import Store

LABELS = ("y", "a", "group")


class BalancedDataset(Dataset[dict[str, Any]]):
    """Reads the balanced images: item i is {"image", "y", "a", "group", "source"} of row i of `to_pandas()`.

    `image` is the result of `transform` on the PIL image; without one, a float tensor [3, H, W] in [0, 1]. y,
    a and group = y * n_a + a are integers; with several protected attributes `a` is the number of their
    combination, the first attribute its highest binary digit. source is "real", "z", "z_prime" or
    "real_prime".

    Each process opens the stores when it reads its first image, so workers may be forked or spawned.

    Args:
        folder: out/balanced; the stores that it names stay where they are, beside it in out/.
        split: train, validation or test; None: all.
        source: real, synthetic, z, z_prime or real_prime; None: all.
        transform: of the PIL images; None: to tensors.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        source: str | None = None,
        transform: Callable[[Image.Image], Any] | None = None,
    ) -> None:
        manifest = read_manifest(Path(folder))
        self._table = manifest.rows(split, source)
        located = manifest.located(self._table)
        # Plain arrays: getting a row of a data frame takes longer than reading an image.
        self._columns = {name: located[name].to_numpy() for name in (*LABELS, "source", "store", "position")}
        self._root = manifest.root
        self.transform = transform
        self._stores: dict[str, Store] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {name: values[index] for name, values in self._columns.items()}
        pixels = self._store(row["store"]).read(np.array([row["position"]]))[0]
        return {
            "image": (self.transform or _to_tensor)(Image.fromarray(pixels)),
            **{name: int(row[name]) for name in LABELS},
            "source": row["source"],
        }

    def _store(self, name: str) -> Store:
        if name not in self._stores:
            self._stores[name] = Store(self._root / name)
        return self._stores[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stores": {}}  # memory maps would be copied whole

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a table.

        Returns:
            The columns id, store, y, a, a column per protected attribute, group, split, source, pair_id, and
            each attribute's score ("Male_score").
        """
        return self._table.copy()

    def as_dask(self) -> Any:
        """Return the same rows as a Dask dataframe."""
        import dask.dataframe

        return dask.dataframe.from_pandas(self._table, chunksize=65_536)


def _to_tensor(image: Image.Image) -> Tensor:
    """Convert an image to a float tensor [3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
