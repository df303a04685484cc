"""Pictures for people: grids of images as PNG."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def grid(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Arrange images [n, H, W, 3] row by row: [rows * H, columns * W, 3]; cells with no image are white."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, height, width, 3), 255, np.uint8)
    cells[:n] = images
    return cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, -1, 3)


def save_grid(path: Path, images: NDArray[np.uint8], columns: int, side: int = 64) -> None:
    """Write a grid of images as PNG; enlarge small images, without smoothing, to at least `side` px each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    factor = max(1, side // images.shape[1])
    picture = grid(images, columns).repeat(factor, axis=0).repeat(factor, axis=1)
    Image.fromarray(picture).save(path)
