"""`manifest.json`."""

from harness import fuzz, instrumented

with instrumented():
    from mbn_deploy.manifest import Manifest, ModelFile, Preprocess, TensorInfo


def _seed():
    tensor = TensorInfo("x", (1, 4, 4, 3), "uint8", 0.5, 3)
    file = ModelFile("m.tflite", "tflite", "int8", "0" * 64, 5, tensor, tensor, Preprocess())
    return Manifest("m", 2, "softmax", (file,), "labels.txt", "0" * 64, "golden.npz", "0" * 64).to_json().encode()


fuzz(lambda data: Manifest.from_json(data, "manifest.json"), [_seed(), b"{}", b"[]"])
