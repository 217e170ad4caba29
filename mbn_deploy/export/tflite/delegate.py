"""How XNNPACK, the default delegate of TFLite interpreters on CPUs, divides a file.

The interpreter runs in a child process, since some files make it abort.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mbn_deploy.errors import MissingExtraError
from mbn_deploy.export.file_report import DelegateReport
from mbn_deploy.runtime.backends.delegation import division
from mbn_deploy.runtime.system.child import child_command

_TIMEOUT = 120  # seconds; opening a MobileNet takes half a second


def probe_delegate(path: Path) -> DelegateReport:
    """Open the file with the default delegate and report how that divides it.

    If the interpreter refuses the file or crashes, `DelegateReport.error` says so.

    Raises:
        MissingExtraError: the export extra is not installed.
    """
    command = child_command(__name__, str(path))
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)  # noqa: S603 (own program)
    except subprocess.TimeoutExpired:
        return DelegateReport(error=f"the interpreter did not open it within {_TIMEOUT} seconds")
    if done.returncode < 0:
        return DelegateReport(error=f"the interpreter crashed (signal {-done.returncode})")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return DelegateReport(error=f"the interpreter ended without an answer: {_words(done.stderr)}")
    if answer.get("missing"):
        raise MissingExtraError("ai-edge-litert", "export", "to see how a delegate divides a .tflite file")
    return DelegateReport(answer["partitions"], tuple(answer["outside"]), answer["error"], tuple(answer["tensors"]))


def _words(stderr: bytes) -> str:
    """Return the end of the child's messages; names of tensors in them may not be valid text."""
    return stderr.decode(errors="replace").strip()[-500:]


def _probe(path: str) -> dict[str, Any]:
    """Return the child process's answer."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return {"missing": True}
    try:
        interpreter = Interpreter(model_path=path)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        return {"partitions": 0, "outside": [], "tensors": [], "error": str(error)}
    found = division(interpreter)
    names = {int(tensor["index"]): str(tensor["name"]) for tensor in interpreter.get_tensor_details()}
    return {
        "partitions": found.partitions,
        "outside": [op["op_name"] for op in found.left],
        "tensors": [names.get(int(tensor), "") for op in found.left for tensor in op["outputs"]],
        "error": None,
    }


def main() -> None:
    """Run the child process: its argument is the file's path, and it prints the answer as JSON and nothing else."""
    sys.stdout.write(json.dumps(_probe(sys.argv[1])) + "\n")
