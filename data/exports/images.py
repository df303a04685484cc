"""Images of exports: read from stores and encoded, a batch at a time."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.content.stores import Store

BATCH = 256  # images in memory


def encoded(pixels: NDArray[np.uint8], encoding: str, quality: int) -> bytes:
    """Encode an image.

    Args:
        pixels: uint8 [H, W, 3].
        encoding: png or jpeg.
        quality: of a JPEG, 1 to 100.

    Returns:
        The file's bytes; a JPEG has its colours at full resolution (4:4:4).
    """
    options: dict[str, Any] = {} if encoding == "png" else {"quality": quality, "subsampling": 0}
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, encoding, **options)
    return buffer.getvalue()


class ImageReader:
    """Reads the images of a manifest's rows; only a batch of them is ever in memory."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.stores = {name: Store(root / name) for name in names}

    def read(self, rows: pd.DataFrame) -> NDArray[np.uint8]:
        """Read the images of rows that have `store` and `position`: uint8 [n, H, W, 3], in their order."""
        images = np.empty((len(rows), *next(iter(self.stores.values())).item_shape), np.uint8)
        stores, positions = rows["store"].to_numpy(), rows["position"].to_numpy()
        for name, store in self.stores.items():
            here = np.flatnonzero(stores == name)
            images[here] = store.read(positions[here])
            store.unmap()
        return images

    def encoded(
        self, rows: pd.DataFrame, encoding: str, quality: int, on_batch: Callable[[int], object]
    ) -> Iterator[bytes]:
        """Encode the image of each row.

        Args:
            rows: with `store` and `position`.
            encoding: png or jpeg.
            quality: of JPEGs, 1 to 100.
            on_batch: called with the number of images of every batch that is done.

        Yields:
            The encoded images, in the order of the rows.
        """
        for start in range(0, len(rows), BATCH):
            images = self.read(rows.iloc[start : start + BATCH])
            for pixels in images:
                yield encoded(pixels, encoding, quality)
            on_batch(len(images))
