"""A model file fed with pixels: the runtime's own encoder and interpreter, many images at once.

`Classifier` does the same for pictures and people; here the raw outputs are wanted, for golden
vectors and for measuring.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.manifest import Layout, Preprocess, TensorInfo
from mbn_deploy.runtime.backends import Backend
from mbn_deploy.runtime.tensors import PixelEncoder, to_real


class FileRunner:
    """An opened file with the preprocessing that its input wants.

    `source` and `result` say the quantization of input and output where the interpreter does not know it.
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
        """uint8 (N, H, W, C) to outputs (N, classes) in the file's own type; a last batch is filled up."""
        batch = self.backend.input.shape[0]
        parts = []
        for start in range(0, len(pixels), batch):
            part = pixels[start : start + batch]
            full = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)]) if len(part) < batch else part
            parts.append(self.backend.run(self._encode(full))[: len(part)].reshape(len(part), -1))
        return np.concatenate(parts)

    def __call__(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Real scores (N, classes): what `raw` gives, dequantized."""
        return to_real(self.raw(pixels), self._result)
