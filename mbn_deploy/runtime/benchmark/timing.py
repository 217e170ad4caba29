"""Timing one picture's way through a classifier: decode and resize, inference, ranking.

Several cases (a file with a number of threads) are measured in turns, a block of runs each, so that heat, frequency
and other programs hit all alike. Blocks, not single runs, take turns: a model that runs alone stays in the caches,
and whoever measures one wants to know that.
"""

from __future__ import annotations

import gc
import hashlib
import math
import statistics
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import numpy.typing as npt

from mbn_deploy.runtime.benchmark.significance import Blocks, Difference, difference
from mbn_deploy.runtime.classifier import Classifier

PHASES = ("preprocess", "inference", "postprocess")
ALL_PHASES = (*PHASES, "total")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

BLOCKS = 40  # of a case, at least, if there are as many runs
LONGEST_BLOCK = 1.0  # seconds
BURST_SECONDS = 2.0  # of work on each case
STEADY_SHARE = 3  # the last third
LEAST_STEADY = 6  # blocks of both; a drift is what is looked for, not what must be kept apart
TOP_K = 5
YARDSTICK_BYTES = bytes(range(256)) * 1024
Progress = Callable[[str, int, int], None]  # as mbn_deploy.progress


@dataclass(frozen=True)
class Amount:
    """How much is measured of each case: `runs`, or as many as go into `seconds`; after `warmup` runs."""

    seconds: float | None = 10.0
    runs: int | None = None
    warmup: int = 10


@dataclass(frozen=True)
class Block:
    """Some runs one after the other, begun `at` seconds after the first; medians in seconds."""

    at: float
    runs: int
    yardstick: float
    preprocess: float
    inference: float
    postprocess: float
    total: float


@dataclass
class Case:
    """A classifier with the picture that it is fed, and what was measured of it so far."""

    name: str
    classifier: Classifier
    picture: bytes
    times: tuple[array[float], ...] = field(default_factory=lambda: tuple(array("d") for _ in PHASES))
    blocks: list[Block] = field(default_factory=list)
    spent: float = 0.0

    def run(self) -> tuple[float, float, float]:
        """Seconds of each phase for one picture, from the file's bytes to predictions."""
        start = perf_counter()
        tensor = self.classifier.prepare(self.picture)
        prepared = perf_counter()
        output = self.classifier.run_raw(tensor)
        inferred = perf_counter()
        self.classifier.rank(output, TOP_K)
        return prepared - start, inferred - prepared, perf_counter() - inferred

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """Seconds of every run by phase, in order."""
        rows = {name: np.frombuffer(values, np.float64) for name, values in zip(PHASES, self.times, strict=True)}
        return {**rows, "total": np.sum(list(rows.values()), axis=0)}

    def quantiles(self) -> dict[str, dict[str, float]]:
        """By phase: p50, p90, p99, least and mean, seconds."""
        found = {}
        for name, values in self.columns().items():
            levels = np.quantile(values, list(QUANTILES.values()))
            found[name] = {key: float(level) for key, level in zip(QUANTILES, levels, strict=True)}
            found[name] |= {"min": float(values.min()), "mean": float(values.mean())}
        return found

    def row(self, phase: str = "inference") -> Blocks:
        """A phase's block medians with their yardstick."""
        return blocks_of(self.blocks, phase)


def blocks_of(blocks: Sequence[Block], phase: str, *, yardstick: bool = True) -> Blocks:
    """A phase's medians out of `blocks`."""
    return Blocks([getattr(b, phase) for b in blocks], [b.yardstick for b in blocks] if yardstick else ())


def measure(cases: Sequence[Case], amount: Amount, progress: Progress = lambda *_: None) -> None:
    """Warm up and measure all cases in turns; what is found stands in them afterwards."""
    for case in cases:
        for _ in range(amount.warmup):
            case.run()
    gc.collect()
    rounds = _Rounds(cases, amount)
    start = perf_counter()
    with _yardsticks() as yardstick:
        turn = 0
        while left := [case for case in cases if not rounds.done(case)]:
            progress("measuring", *rounds.progress())
            shift = turn % len(left)
            for case in left[shift:] + left[:shift]:
                _block(case, rounds, start, yardstick)
            turn += 1
    progress("measuring", *rounds.progress())


class _Rounds:
    """When a block ends, and when a case has enough of them."""

    def __init__(self, cases: Sequence[Case], amount: Amount) -> None:
        self._cases, self._runs = cases, amount.runs
        self._seconds = 0.0 if amount.seconds is None else amount.seconds
        # With several cases the first run of a block is not counted: it brings the model back into the caches.
        self.settle = len(cases) > 1
        least = 3 if self.settle else 1
        self._block_runs = least if amount.runs is None else max(least, math.ceil(amount.runs / BLOCKS))
        self._block_seconds = min(self._seconds / BLOCKS, LONGEST_BLOCK)

    def done(self, case: Case) -> bool:
        return case.spent >= self._seconds if self._runs is None else len(case.times[0]) >= self._runs

    def block_done(self, case: Case, runs: int, spent: float) -> bool:
        if self._runs is None:
            return runs >= self._block_runs and spent >= self._block_seconds
        return runs >= self._block_runs or len(case.times[0]) >= self._runs

    def progress(self) -> tuple[int, int]:
        """(done, of how much), in runs or in percent of the seconds, of the case that has least."""
        if self._runs is not None:
            return min(len(case.times[0]) for case in self._cases), self._runs
        return min(100, *(int(100 * case.spent / self._seconds) for case in self._cases)), 100


def _block(case: Case, rounds: _Rounds, start: float, yardstick: Callable[[int], float]) -> None:
    # The yardstick first: its threads are asleep again when the case's begin.
    level = yardstick(case.classifier.info.threads)
    if rounds.settle:
        case.run()
    first, begun = len(case.times[0]), perf_counter()
    spent, runs = 0.0, 0
    while not runs or not rounds.block_done(case, runs, spent):
        for values, seconds in zip(case.times, case.run(), strict=True):
            values.append(seconds)
        runs += 1
        spent = perf_counter() - begun
    case.spent += spent
    rows = [values[first:] for values in case.times]
    preprocess, inference, postprocess = (statistics.median(row) for row in rows)
    total = statistics.median(map(sum, zip(*rows, strict=True)))
    case.blocks.append(Block(begun - start, runs, level, preprocess, inference, postprocess, total))


@contextmanager
def _yardsticks() -> Iterator[Callable[[int], float]]:
    """A function that times the yardstick on so many threads at once: hashing, which needs neither lock nor memory."""
    pools: dict[int, ThreadPoolExecutor] = {}

    def once(threads: int) -> float:
        start = perf_counter()
        if threads == 1:
            hashlib.sha256(YARDSTICK_BYTES)
        else:
            list(pools[threads].map(hashlib.sha256, [YARDSTICK_BYTES] * threads))
        return perf_counter() - start

    def measured(threads: int) -> float:
        if threads > 1 and threads not in pools:
            pools[threads] = ThreadPoolExecutor(threads)
            once(threads)
        return statistics.median(once(threads) for _ in range(3))

    try:
        yield measured
    finally:
        for pool in pools.values():
            pool.shutdown()


@dataclass(frozen=True)
class Steadiness:
    """The first seconds (burst) against the last third (steady) of a run: medians of the total, seconds.

    `difference` is steady against burst, not corrected by the yardstick: it is the machine that is asked about.
    None where the run was too short to tell.
    """

    burst: float
    steady: float
    difference: Difference


def steadiness(blocks: Sequence[Block], cases: int = 1) -> Steadiness | None:
    """Of one case among `cases` that took turns."""
    burst = [b for b in blocks if b.at < BURST_SECONDS * cases]
    steady = blocks[-(len(blocks) // STEADY_SHARE) :]
    if min(len(burst), len(steady)) < LEAST_STEADY or burst[-1].at >= steady[0].at:
        return None
    first, last = (blocks_of(part, "total", yardstick=False) for part in (burst, steady))
    return Steadiness(
        statistics.median(first.medians), statistics.median(last.medians), difference(first, last, least=LEAST_STEADY)
    )
