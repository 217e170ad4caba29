"""The division of a file by XNNPACK, the default delegate of TFLite interpreters on CPUs.

The interpreter runs in a child process, since some files make it abort.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mbn_deploy.export.file_report import DelegateReport
from mbn_deploy.runtime.backends.delegation import partitioning
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.runtime.system.child import ChildError, call_in_child

_SECONDS = 120  # opening a MobileNet takes half a second


def probe_delegate(path: Path) -> DelegateReport:
    """Open the file with the default delegate and report how that divides it.

    If the interpreter refuses the file or crashes, `DelegateReport.error` says so.

    Raises:
        MissingExtraError: the export extra is not installed.
    """
    try:
        return DelegateReport(**call_in_child(divide, str(path), seconds=_SECONDS))
    except ChildError as error:
        return DelegateReport(error=f"the interpreter {error}")


def divide(path: str) -> dict[str, Any]:
    """Open the file in this process and return the fields of its `DelegateReport`. Runs in the child."""
    litert = load_interpreter("litert", extra="export", purpose="to see how a delegate divides a .tflite file")
    try:
        interpreter = litert.Interpreter(model_path=path)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        return {"error": str(error)}
    divided = partitioning(interpreter)
    names = {int(tensor["index"]): str(tensor["name"]) for tensor in interpreter.get_tensor_details()}
    return {
        "partitions": divided.partitions,
        "outside": tuple(op["op_name"] for op in divided.outside),
        "outside_tensors": tuple(names.get(int(tensor), "") for op in divided.outside for tensor in op["outputs"]),
    }
