"""What opening one file costs, measured in a process of its own: time to the first answer, and memory.

In the process that measures, an interpreter is imported once and memory of several files lies together; a child
answers for one file alone. `opening_cost` starts it, `main` is what it runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.system.child import child_command

# What `Classifier.open` imports to open a file; import time is told apart from the file's own.
MODULES = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter", "onnx": "onnxruntime"}
TIME_LIMIT = 300  # seconds


@dataclass(frozen=True)
class Cost:
    """Of one file in a fresh process.

    `import_seconds` is the interpreter's own import, `open_seconds` `Classifier.open` after it,
    `first_seconds` the first picture. Memory is resident bytes: with Python, numpy and Pillow
    (`memory_before`), with the interpreter (`memory_imported`), after the first answer
    (`memory_after`), and the most there ever was (`memory_peak`); None where the system does not tell.
    """

    import_seconds: float
    open_seconds: float
    first_seconds: float
    memory_before: int | None
    memory_imported: int | None
    memory_after: int | None
    memory_peak: int | None


def opening_cost(path: Path, options: Mapping[str, Any], picture: bytes) -> Cost | str:
    """Start a process that opens `path` with `options` of `Classifier.open` and classifies `picture` once.

    Returns a sentence where this Python cannot start another one of itself (under an emulator, in an
    embedding program) or the child failed.
    """
    if not sys.executable:
        return "this Python does not say where its program lies"
    request = json.dumps({"path": str(path), "options": options}).encode() + b"\n" + picture
    try:
        done = subprocess.run(  # noqa: S603 (this very Python)
            child_command(__name__), input=request, capture_output=True, timeout=TIME_LIMIT, check=False
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            return f"the child process failed: {lines[-1] if lines else f'exit code {done.returncode}'}"
        return Cost(**json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError) as error:
        return f"no child process can be started: {error}"
    except (ValueError, TypeError, IndexError):
        return "the child process gave no answer"


def main() -> None:
    """The child: a request on stdin, a `Cost` as JSON on stdout."""
    head, _, picture = sys.stdin.buffer.read().partition(b"\n")
    request = json.loads(head)
    before = resident("VmRSS")
    start = perf_counter()
    import_module(MODULES[request["options"]["backend"]])
    imported, memory_imported = perf_counter(), resident("VmRSS")
    with Classifier.open(request["path"], **request["options"]) as classifier:
        opened = perf_counter()
        classifier.classify(picture)
        done = perf_counter()
        cost = Cost(
            imported - start, opened - imported, done - opened,
            before, memory_imported, resident("VmRSS"), resident("VmHWM"),
        )  # fmt: skip
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


def resident(field: str) -> int | None:
    """Bytes of this process by /proc: VmRSS (now) or VmHWM (at most so far); see proc(5). None elsewhere.

    getrusage(2) is no substitute: a child inherits its parent's maximum.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) * 1024 if values else None
