"""Open a model file so that it returns the result of each op, computed by the kernels that really run it.

The results of all ops become outputs of the file: the list of outputs of a .tflite file is replaced, and outputs are
appended to an .onnx file. Delegates and fused kernels stay as they are otherwise.
"""

from __future__ import annotations

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.operation_runs.operation import Operations


def open_operations(
    data: bytes, file_format: FileFormat, backend: str, *, threads: int, where: str, reference: bool = False
) -> Operations:
    """Open a file's bytes with `backend`; with `reference` (.tflite only), use TensorFlow Lite's reference kernels.

    Raises `InputError` for a file that is damaged or refused, `MissingExtraError` if the backend is not installed.
    """
    if file_format == "onnx":
        from mbn_deploy.runtime.operation_runs.onnx import OnnxOperations

        return OnnxOperations(data, threads, where)
    from mbn_deploy.runtime.operation_runs.tflite import TfliteOperations

    return TfliteOperations(data, backend, threads, where, reference=reference)
