"""Run .onnx files with onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.backends.backend import check_input, check_output, check_size
from mbn_deploy.runtime.backends.modules import load_interpreter

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}
_ERRORS_ONLY = 3  # log severity


class OnnxBackend:
    """An .onnx file in an inference session. See `Backend`.

    onnxruntime does not know the scale of a quantized input or output; the manifest states it.
    """

    name = "onnx"
    kernels = "ONNX Runtime MLAS"  # what the processor's execution provider computes with

    def __init__(self, data: bytes, threads: int, where: str) -> None:
        self.threads, self._where = threads, where
        self._session: Any = open_session(data, threads, where)
        try:
            sources, results = self._session.get_inputs(), self._session.get_outputs()
            properties = self._session.get_modelmeta().custom_metadata_map
            self.input = _info("input", sources, where)
            self.output = _info("output", results, where, lambda: self._answer_shape(results[0].name))
        except UnicodeDecodeError as error:  # onnxruntime decodes a text when it is asked for
            raise InputError(f"{where}: damaged: a name or an entry of its metadata is no UTF-8: {error}") from error
        self.metadata: Mapping[str, bytes] = {key: value.encode() for key, value in properties.items()}
        self._outputs = [self.output.name]

    def _answer_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an output that the file leaves open, by running the file on zeros."""
        zeros = np.zeros(self.input.shape, self.input.dtype)
        try:
            return tuple(self._session.run([name], {self.input.name: zeros})[0].shape)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"{self._where}: onnxruntime failed on it: {error}") from error

    def run(self, values: Array) -> Array:
        """Run the session, which reads `values` without a copy; see `Backend`."""
        check_input(self.input, values, self._where)
        try:
            result: Array = self._session.run(self._outputs, {self.input.name: values})[0]
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"{self._where}: onnxruntime failed on it: {error}") from error
        check_output(self.output, result, self._where)
        return result

    def close(self) -> None:
        """Free the session."""
        self._session = None


def open_session(data: bytes, threads: int, where: str) -> Any:
    """Open an inference session; raises `InputError` if onnxruntime refuses the file."""
    onnxruntime = load_interpreter("onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise InputError(f"{where}: damaged, or no ONNX file that onnxruntime can run: {error}") from error


def _info(what: str, values: list[Any], where: str, measure: Callable[[], tuple[int, ...]] | None = None) -> TensorInfo:
    """Describe the one input or output; `measure` finds the shape of one that the file leaves open."""
    if len(values) != 1:
        names = ", ".join(value.name for value in values)
        raise InputError(f"{where}: {len(values)} {what}s ({names}); a classifier has one")
    value = values[0]
    if value.type not in _TYPES:
        raise InputError(f"{where}: {what} {value.name!r} has type {value.type}, not one of {', '.join(_TYPES)}")
    shape = list(value.shape)
    if shape and not isinstance(shape[0], int):
        shape[0] = 1  # an open batch axis
    if measure is not None and (not shape or not all(isinstance(n, int) for n in shape)):
        shape = list(measure())
    if not all(isinstance(n, int) for n in shape):
        raise InputError(f"{where}: {what} {value.name!r} has no fixed size ({value.shape}); export it with one")
    info = TensorInfo(value.name, tuple(shape), _TYPES[value.type])
    check_size(what, info, where)
    return info
