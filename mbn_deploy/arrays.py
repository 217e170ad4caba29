"""Names for numpy arrays in annotations, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]  # (height, width, channels) or (N, height, width, channels), red first
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
