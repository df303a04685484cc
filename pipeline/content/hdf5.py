"""Writes an array as an HDF5 file that a reader can map into memory."""

import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def write_array(path: Path, array: str, items: NDArray[Any]) -> None:
    """Write one contiguous dataset: HDF5 lays out the file, the bytes of the array go past the library.

    So a full disk raises an OSError with its number, which h5py hides in a text, and writing takes half the
    time.

    Args:
        path: the file.
        array: the dataset's name.
        items: [n, ...].

    Raises:
        OSError: the system refused to write; its number was in h5py's text if h5py reported it.
        RuntimeError: h5py failed for another reason.
    """
    items = np.ascontiguousarray(items)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    try:
        with h5py.File(path, "w", libver="latest") as file:
            space = h5py.h5s.create_simple(items.shape)
            dataset = h5py.h5d.create(file.id, array.encode(), h5py.h5t.py_create(items.dtype), space, layout)
            offset = dataset.get_offset()
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    if items.size:
        with path.open("rb+") as raw:
            raw.seek(offset)
            raw.write(items.reshape(-1).view(np.uint8).data)
