"""The cost of opening one file, measured in a child process: time to the first answer, and memory.

In the process that measures, an interpreter is imported once and several files share the memory; a child process
measures one file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from mbn_deploy.errors import MbnError
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.system.child import ChildError, call_in_child

TIME_LIMIT = 300  # seconds


@dataclass(frozen=True)
class Cost:
    """The cost of one file in a fresh process.

    `import_seconds` is the interpreter's own import, `open_seconds` `Classifier.open` after it, `first_seconds` the
    first picture. Memory is resident bytes: with Python, numpy and Pillow (`memory_before`), with the interpreter
    (`memory_imported`), after the first answer (`memory_after`), and the peak (`memory_peak`); None on systems that
    do not tell.
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

    Return a sentence instead if no process can be started (under an emulator, in an embedding program) or if it
    failed.
    """
    try:
        return Cost(**call_in_child(measure_opening, str(path), dict(options), picture, seconds=TIME_LIMIT))
    except ChildError as error:
        return f"the child process {error}"
    except MbnError as error:
        return f"the child process failed: {error}"


def measure_opening(path: str, options: dict[str, Any], picture: bytes) -> dict[str, Any]:
    """Open a file, classify an encoded picture, and return the fields of its `Cost`. Runs in the child."""
    before = resident("VmRSS")
    start = perf_counter()
    load_interpreter(options["backend"])
    imported, memory_imported = perf_counter(), resident("VmRSS")
    with Classifier.open(path, **options) as classifier:
        opened = perf_counter()
        classifier.classify(picture)
        done = perf_counter()
        return {
            "import_seconds": imported - start,
            "open_seconds": opened - imported,
            "first_seconds": done - opened,
            "memory_before": before,
            "memory_imported": memory_imported,
            "memory_after": resident("VmRSS"),
            "memory_peak": resident("VmHWM"),
        }


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
