"""`golden.npz`."""

import numpy as np
from harness import fuzz, instrumented

with instrumented():
    from mbn_deploy.graph.rescaling import IDENTITY
    from mbn_deploy.verify.golden import Golden, golden_bytes, read_golden

_PIXELS = np.zeros((2, 4, 4, 3), np.uint8)
_OUTPUTS = {"m.tflite": np.zeros((2, 3), np.uint8)}
_SEED = golden_bytes(Golden(_PIXELS, _OUTPUTS, {"m.tflite": 1.0}, rescalings={"int8": {"conv": IDENTITY}}))
fuzz(lambda data: read_golden(data, "golden.npz"), [_SEED])
