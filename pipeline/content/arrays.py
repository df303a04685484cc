"""Types of NumPy arrays, by their contents; a docstring says the shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# For arguments that may have any precision.
AnyIntArray = NDArray[np.integer[Any]]
AnyFloatArray = NDArray[np.floating[Any]]
