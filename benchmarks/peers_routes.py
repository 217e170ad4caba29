"""The ways from a Keras model to a file that `peers.py` compares, as data; imports no framework.

Whatever a tool's documentation names as its way for int8 on a CPU is what is taken, and its plain defaults beside it
where the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]

DEFAULT = "ours-int8-fast"  # what `mbn-deploy export` makes if nothing is said about recipes
OURS = {"float32": "ours-float32", "dynamic": "ours-dynamic", "int8": DEFAULT}  # what peers' files are held against
TITLES = {"tflite": "TFLite", "onnx": "ONNX"}


@dataclass(frozen=True)
class Route:
    """`source` is the route whose file is turned into another one; without it the Keras model is where it starts.

    `recipe` is ours; `packages` are those whose versions are written down, `modules`, and the parts `onnxruntime` of
    that package, are imported before time is taken.
    """

    name: str
    title: str
    precision: str
    formats: tuple[str, ...] = ("tflite",)
    source: str | None = None
    recipe: str | None = None
    packages: tuple[str, ...] = ("tensorflow-cpu", "keras")
    modules: tuple[str, ...] = ()
    onnxruntime: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether this is a route of mbn-deploy."""
        return self.name.startswith("ours")


BOTH = ("tflite", "onnx")
_ONNX = ("onnx",)
_OURS = ("mbn-deploy", "tensorflow-cpu", "keras", "ai-edge-litert", "onnxruntime", "onnx", "numpy")
_LITERT = ("ai_edge_litert.interpreter", "litert_quantizer.quantizer", "litert_quantizer.recipe")
_ORT = ("quantization", "quantization.shape_inference")
_NNCF = ("onnx", "nncf", "nncf.onnx")

ROUTES = (
    Route("ours-float32", "**mbn-deploy** float32", "float32", BOTH, packages=_OURS),
    Route("ours-dynamic", "**mbn-deploy** dynamic", "dynamic", packages=_OURS),
    Route(DEFAULT, "**mbn-deploy** int8 (the default recipe, `int8-fast`)", "int8", BOTH, recipe="int8-fast"),
    Route("ours-int8", "**mbn-deploy** int8 (recipe `int8`)", "int8", BOTH, recipe="int8"),
    Route("ours-int8-mixed", "**mbn-deploy** int8-mixed", "int8-mixed", BOTH, recipe="int8-mixed"),
    Route("keras-export", '`keras.Model.export(format="litert")`', "float32"),
    Route("tf-float32", "`TFLiteConverter` float32", "float32"),
    Route("tf-dynamic", "`TFLiteConverter` dynamic", "dynamic"),
    Route("tf-int8", "`TFLiteConverter` full integer", "int8"),
    Route("litert-dynamic", "litert-quantizer `dynamic_wi8_afp32`", "dynamic", source="keras-export",
          packages=("litert-quantizer",), modules=_LITERT),
    Route("litert-int8", "litert-quantizer `static_wi8_ai8`", "int8", source="keras-export",
          packages=("litert-quantizer",), modules=_LITERT),
    Route("tf2onnx", "tf2onnx", "float32", _ONNX, packages=("tf2onnx", "tensorflow-cpu"), modules=("tf2onnx",)),
    Route("ort-defaults", "ONNX Runtime `quantize_static`, its defaults", "int8", _ONNX, source="tf2onnx",
          packages=("onnxruntime",), modules=_ONNX, onnxruntime=_ORT),
    Route("ort-u8s8", "ONNX Runtime `quantize_static`, U8S8 per channel", "int8", _ONNX, source="tf2onnx",
          packages=("onnxruntime",), modules=_ONNX, onnxruntime=_ORT),
    Route("nncf", "NNCF on tf2onnx' file", "int8", _ONNX, source="tf2onnx",
          packages=("nncf",), modules=_NNCF),
    Route("nncf-on-ours", "NNCF on mbn-deploy's float32", "int8", _ONNX, source="ours-float32",
          packages=("nncf",), modules=_NNCF),
    Route("published", "published, with other weights", "int8", packages=()),
)  # fmt: skip
BY_NAME = {route.name: route for route in ROUTES}

# Files by others of the same networks, which have other weights. The float one is there for want of an int8 one of
# that size.
PUBLISHED = {
    "mobilenet_v1_0.25_224.h5": (
        "mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.25_224_float_with_metadata.tflite",
    ),
    "mobilenet_v2_1.0_224.weights.h5": ("mobilenet_v2_1.0_224_quant.tflite",),
    "mobilenet_v3_small_1.0_224.weights.h5": ("mobilenet_v3_small_1.0_224_uint8.tflite",),
    "mobilenet_v3_large_minimalistic_1.0_224.weights.h5": ("mobilenet_v3_large_minimalistic_1.0_224_uint8.tflite",),
}  # fmt: skip


def short(file: str) -> str:
    """Return the name of a weights file's folder and tables."""
    return file.split("_224", maxsplit=1)[0]
