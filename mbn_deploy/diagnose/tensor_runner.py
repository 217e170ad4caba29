"""Run a model file in its interpreter and return its inner tensors as the interpreter computed them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mbn_deploy.arrays import Array, Floats
from mbn_deploy.diagnose.file_graph import FileGraph
from mbn_deploy.diagnose.onnx_graph import TO_NHWC
from mbn_deploy.errors import InputError
from mbn_deploy.export.onnx.builder import onnx_module
from mbn_deploy.export.onnx.inspect import load_onnx
from mbn_deploy.runtime.backends.modules import load_interpreter


class TensorRunner(Protocol):
    """A file in its interpreter. `batch` is how many images it takes at once."""

    batch: int

    def run(self, source: Array) -> dict[str, Floats]:
        """Run the file on its input tensor `source`; return the real values, in NHWC, of the tensors asked for."""


def open_runner(data: bytes, graph: FileGraph, names: Sequence[str]) -> TensorRunner:
    """Open the file `data`, of which `graph` was read, in an interpreter that returns the tensors `names`.

    Raises:
        InputError: the interpreter refuses the file.
        MissingExtraError: the interpreter is not installed.
    """
    return LiteRtRunner(data, graph, names) if graph.format == "tflite" else OnnxRunner(data, graph, names)


class LiteRtRunner:
    """LiteRT with all tensors preserved.

    It then does without XNNPACK, which keeps no inner tensors. LiteRT's own kernels compute the same, apart from an
    integer now and then that is one level off, and they also run files that XNNPACK refuses.
    """

    def __init__(self, data: bytes, graph: FileGraph, names: Sequence[str]) -> None:
        litert = load_interpreter("litert", extra="export", purpose="to look into a .tflite file")
        self._graph, self._names = graph, list(names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # LiteRT warns that this option is for debugging
                self._interpreter = litert.Interpreter(model_content=data, experimental_preserve_all_tensors=True)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            raise InputError(f"{graph.where}: the interpreter does not accept it: {error}") from error
        self._input = self._interpreter.get_input_details()[0]
        self.batch = int(self._input["shape"][0])
        self._indices = self._by_name(graph)

    def _by_name(self, graph: FileGraph) -> dict[str, int]:
        """Return the index of each tensor; a name that a file repeats is `name#2` in the graph, and so on."""
        indices: dict[str, int] = {}
        seen: dict[str, int] = {}
        for details in sorted(self._interpreter.get_tensor_details(), key=lambda d: int(d["index"])):
            name = str(details["name"])
            count = seen[name] = seen.get(name, 0) + 1
            unique = name if count == 1 else f"{name}#{count}"
            if unique in graph.shapes:
                indices[unique] = int(details["index"])
        return indices

    def run(self, source: Array) -> dict[str, Floats]:
        """Run the file as `TensorRunner.run` says."""
        try:
            self._interpreter.set_tensor(int(self._input["index"]), source)
            self._interpreter.invoke()
            values = {name: self._interpreter.get_tensor(self._indices[name]) for name in self._names}
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self._graph.where}: the interpreter failed on it: {error}") from error
        return {name: _real(self._graph, name, value) for name, value in values.items()}


class OnnxRunner:
    """ONNX Runtime on a copy of the model that has inner tensors as outputs, too.

    All tensors but the input are NCHW. Of quantized tensors the integers are made outputs, not the result of
    DequantizeLinear, so that the runtime still fuses DequantizeLinear, op and QuantizeLinear into integer kernels.
    """

    def __init__(self, data: bytes, graph: FileGraph, names: Sequence[str]) -> None:
        onnxruntime = load_interpreter("onnx", extra="export", purpose="to look into an .onnx file")
        self._graph, self._names = graph, list(names)
        model = load_onnx(data, graph.where)
        outputs = {value.name for value in model.graph.output}
        known: Mapping[str, Any] = {value.name: value for value in model.graph.value_info}
        for name in self._names:
            if name not in outputs:
                value = known.get(name) or onnx_module().helper.make_empty_tensor_value_info(name)
                model.graph.output.append(value)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"{graph.where}: onnxruntime does not accept it: {error}") from error
        source = self._session.get_inputs()[0]
        self._input = source.name
        self.batch = source.shape[0] if isinstance(source.shape[0], int) else 1

    def run(self, source: Array) -> dict[str, Floats]:
        """Run the file as `TensorRunner.run` says."""
        try:
            values = self._session.run(self._names, {self._input: source})
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"{self._graph.where}: onnxruntime failed on it: {error}") from error
        return {
            name: _real(self._graph, name, value.transpose(TO_NHWC) if value.ndim == 4 else value)
            for name, value in zip(self._names, values, strict=True)
        }


def _real(graph: FileGraph, name: str, value: Array) -> Floats:
    params = graph.params.get(name)
    if params is not None and np.issubdtype(value.dtype, np.integer):
        return params.dequantize(value)
    return np.asarray(value, np.float32)
