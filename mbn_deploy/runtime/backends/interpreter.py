"""Run .tflite files through the Python interface that ai-edge-litert and tflite-runtime share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime.backends.backend import check_input, check_output, check_size
from mbn_deploy.runtime.backends.delegation import kernel_family
from mbn_deploy.runtime.formats.tflite_file import read_metadata

Details = list[dict[str, Any]]


class InterpreterBackend:
    """A .tflite file in an `Interpreter`, a class of either package, with its default delegate. See `Backend`."""

    def __init__(self, interpreter: Any, name: str, data: bytes, threads: int, where: str) -> None:
        self.name, self.threads, self._where = name, threads, where
        self.metadata: Mapping[str, bytes] = read_metadata(data, where)
        self._interpreter, sources, results = allocated(interpreter, data, threads, where)
        source, result = _only("input", sources, where), _only("output", results, where)
        self.input, self.output = _info(source, where), _info(result, where)
        check_size("input", self.input, where)
        check_size("output", self.output, where)
        self._input_index, self._output_index = int(source["index"]), int(result["index"])

    def run(self, values: Array) -> Array:
        """Copy `values` into the interpreter's own buffer, run, and copy the result out of it; see `Backend`."""
        check_input(self.input, values, self._where)
        try:
            self._interpreter.set_tensor(self._input_index, values)
            self._interpreter.invoke()
            result: Array = self._interpreter.get_tensor(self._output_index)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise InputError(f"{self._where}: {self.name} failed on it: {error}") from error
        check_output(self.output, result, self._where)
        return result

    @property
    def kernels(self) -> str:
        """Return the kernels that compute; XNNPACK may leave ops to the interpreter's built-in kernels."""
        return kernel_family(self._interpreter)

    def close(self) -> None:
        """Free the interpreter and the model's bytes."""
        self._interpreter = None


def allocated(interpreter: Any, data: bytes, threads: int, where: str, **options: Any) -> tuple[Any, Details, Details]:
    """Open a file; return the interpreter, ready to run, and the details of its inputs and outputs.

    The interpreter gets a copy of the bytes, since it reads constants where they stand: an operation of a broken file
    could write to them.

    Raises `InputError` if the interpreter refuses the file.
    """
    try:
        opened = interpreter(model_content=bytes(memoryview(data)), num_threads=threads, **options)
        opened.allocate_tensors()
        return opened, opened.get_input_details(), opened.get_output_details()
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:  # TypeError: a tensor type without a numpy one
        reason = str(error).strip() or "it gives no reason; perhaps the file needs too much memory"
        raise InputError(f"{where}: the interpreter does not accept it: {reason}") from error


def _only(what: str, details: Details, where: str) -> dict[str, Any]:
    if len(details) != 1:
        names = ", ".join(str(entry["name"]) for entry in details)
        raise InputError(f"{where}: {len(details)} {what}s ({names}); a classifier has one")
    return details[0]


def _info(details: dict[str, Any], where: str) -> TensorInfo:
    scales = details["quantization_parameters"]["scales"]
    if len(scales) > 1:
        raise InputError(f"{where}: tensor {details['name']!r} has a scale for each channel, one is expected")
    if any(int(n) < 0 for n in details.get("shape_signature", ())[1:]):
        raise InputError(f"{where}: tensor {details['name']!r} has no fixed size; export it with one")
    return TensorInfo(
        name=str(details["name"]),
        shape=tuple(int(n) for n in details["shape"]),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scales[0]) if len(scales) else None,
        zero_point=int(details["quantization_parameters"]["zero_points"][0]) if len(scales) else None,
    )
