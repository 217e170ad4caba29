"""How long one inference takes on this machine, for files that were just made: a first impression, for the report.

Files take turns, so that whatever else the machine does hits all alike. `mbn-deploy benchmark` measures for long
enough to compare, and where it counts: on the device.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.backends import Backend, open_backend

TURNS = 6
LEAST_RUNS = 2  # of a file in a turn, beside one that brings it back into the caches
TURN_SECONDS = 0.01


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run on one thread: the median of the quietest turn, and of the busiest one.

    Where nothing else runs they are nearly the same; where much does, the first is closer to the file's own.
    """

    low: float
    high: float


def latencies(files: Mapping[str, tuple[bytes, FileFormat]]) -> dict[str, Latency]:
    """Of each of `files` (bytes and format by name), on one thread; about a tenth of a second a file.

    Raises `InputError` for files that the default interpreter refuses.
    """
    with ExitStack() as stack:
        opened = {name: open_backend(data, kind, threads=1, where=name) for name, (data, kind) in files.items()}
        for backend in opened.values():
            stack.callback(backend.close)
        turns: dict[str, list[list[float]]] = {name: [] for name in opened}
        for _ in range(TURNS):
            for name, backend in opened.items():
                turns[name].append(_turn(backend))
    return {name: _latency(found) for name, found in turns.items()}


def _turn(backend: Backend) -> list[float]:
    image = np.zeros(backend.input.shape, backend.input.dtype)
    backend.run(image)
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < TURN_SECONDS:
        start = time.perf_counter()
        backend.run(image)
        times.append(time.perf_counter() - start)
    return times


def _latency(turns: list[list[float]]) -> Latency:
    medians = [1e3 * statistics.median(times) for times in turns]
    return Latency(min(medians), max(medians))
