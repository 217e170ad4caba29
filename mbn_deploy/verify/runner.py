"""Runs a model file on many images with the runtime's own preprocessing and interpreter.

Unlike `Classifier` it returns raw outputs, for golden vectors and evaluation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.manifest import Layout, Preprocess, TensorInfo
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.tensors import PixelEncoder, to_real


class FileRunner:
    """A loaded model file with the preprocessing of its input; calling it returns real scores.

    `source` and `result` describe input and output where the interpreter does not know their quantization.
    """

    def __init__(
        self,
        backend: Backend,
        preprocess: Preprocess,
        layout: Layout,
        source: TensorInfo | None = None,
        result: TensorInfo | None = None,
    ) -> None:
        self.backend = backend
        self._encode = PixelEncoder(source or backend.input, preprocess, layout)
        self._result = result or backend.output

    def raw(self, pixels: Pixels) -> Array:
        """Run uint8 pixels (N, H, W, C); return outputs (N, classes) in the file's own type."""
        batch = self.backend.input.shape[0]
        parts = []
        for start in range(0, len(pixels), batch):
            part = pixels[start : start + batch]
            # The file's batch is fixed, so the last one is filled up with its last image.
            full = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)]) if len(part) < batch else part
            parts.append(self.backend.run(self._encode(full))[: len(part)].reshape(len(part), -1))
        return np.concatenate(parts)

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Run uint8 pixels (N, H, W, C); return dequantized scores (N, classes)."""
        return to_real(self.raw(pixels), self._result)
