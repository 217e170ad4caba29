"""Measure what importing the runtime and opening a bundle cost, beside importing the interpreter alone and TensorFlow.

    .venv/bin/python benchmarks/imports.py [BUNDLE] [--rounds 9]

Every step runs in a Python of its own, one after the other in rounds, so that what else the machine does falls on
all alike. Time is the processor's (user and system, all threads), memory the largest resident set of the process
(VmHWM of Linux), both less those of a Python that does nothing. Which modules were loaded is told by `sys.modules`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from mbn_deploy.runtime.backends.modules import MODULES, disable_telemetry

FORBIDDEN = ("tensorflow", "keras", "onnx", "matplotlib", "typer", "rich", "click", "h5py", "pydantic")
# ru_maxrss would not do for the memory: a new program starts with what its parent had.
REPORT = """
import json, resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
found = sorted({name.split(".")[0] for name in sys.modules})
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
sys.stdout.write(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": peak, "modules": found}))
"""


@dataclass(frozen=True)
class Step:
    """A program, and what it is called in the table."""

    name: str
    code: str


@dataclass(frozen=True)
class Cost:
    """The cost of one run: processor seconds, bytes, top-level modules."""

    cpu: float
    peak: int
    modules: frozenset[str]


def steps(bundle: Path) -> list[Step]:
    """Nothing first: it is what the others are compared with."""
    text = repr(str(bundle))
    found = [Step("nothing", ""), Step("numpy", "import numpy"), Step("numpy and Pillow", "import numpy, PIL.Image")]
    found.append(Step("import mbn_deploy.runtime", "import mbn_deploy.runtime"))
    found.append(Step("  and Classifier", "from mbn_deploy.runtime import Classifier"))
    found.append(Step("  and the bundle read", f"from mbn_deploy.runtime import open_bundle; open_bundle({text})"))
    for backend, module in MODULES.items():
        if backend != "tflite" and find_spec(module.split(".")[0]) is not None:
            found.append(Step(f"{backend}: interpreter alone", f"import {module}"))
            opened = f"Classifier.open({text}, backend={backend!r}, threads=1)"
            found.append(Step(f"{backend}: bundle opened", f"from mbn_deploy.runtime import Classifier; {opened}"))
    if find_spec("tensorflow") is not None:
        found.append(Step("import tensorflow", "import tensorflow"))
    return found


def measured(step: Step) -> Cost:
    """One run in a Python of its own; what libraries print to stderr is dropped."""
    done = subprocess.run([sys.executable, "-c", step.code + REPORT], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    return Cost(said["cpu"], said["peak"], frozenset(said["modules"]))


def forbidden(cost: Cost) -> list[str]:
    """Return the modules that must not have been loaded on a device."""
    return sorted(cost.modules & set(FORBIDDEN))


def demo_bundle(folder: Path) -> Path:
    """Export the demo's V1."""
    from mbn_deploy.demo.run import export_demo, write_pictures

    return export_demo("mobilenet_v1", folder, write_pictures(folder), lambda *_: None).bundle.folder


def main() -> None:
    """Print a table; exit code 1 if something was loaded that must not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", help="by default the demo's V1")
    parser.add_argument("--rounds", type=int, default=9)
    wanted = parser.parse_args()
    disable_telemetry()  # a child imports an interpreter, and nothing else
    with TemporaryDirectory() as scratch:
        every = steps(wanted.bundle or demo_bundle(Path(scratch)))
        for step in every:
            measured(step)  # .pyc files are written, pages are in memory
        rounds = [[measured(step) for step in every] for _ in range(wanted.rounds)]
    wrong = table(every, rounds)
    sys.exit(1 if wrong else 0)


def table(every: list[Step], rounds: list[list[Cost]]) -> bool:
    """Medians over the rounds, less those of a Python that does nothing; returns whether a step loaded too much."""
    print(
        f"Python {sys.version.split()[0]}, medians of {len(rounds)} interleaved rounds, less a Python that does nothing"
    )
    print(f"{'':28}{'CPU ms':>9}{'peak MB':>9}  loaded that a device has not")
    wrong = False
    for at, step in enumerate(every):
        costs = [one[at] for one in rounds]
        cpu = statistics.median(cost.cpu - one[0].cpu for cost, one in zip(costs, rounds, strict=True))
        peak = statistics.median(cost.peak - one[0].peak for cost, one in zip(costs, rounds, strict=True))
        bad = forbidden(costs[0])
        print(f"{step.name:28}{cpu * 1e3:9.0f}{peak / 1e6:9.1f}  {', '.join(bad) or '-'}")
        wrong |= bool(bad) and "tensorflow" not in step.name
    return wrong


if __name__ == "__main__":
    main()
