"""Open a model file so that it returns the result of each op, computed by the kernels that really run it.

The results of all ops become outputs of the file: the list of outputs of a .tflite file is replaced, and outputs are
appended to an .onnx file. Delegates and fused kernels stay as they are otherwise.
"""

from __future__ import annotations

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.operation_runs.operation import Operations


def open_operations(
    data: bytes,
    file_format: FileFormat,
    backend: str,
    *,
    threads: int,
    where: str,
    reference: bool = False,
    count: int | None = None,
) -> Operations:
    """Open a file's bytes with `backend`; with `reference` (.tflite only), use TensorFlow Lite's reference kernels.

    With a `count`, only that many ops are run and returned: the first ones that depend on the input.

    Raises `InputError` for a file that is damaged or refused, `MissingExtraError` if the backend is not installed.
    """
    if file_format == "onnx":
        from mbn_deploy.runtime.operation_runs.onnx import OnnxOperations

        return OnnxOperations(data, threads, where, count)
    from mbn_deploy.runtime.operation_runs.tflite import TfliteOperations

    return TfliteOperations(data, backend, threads, where, reference=reference, count=count)


def operation_kinds(data: bytes, file_format: FileFormat, where: str) -> list[str]:
    """Return the kinds of the ops that `open_operations` returns the results of, read from the file's bytes.

    Those of a .tflite file are `operation_name`s. Raises `InputError` for a damaged file.
    """
    if file_format == "onnx":
        from mbn_deploy.runtime.operation_runs.onnx import sampled_operations

        return [operation.kind for operation in sampled_operations(data, where)]
    from mbn_deploy.runtime.operation_runs.tflite import Wiring

    return Wiring(data, where).kinds
