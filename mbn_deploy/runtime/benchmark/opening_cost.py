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
class OpeningCost:
    """The cost of opening one file in a fresh process; memory is None on systems that do not report it.

    Attributes:
        import_seconds: time to import the interpreter.
        open_seconds: time of `Classifier.open` after that.
        first_seconds: time to classify the first image.
        memory_before: resident bytes with Python, numpy and Pillow.
        memory_imported: resident bytes with the interpreter.
        memory_after: resident bytes after the first image.
        memory_peak: largest resident size, in bytes.
    """

    import_seconds: float
    open_seconds: float
    first_seconds: float
    memory_before: int | None
    memory_imported: int | None
    memory_after: int | None
    memory_peak: int | None


def measure_opening_cost(path: Path, options: Mapping[str, Any], image: bytes) -> OpeningCost | str:
    """Open a file with options of `Classifier.open` in a child process, and classify an encoded image once.

    Return why there is no result if no process can be started (under an emulator, in an embedding program) or if it
    failed.
    """
    try:
        return OpeningCost(**call_in_child(measure_opening, str(path), dict(options), image, seconds=TIME_LIMIT))
    except ChildError as error:
        return f"the child process {error}"
    except MbnError as error:
        return f"the child process failed: {error}"


def measure_opening(path: str, options: dict[str, Any], image: bytes) -> dict[str, Any]:
    """Open a file, classify an encoded image, and return the fields of its `OpeningCost`; runs in the child process."""
    before = resident("VmRSS")
    start = perf_counter()
    load_interpreter(options["backend"])
    imported, memory_imported = perf_counter(), resident("VmRSS")
    with Classifier.open(path, **options) as classifier:
        opened = perf_counter()
        classifier.classify(image)
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
    """Return the resident bytes of this process from /proc: VmRSS (now) or VmHWM (peak), see proc(5); None elsewhere.

    getrusage(2) cannot replace it: a child process inherits its parent's peak.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(values[0]) * 1024 if values else None
