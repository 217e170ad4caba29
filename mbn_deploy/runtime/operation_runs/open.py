"""What every single operation of a model file gives, computed by the kernels that really run it.

The file is opened with all its operations' results as outputs: of a .tflite file the list of outputs is
replaced, to an .onnx file outputs are appended. Delegates and fused kernels stay as they are without.
"""

from __future__ import annotations

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.operation_runs.operation import Operations


def open_operations(
    data: bytes, file_format: FileFormat, backend: str, *, threads: int, where: str, reference: bool = False
) -> Operations:
    """Open a file's bytes with `backend`; with `reference` (.tflite only) by TensorFlow Lite's reference kernels.

    Raises `InputError` for a file that is damaged or refused, `MissingExtraError` as `open_backend`.
    """
    if file_format == "onnx":
        from mbn_deploy.runtime.operation_runs.onnx import OnnxOperations

        return OnnxOperations(data, threads, where)
    from mbn_deploy.runtime.operation_runs.tflite import TfliteOperations

    return TfliteOperations(data, backend, threads, where, reference=reference)
