"""Time an image's way through a classifier: decode and resize, inference, ranking.

Several cases (a file with a number of threads) take turns, a block of runs each, so that heat, processor frequency and
other programs affect all of them alike. Blocks rather than single runs take turns: a model that runs alone stays in the
caches, and that is the situation to measure.
"""

from __future__ import annotations

import gc
import math
import statistics
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from mbn_deploy.arrays import Doubles
from mbn_deploy.hashing import sha256
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.benchmark.significance import Difference, Samples, difference
from mbn_deploy.runtime.classifier import Classifier

PHASES = ("preprocess", "inference", "postprocess")
ALL_PHASES = (*PHASES, "total")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

BLOCKS = 40  # blocks of a case, at least, if there are as many runs
LONGEST_BLOCK = 1.0  # seconds
BURST_SECONDS = 2.0  # the first seconds of each case's work
STEADY_SHARE = 3  # the steady state is the last third of the blocks
LEAST_STEADY = 6  # blocks of burst and of steady state: few, since a drift only has to be noticed here
TOP_K = 5
YARDSTICK_BYTES = bytes(range(256)) * 1024


@dataclass(frozen=True)
class Amount:
    """The amount of measurement for each case: `runs`, or as many as fit into `seconds`, after `warmup` runs."""

    seconds: float | None = 10.0
    runs: int | None = None
    warmup: int = 10


@dataclass(frozen=True)
class Block:
    """Consecutive runs of one case that started `at` seconds after the first block; medians in seconds."""

    at: float
    runs: int
    yardstick: float
    preprocess: float
    inference: float
    postprocess: float
    total: float


@dataclass
class Case:
    """A classifier, the image that it is fed, and its measurements so far: `times` of each phase, `blocks` of runs."""

    name: str
    classifier: Classifier
    image: bytes
    times: tuple[array[float], ...] = field(default_factory=lambda: tuple(array("d") for _ in PHASES))
    blocks: list[Block] = field(default_factory=list)
    spent: float = 0.0

    def run(self) -> tuple[float, float, float]:
        """Classify the image once, from its file's bytes to predictions; return the seconds of each phase."""
        start = perf_counter()
        tensor = self.classifier.prepare(self.image)
        prepared = perf_counter()
        output = self.classifier.run_raw(tensor)
        inferred = perf_counter()
        self.classifier.decode(output, TOP_K)
        return prepared - start, inferred - prepared, perf_counter() - inferred

    def columns(self) -> dict[str, Doubles]:
        """Return the seconds of every run by phase, in order."""
        rows = {name: np.frombuffer(values, np.float64) for name, values in zip(PHASES, self.times, strict=True)}
        return {**rows, "total": np.sum(list(rows.values()), axis=0)}

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Return p50, p90, p99, minimum and mean of each phase, in seconds."""
        by_phase = {}
        for name, values in self.columns().items():
            levels = np.quantile(values, list(QUANTILES.values()))
            by_phase[name] = {key: float(level) for key, level in zip(QUANTILES, levels, strict=True)}
            by_phase[name] |= {"min": float(values.min()), "mean": float(values.mean())}
        return by_phase

    def samples(self, phase: str = "inference") -> Samples:
        """Return the block medians of a phase with their yardstick."""
        return samples_of(self.blocks, phase)


def samples_of(blocks: Sequence[Block], phase: str, *, yardstick: bool = True) -> Samples:
    """Return the medians of a phase of `blocks`, with or without their yardstick."""
    return Samples([getattr(b, phase) for b in blocks], [b.yardstick for b in blocks] if yardstick else ())


def measure(cases: Sequence[Case], amount: Amount, progress: Progress = silent) -> None:
    """Warm up and measure all cases in turns; the cases keep the measurements."""
    for case in cases:
        for _ in range(amount.warmup):
            case.run()
    gc.collect()
    schedule = _Schedule(cases, amount)
    start = perf_counter()
    with _yardstick_timer() as time_yardstick:
        turn = 0
        while left := [case for case in cases if not schedule.is_done(case)]:
            progress("measuring", *schedule.progress())
            shift = turn % len(left)
            for case in left[shift:] + left[:shift]:
                _measure_block(case, schedule, start, time_yardstick)
            turn += 1
    progress("measuring", *schedule.progress())


class _Schedule:
    """Decides when a block ends and when a case has enough blocks."""

    def __init__(self, cases: Sequence[Case], amount: Amount) -> None:
        self._cases, self._runs = cases, amount.runs
        self._seconds = 0.0 if amount.seconds is None else amount.seconds
        # With several cases the first run of a block is not counted: it brings the model back into the caches.
        self.skip_first = len(cases) > 1
        least = 3 if self.skip_first else 1
        self._block_runs = least if amount.runs is None else max(least, math.ceil(amount.runs / BLOCKS))
        self._block_seconds = min(self._seconds / BLOCKS, LONGEST_BLOCK)

    def is_done(self, case: Case) -> bool:
        """Return whether a case has enough runs or seconds."""
        return case.spent >= self._seconds if self._runs is None else len(case.times[0]) >= self._runs

    def is_block_done(self, case: Case, runs: int, spent: float) -> bool:
        """Return whether a block of so many runs and seconds is long enough."""
        if self._runs is None:
            return runs >= self._block_runs and spent >= self._block_seconds
        return runs >= self._block_runs or len(case.times[0]) >= self._runs

    def progress(self) -> tuple[int, int]:
        """Return (done, of how much) for the case that has least: in runs, or in percent of the seconds."""
        if self._runs is not None:
            return min(len(case.times[0]) for case in self._cases), self._runs
        return min(100, *(int(100 * case.spent / self._seconds) for case in self._cases)), 100


def _measure_block(case: Case, schedule: _Schedule, start: float, time_yardstick: Callable[[int], float]) -> None:
    # The yardstick first: its threads are asleep again when the case's threads start.
    yardstick = time_yardstick(case.classifier.info.threads)
    if schedule.skip_first:
        case.run()
    first, began = len(case.times[0]), perf_counter()
    spent, runs = 0.0, 0
    while not runs or not schedule.is_block_done(case, runs, spent):
        for values, seconds in zip(case.times, case.run(), strict=True):
            values.append(seconds)
        runs += 1
        spent = perf_counter() - began
    case.spent += spent
    rows = [values[first:] for values in case.times]
    preprocess, inference, postprocess = (statistics.median(row) for row in rows)
    case.blocks.append(
        Block(
            at=began - start,
            runs=runs,
            yardstick=yardstick,
            preprocess=preprocess,
            inference=inference,
            postprocess=postprocess,
            total=statistics.median(map(sum, zip(*rows, strict=True))),
        )
    )


@contextmanager
def _yardstick_timer() -> Iterator[Callable[[int], float]]:
    """Yield a function that times the yardstick on a number of threads at once.

    The yardstick is hashing: it needs no lock and hardly any memory.
    """
    pools: dict[int, ThreadPoolExecutor] = {}

    def once(threads: int) -> float:
        start = perf_counter()
        if threads == 1:
            sha256(YARDSTICK_BYTES)
        else:
            list(pools[threads].map(sha256, [YARDSTICK_BYTES] * threads))
        return perf_counter() - start

    def median_of_three(threads: int) -> float:
        if threads > 1 and threads not in pools:
            pools[threads] = ThreadPoolExecutor(threads)
            once(threads)
        return statistics.median(once(threads) for _ in range(3))

    try:
        yield median_of_three
    finally:
        for pool in pools.values():
            pool.shutdown()


@dataclass(frozen=True)
class Steadiness:
    """The first seconds (`burst`) and the last third (`steady`) of a run: medians of the total, in seconds.

    `difference` compares steady with burst, without the yardstick: a machine that slows down is what it looks for.
    """

    burst: float
    steady: float
    difference: Difference


def steadiness(blocks: Sequence[Block], cases: int = 1) -> Steadiness | None:
    """Compare the end of a case's run with its beginning; `cases` took turns. None if the run was too short."""
    burst = [b for b in blocks if b.at < BURST_SECONDS * cases]
    steady = blocks[-(len(blocks) // STEADY_SHARE) :]
    if min(len(burst), len(steady)) < LEAST_STEADY or burst[-1].at >= steady[0].at:
        return None
    first, last = (samples_of(part, "total", yardstick=False) for part in (burst, steady))
    return Steadiness(
        burst=statistics.median(first.medians),
        steady=statistics.median(last.medians),
        difference=difference(first, last, least=LEAST_STEADY),
    )
