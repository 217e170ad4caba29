"""Which files can be written: formats, precisions, types of the input, and what a file says about its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mbn_deploy.graph.quantized import INT16X8
from mbn_deploy.manifest import FileFormat

InputType = Literal["uint8", "int8", "int16", "float32"]  # of both ends of an integer file
OnnxActivationType = Literal["uint8", "int8"]
NO_INT16 = "ONNX Runtime's CPU kernels convolve 8-bit integers only; activations of 16 bits are for TFLite"

# ONNX files in float16 and dynamic are not written, since CPUs run neither faster than float32 or int8; nor in int16x8,
# for which ONNX Runtime has no kernels (`NO_INT16`).
PRECISIONS: dict[FileFormat, tuple[str, ...]] = {
    "tflite": ("float32", "float16", "dynamic", "int8", INT16X8),
    "onnx": ("float32", "int8"),
}
# int16x8 is for processors with such kernels, and slow on all others.
DEFAULT_PRECISIONS = tuple(precision for precision in PRECISIONS["tflite"] if precision != INT16X8)


@dataclass(frozen=True)
class About:
    """A model's description, version, author and license as its maker gives them; empty where not given."""

    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""


NOTHING_SAID = About()


def wanted_files(formats: Sequence[str], precisions: Sequence[str]) -> list[tuple[FileFormat, str]]:
    """List the (format, precision) that can be written, of all that were asked for, in the order of writing."""
    return [(f, p) for f, possible in PRECISIONS.items() if f in formats for p in possible if p in precisions]
