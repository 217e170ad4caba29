"""Quick latency measurement of exported files on this machine: a first impression, for the guard and the report.

`runtime.benchmark` measures for longer, so that machines and runs can be compared, and where it counts: on the device.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.backend import Backend

TURNS = 6
LEAST_RUNS = 2  # timed runs of a file in a turn; one more comes first, to bring the model back into the caches
TURN_SECONDS = 0.01


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference on one thread: the medians of the quietest turn and of the busiest one.

    On an idle machine they are nearly equal. On a busy one the first is closer to what the file itself takes.
    """

    low: float
    high: float


def latencies(files: Mapping[str, tuple[bytes, FileFormat]]) -> dict[str, Latency]:
    """Time one inference of each file on one thread. Takes about a tenth of a second per file.

    The files take turns, so that whatever else the machine does affects all of them alike.

    Args:
        files: bytes and format by name.

    Raises:
        InputError: the default interpreter refuses a file.
        MissingExtraError: no interpreter for a format is installed.
    """
    with ExitStack() as stack:
        backends = {name: open_backend(data, kind, threads=1, where=name) for name, (data, kind) in files.items()}
        for backend in backends.values():
            stack.callback(backend.close)
        turns: dict[str, list[float]] = {name: [] for name in backends}
        for _ in range(TURNS):
            for name, backend in backends.items():
                turns[name].append(_median_of_turn(backend))
    return {name: Latency(1e3 * min(medians), 1e3 * max(medians)) for name, medians in turns.items()}


def _median_of_turn(backend: Backend) -> float:
    image = np.zeros(backend.input.shape, backend.input.dtype)
    backend.run(image)
    seconds: list[float] = []
    while len(seconds) < LEAST_RUNS or sum(seconds) < TURN_SECONDS:
        start = time.perf_counter()
        backend.run(image)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
