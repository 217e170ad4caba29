"""Change a layer of a model file, or the golden vectors of a bundle."""

import hashlib

import numpy as np
from runtime_models import edit_manifest

from mbn_deploy.manifest import GOLDEN_NAME
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.verify.golden import golden_bytes, read_golden

LAYER = "conv_pw_3"
NAMES = {
    kind: f"mobilenet_v1_0.25_32_{kind}" for kind in ("float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx")
}


def initializers(data):
    import onnx

    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}


def kernel_of(path):
    """Return the weights of `LAYER` as they are in the file."""
    data = path.read_bytes()
    if path.suffix == ".onnx":
        return next(v for n, v in initializers(data).items() if n.startswith(f"{LAYER}/kernel") and v.ndim == 4)
    interpreter = load_interpreter("litert").Interpreter(model_content=data)
    named = next(d for d in interpreter.get_tensor_details() if d["name"] == f"{LAYER}/kernel")
    return interpreter.get_tensor(named["index"])


def change_layer(path, *, channel):
    """Change the weights of one output channel of `LAYER`, and the manifest with them."""
    kernel = kernel_of(path)
    first = kernel[channel].tobytes()
    data = path.read_bytes()
    assert data.count(first) == 1
    other = (127 - kernel[channel] if kernel.dtype == np.int8 else -3 * kernel[channel]).astype(kernel.dtype)
    path.write_bytes(data.replace(first, other.tobytes()))
    accept(path)


def accept(path):
    """Write the file's new hash into the manifest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def change(manifest):
        next(f for f in manifest["files"] if f["path"] == path.name)["sha256"] = digest

    edit_manifest(path.parent, change)


def change_golden(folder, change):
    """`change` gets the golden vectors and gives others, with the right checksum."""
    data = golden_bytes(change(read_golden((folder / GOLDEN_NAME).read_bytes(), "golden")))
    (folder / GOLDEN_NAME).write_bytes(data)
    edit_manifest(folder, lambda manifest: manifest.update(golden_sha256=hashlib.sha256(data).hexdigest()))
