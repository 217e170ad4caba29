"""Measures the latency of all files of a sweep in one pass on this machine, while no other job of the sweep runs.

Latencies are compared with each other, so all of them come from the same pass: if one file is new, all are measured
again.
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
class LatencyPass:
    """Latencies of one pass.

    Attributes:
        machine: identifies the kind of machine, see `Machine.key`.
        model: describes the machine to a reader.
        seconds: how long each file was measured.
        milliseconds: p50 and p90 of one inference on one thread, by the file's sha256.
        notes: what a reader should know, such as files that could not be run.
    """

    machine: str
    model: str
    seconds: float
    milliseconds: dict[str, tuple[float, float]]
    notes: tuple[str, ...]


def measure_latency(out: Path, bundles: Sequence[Bundle], seconds: float, progress: Progress) -> LatencyPass | None:
    """Measure all files of `bundles`, or return the pass stored in `out` if it has them all, from this machine.

    Returns None if there are no files.
    """
    wanted = {entry.sha256 for bundle in bundles for entry in bundle.files}
    machine = this_machine()
    old = _read(out / NAME)
    if old is not None and (old.machine, old.seconds) == (machine.key, seconds) and wanted <= set(old.milliseconds):
        return old
    if not wanted:
        return None
    milliseconds: dict[str, tuple[float, float]] = {}
    notes: list[str] = []
    for done, bundle in enumerate(bundles):
        progress("measure latency", done, len(bundles))
        result = benchmark([bundle.folder], threads=(THREADS,), amount=Amount(seconds), openings=0)
        for case in result.cases:
            times = case.quantiles["inference"]
            milliseconds[case.sha256] = (round(1e3 * times["p50"], 4), round(1e3 * times["p90"], 4))
        notes += [f"{bundle.folder.name}: {note}" for note in result.notes]
        notes += [f"{bundle.folder.name}: {name}: {why}" for name, why in result.failed.items()]
    progress("measure latency", len(bundles), len(bundles))
    new = LatencyPass(
        machine=machine.key, model=str(machine), seconds=seconds, milliseconds=milliseconds, notes=tuple(notes)
    )
    replace_file(out / NAME, (json.dumps(asdict(new), indent=1) + "\n").encode())
    return new


def _read(path: Path) -> LatencyPass | None:
    try:
        data = json.loads(path.read_bytes())
        times = {str(key): (float(p50), float(p90)) for key, (p50, p90) in data["milliseconds"].items()}
        return LatencyPass(
            machine=str(data["machine"]),
            model=str(data["model"]),
            seconds=float(data["seconds"]),
            milliseconds=times,
            notes=tuple(data["notes"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
