"""Decide whether two measurements differ by more than noise.

A measurement is a row of medians: runs are timed in blocks of some tenths of a second, and each block contributes the
median of its runs. The verdict is "slower" or "faster" only if all of this holds:

1. The ratio of the two rows' medians is beyond `FLOOR`, with a confidence of `CERTAINTY`. The interval comes from the
   moving-block bootstrap (H. R. Künsch, "The jackknife and the bootstrap for general stationary observations", Annals
   of Statistics 17 (1989), 1217-1241): blocks near in time share a frequency, a temperature and a load, and resampling
   them one by one would take the machine's drift for a difference. How many neighbours are drawn at once follows from
   the row's lag-1 autocorrelation r: (2r / (1 - r²))^⅔ n^⅓ (E. Carlstein, "The use of subseries values for estimating
   the variance of a general statistic from a stationary sequence", Annals of Statistics 14 (1986), 1171-1179).
2. The same holds after division by the yardstick: a fixed piece of work, timed at the start of each block on as many
   threads as the inference takes. If the machine as a whole was slower (heat, another program), so was the yardstick,
   and what remains is due to the file. This step is skipped if either row has no yardstick.
3. Both rows have at least `MIN_BLOCKS` blocks; a drift cannot be seen in fewer.

`FLOOR` covers what no bootstrap can see: a process keeps its memory in one place, the next process has it elsewhere,
and that alone changes times by some percent (Mytkowicz, Diwan, Hauswirth and Sweeney, "Producing wrong data without
doing anything obviously wrong!", ASPLOS 2009). `benchmarks/noise.py` measures it, and how often the rule is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Doubles

Verdict = Literal["faster", "slower", "no difference", "no verdict"]

FLOOR = 1.05
CERTAINTY = 0.99
MIN_BLOCKS = 30
RESAMPLES = 2000
MOST_BLOCKS = 200  # longer rows are thinned: neighbours are replaced by their median


@dataclass(frozen=True)
class Samples:
    """One measurement: the medians of its blocks in the order of time, in seconds, and as many of the yardstick.

    `yardstick` may be empty.
    """

    medians: Sequence[float]
    yardstick: Sequence[float] = ()


@dataclass(frozen=True)
class Ratio:
    """New time divided by old time (above 1: slower), with the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A verdict, the ratio as `measured`, and the ratio `corrected` by the yardstick (None without one).

    `why` explains "no verdict".
    """

    verdict: Verdict
    measured: Ratio
    corrected: Ratio | None = None
    why: str = ""

    def __str__(self) -> str:
        return {
            "faster": f"faster, {self.measured.value:.2f} times the time",
            "slower": f"slower, {self.measured.value:.2f} times the time",
            "no difference": "no difference beyond noise",
            "no verdict": f"no verdict: {self.why}",
        }[self.verdict]


def difference(old: Samples, new: Samples, *, least: int = MIN_BLOCKS) -> Difference:
    """Compare two measurements of at least one block each, by the rule of this module.

    A verdict needs `least` blocks on both sides. The same samples always give the same verdict.
    """
    rng = np.random.default_rng(0)
    before, after = _Bootstrap(old, rng), _Bootstrap(new, rng)
    measured, corrected = _ratio(before.plain, after.plain), None
    if before.corrected is not None and after.corrected is not None:
        corrected = _ratio(before.corrected, after.corrected)
    fewest = min(len(old.medians), len(new.medians))
    if fewest < least:
        why = f"{fewest} blocks were measured, {least} are needed; give more --runs or --seconds"
        return Difference("no verdict", measured, corrected, why)
    return Difference(_verdict([measured, *([] if corrected is None else [corrected])]), measured, corrected)


def _verdict(ratios: Sequence[Ratio]) -> Verdict:
    if all(ratio.low > FLOOR for ratio in ratios):
        return "slower"
    if all(ratio.high < 1 / FLOOR for ratio in ratios):
        return "faster"
    return "no difference"


class _Bootstrap:
    """The median of a row and the medians of its resamples: `plain` as measured, `corrected` by the yardstick."""

    def __init__(self, samples: Samples, rng: np.random.Generator) -> None:
        row = _thin(np.asarray(samples.medians, np.float64))
        indices = _resample(row, rng)
        self.plain = float(np.median(row)), np.median(row[indices], axis=1)
        self.corrected: tuple[float, Doubles] | None = None
        if len(samples.yardstick) == len(samples.medians):
            yardstick = _thin(np.asarray(samples.yardstick, np.float64))
            level = float(np.median(row)) / float(np.median(yardstick))
            self.corrected = level, np.median(row[indices], axis=1) / np.median(yardstick[indices], axis=1)


def _ratio(old: tuple[float, Doubles], new: tuple[float, Doubles]) -> Ratio:
    tail = (1 - CERTAINTY) / 2
    low, high = np.quantile(new[1] / old[1], (tail, 1 - tail))
    return Ratio(new[0] / old[0], float(low), float(high))


def _resample(row: Doubles, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return (RESAMPLES, blocks) indices: stretches of neighbours, joined until there are enough."""
    count, length = len(row), _stretch_length(row)
    starts = rng.integers(0, count - length + 1, (RESAMPLES, math.ceil(count / length), 1))
    return (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :count]


def _stretch_length(row: Doubles) -> int:
    """Return how many neighbours are drawn at once: 1 without autocorrelation, at most half the row."""
    centred = np.log(row) - np.log(row).mean()
    power = float((centred**2).sum())
    correlation = float((centred[1:] * centred[:-1]).sum()) / power if power else 0.0
    if correlation <= 0:
        return 1
    best: int = math.ceil((2 * correlation / (1 - correlation**2)) ** (2 / 3) * len(row) ** (1 / 3))
    return max(1, min(best, len(row) // 2))


def _thin(row: Doubles) -> Doubles:
    if len(row) <= MOST_BLOCKS:
        return row
    return np.array([np.median(part) for part in np.array_split(row, MOST_BLOCKS)])
