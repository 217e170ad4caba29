"""One pass over all files of a sweep, on this machine, while nothing else of the sweep runs.

Latencies are compared with each other, so they come from one pass or there are none: where a file is new, all are
measured again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.progress import Progress
from mbn_deploy.runtime.benchmark.benchmark import benchmark
from mbn_deploy.runtime.benchmark.timing import Amount
from mbn_deploy.runtime.system.device import this_machine
from mbn_deploy.runtime.system.temporary import replace_file

NAME = "latency.json"
THREADS = 1


@dataclass(frozen=True)
class Pass:
    """Milliseconds of one inference on one thread by the file's sha256: p50 and p90; and what a reader must know."""

    machine: str
    model: str
    seconds: float
    milliseconds: dict[str, tuple[float, float]]
    notes: tuple[str, ...]


def measured(out: Path, bundles: Sequence[Bundle], seconds: float, progress: Progress) -> Pass | None:
    """The pass that stands in `out`, if it is of this machine and of all these files; else a new one. None for none."""
    wanted = {entry.sha256 for bundle in bundles for entry in bundle.files}
    machine = this_machine()
    old = _read(out / NAME)
    if old is not None and (old.machine, old.seconds) == (machine.key, seconds) and wanted <= set(old.milliseconds):
        return old
    if not wanted:
        return None
    found: dict[str, tuple[float, float]] = {}
    notes: list[str] = []
    for done, bundle in enumerate(bundles):
        progress("measure latency", done, len(bundles))
        result = benchmark([bundle.folder], threads=(THREADS,), amount=Amount(seconds), openings=0)
        for case in result.cases:
            times = case.quantiles["inference"]
            found[case.sha256] = (round(1e3 * times["p50"], 4), round(1e3 * times["p90"], 4))
        notes += [f"{bundle.folder.name}: {note}" for note in result.notes]
        notes += [f"{bundle.folder.name}: {name}: {why}" for name, why in result.failed.items()]
    progress("measure latency", len(bundles), len(bundles))
    new = Pass(machine.key, str(machine), seconds, found, tuple(notes))
    replace_file(out / NAME, (json.dumps(asdict(new), indent=1) + "\n").encode())
    return new


def _read(path: Path) -> Pass | None:
    try:
        data = json.loads(path.read_bytes())
        times = {str(key): (float(p50), float(p90)) for key, (p50, p90) in data["milliseconds"].items()}
        return Pass(str(data["machine"]), str(data["model"]), float(data["seconds"]), times, tuple(data["notes"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
