"""Runs a model file in its interpreter and keeps inner tensors: what they really are, not what they should be."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.diagnose.file_graph import Reals, StoredNetwork
from mbn_deploy.diagnose.onnx_graph import TO_NHWC
from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.export.onnx.builder import onnx_module
from mbn_deploy.export.onnx.inspect import load_onnx
from mbn_deploy.runtime.backends.onnx import onnxruntime_module


class TensorRunner(Protocol):
    """A file in its interpreter."""

    batch: int

    def run(self, source: Array) -> dict[str, Reals]:
        """The real values, NHWC, of every tensor that was asked for; `source` is the file's own input tensor."""


def open_runner(data: bytes, network: StoredNetwork, names: Sequence[str]) -> TensorRunner:
    """The interpreter for `network`, read from `data`, that keeps the tensors `names`.

    Raises `InputError` for a file that it refuses, `MissingExtraError` where it is not installed.
    """
    return LiteRtRunner(data, network, names) if network.format == "tflite" else OnnxRunner(data, network, names)


class LiteRtRunner:
    """LiteRT with all tensors preserved.

    It then leaves out XNNPACK, which would keep nothing in between; its own kernels compute
    the same, an integer now and then one level off. So a file that XNNPACK refuses can be looked into, too.
    """

    def __init__(self, data: bytes, network: StoredNetwork, names: Sequence[str]) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", "export", "to look into a .tflite file") from error
        self._network, self._names = network, list(names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that this is for looking and not for speed
                self._interpreter = Interpreter(model_content=data, experimental_preserve_all_tensors=True)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, TypeError) as error:
            raise InputError(f"{network.where}: the interpreter does not accept it: {error}") from error
        self._input = self._interpreter.get_input_details()[0]
        self.batch = int(self._input["shape"][0])
        self._indices = self._by_name(network)

    def _by_name(self, network: StoredNetwork) -> dict[str, int]:
        """Index of each tensor; where a file repeats a name, the network counts on (`name#2`)."""
        found: dict[str, int] = {}
        seen: dict[str, int] = {}
        for details in sorted(self._interpreter.get_tensor_details(), key=lambda d: int(d["index"])):
            name = str(details["name"])
            count = seen[name] = seen.get(name, 0) + 1
            unique = name if count == 1 else f"{name}#{count}"
            if unique in network.shapes:
                found[unique] = int(details["index"])
        return found

    def run(self, source: Array) -> dict[str, Reals]:
        """See `TensorRunner`."""
        try:
            self._interpreter.set_tensor(int(self._input["index"]), source)
            self._interpreter.invoke()
            values = {name: self._interpreter.get_tensor(self._indices[name]) for name in self._names}
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self._network.where}: the interpreter failed on it: {error}") from error
        return {name: _real(self._network, name, value) for name, value in values.items()}


class OnnxRunner:
    """ONNX Runtime on a copy of the model whose inner tensors are outputs, too.

    Everything behind the input lies in NCHW. Of quantized values the integers are asked for, not what
    DequantizeLinear makes of them: so the runtime joins its triples into integer kernels as it does without.
    """

    def __init__(self, data: bytes, network: StoredNetwork, names: Sequence[str]) -> None:
        onnxruntime = onnxruntime_module("export", "to look into an .onnx file")
        self._network, self._names = network, list(names)
        model = load_onnx(data, network.where)
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
            raise InputError(f"{network.where}: onnxruntime does not accept it: {error}") from error
        source = self._session.get_inputs()[0]
        self._input = source.name
        self.batch = source.shape[0] if isinstance(source.shape[0], int) else 1

    def run(self, source: Array) -> dict[str, Reals]:
        """See `TensorRunner`."""
        try:
            values = self._session.run(self._names, {self._input: source})
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"{self._network.where}: onnxruntime failed on it: {error}") from error
        return {
            name: _real(self._network, name, value.transpose(TO_NHWC) if value.ndim == 4 else value)
            for name, value in zip(self._names, values, strict=True)
        }


def _real(network: StoredNetwork, name: str, value: Array) -> Reals:
    levels = network.levels.get(name)
    if levels is not None and np.issubdtype(value.dtype, np.integer):
        return levels.real(value)
    return np.asarray(value, np.float32)
