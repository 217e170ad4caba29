"""A model file opened by its own interpreter or by OpenVINO: what `peers_answers.py` and `peers_latency.py` run.

A file is told as `peers_make.py` writes it down, with its `path`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from peers_routes import Figures

from mbn_deploy.manifest import Preprocess, TensorInfo
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.verify.runner import FileRunner

Array = npt.NDArray[Any]
# `native` is LiteRT or ONNX Runtime; `built-in` LiteRT without XNNPACK, for files that XNNPACK refuses.
ENGINES = ("native", "built-in", "openvino")
OPENVINO_TYPES = {"f32": "float32", "u8": "uint8", "i8": "int8"}


class Engine(Protocol):
    """An opened file with one input and one output."""

    input: TensorInfo
    output: TensorInfo

    def run(self, values: Array) -> Array:
        """Return the output for `values` of the input's shape and type."""


class OpenVino:
    """OpenVINO on the processor, for latency: one image at a time. See `Engine`."""

    def __init__(self, path: str, threads: int) -> None:
        import openvino

        core = openvino.Core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        read = core.read_model(path)
        shape = read.input(0).get_partial_shape()
        if shape.is_dynamic:  # an open batch axis
            read.reshape({0: [1, *(axis.get_length() for axis in list(shape)[1:])]})
        model = core.compile_model(read, "CPU", options)
        self._request = model.create_infer_request()
        self.input, self.output = _told(model.input(0)), _told(model.output(0))

    def run(self, values: Array) -> Array:
        """Return a copy of the output."""
        self._request.infer({0: values})
        return np.array(self._request.get_output_tensor(0).data)


def _told(port: Any) -> TensorInfo:
    dtype = OPENVINO_TYPES[port.get_element_type().get_type_name()]
    return TensorInfo(port.any_name, tuple(int(n) for n in port.get_shape()), dtype)


def open_engine(name: str, file: Figures, threads: int) -> Engine:
    """Open a file in an engine; raises whatever the engine raises, and some engines end the process."""
    if name == "openvino":
        return OpenVino(file["path"], threads)
    if name == "built-in":
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        from mbn_deploy.runtime.backends.interpreter import InterpreterBackend

        plain = partial(Interpreter, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        with open(file["path"], "rb") as stored:  # noqa: PTH123 - a string, as everything that is told
            return InterpreterBackend(plain, "litert", stored.read(), threads, file["name"])
    return open_backend(file["path"], file["format"], threads=threads, vouched=True)  # made here, a moment ago


def tensors(file: Figures, engine: Engine) -> tuple[TensorInfo, TensorInfo]:
    """Input and output with their scales: as the manifest tells them, or the .tflite file; not every engine does."""
    if file["input"] is not None:
        source, result = (
            TensorInfo(**(file[key] | {"shape": tuple(file[key]["shape"])})) for key in ("input", "output")
        )
    elif file["format"] == "tflite":
        source, result = _stored(file["path"])
    else:
        source, result = engine.input, engine.output
    return replace(source, shape=engine.input.shape), replace(result, shape=engine.output.shape)


def _stored(path: str) -> tuple[TensorInfo, TensorInfo]:
    """Read a tensor's type from the file itself; nothing is allocated, so no delegate can refuse it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    opened = Interpreter(path, experimental_op_resolver_type=resolver)
    return _tensor_info(opened.get_input_details()[0]), _tensor_info(opened.get_output_details()[0])


def _tensor_info(details: Figures) -> TensorInfo:
    scale, zero_point = details["quantization"]
    return TensorInfo(
        name=details["name"],
        shape=tuple(int(n) for n in details["shape"]),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale) if scale else None,
        zero_point=int(zero_point) if scale else None,
    )


def runner(file: Figures, engine: Engine) -> FileRunner:
    """From uint8 pixels (N, H, W, 3) to scores (N, classes)."""
    source, result = tensors(file, engine)
    preprocess = Preprocess(**file["preprocess"])
    if file.get("raw") and source.scale:  # pixels go in as they are, whatever the tensor calls its scale
        mean, std = float(source.zero_point or 0), 1 / source.scale
        preprocess = replace(preprocess, mean=(mean,) * 3, std=(std,) * 3)
    return FileRunner(engine, preprocess, file["layout"], source, result)  # type: ignore[arg-type]
