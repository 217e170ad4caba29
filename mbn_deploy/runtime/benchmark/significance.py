"""Whether two measurements differ beyond noise.

A measurement is a row of medians: runs are timed in blocks of some tenths of a second, and each block gives the
median of its runs. The rule says "slower" or "faster" only if all of this holds:

1. The ratio of the two rows' medians lies beyond `FLOOR`, with certainty of `CERTAINTY`. The interval comes from the
   moving-block bootstrap (H. R. Künsch, "The jackknife and the bootstrap for general stationary observations",
   Annals of Statistics 17 (1989), 1217-1241): blocks near in time share a frequency, a temperature and a load, and
   drawing them one by one would call the machine's drift a difference. How many are drawn at once follows from the
   row's own correlation r of neighbours: (2r / (1 - r²))^⅔ n^⅓ (E. Carlstein, "The use of subseries values for
   estimating the variance of a general statistic from a stationary sequence", Annals of Statistics 14 (1986),
   1171-1179).
2. The same holds for the ratio after division by the yardstick: a fixed piece of work, measured at the start of each
   block on as many threads as the inference takes. If the machine as a whole was slower (heat, another program), the
   yardstick was too, and what is left is the file's. Either row without a yardstick skips this.
3. There are `MIN_BLOCKS` blocks on both sides; a drift cannot be seen in fewer.

`FLOOR` is what no bootstrap can see: within one process memory keeps its place, in the next it lies elsewhere, and
that alone moves times by some percent (Mytkowicz, Diwan, Hauswirth and Sweeney, "Producing wrong data without doing
anything obviously wrong!", ASPLOS 2009). `benchmarks/noise.py` measures it, and how often the rule is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["faster", "slower", "no difference", "no verdict"]

FLOOR = 1.05
CERTAINTY = 0.99
MIN_BLOCKS = 30
RESAMPLES = 2000
MOST_BLOCKS = 200  # longer rows are thinned: neighbours become one, their median
Row = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Blocks:
    """Medians in the order of time, seconds, and the yardstick's beside them (as many, or none)."""

    medians: Sequence[float]
    yardstick: Sequence[float] = ()


@dataclass(frozen=True)
class Ratio:
    """New time divided by old time (above 1: slower) with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The verdict, the ratio as measured, and `corrected` by the yardstick (None without one).

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


def difference(old: Blocks, new: Blocks, *, least: int = MIN_BLOCKS) -> Difference:
    """The verdict of the module's rule on two rows of at least one block, `least` for a verdict.

    The same rows give the same verdict.
    """
    rng = np.random.default_rng(0)
    before, after = _Draws(old, rng), _Draws(new, rng)
    measured, corrected = _ratio(before.plain, after.plain), None
    if before.corrected is not None and after.corrected is not None:
        corrected = _ratio(before.corrected, after.corrected)
    fewest = min(len(old.medians), len(new.medians))
    if fewest < least:
        why = f"{fewest} blocks were measured, {least} are needed; more runs or seconds give more"
        return Difference("no verdict", measured, corrected, why)
    return Difference(_verdict([measured, *([] if corrected is None else [corrected])]), measured, corrected)


def _verdict(ratios: Sequence[Ratio]) -> Verdict:
    if all(ratio.low > FLOOR for ratio in ratios):
        return "slower"
    if all(ratio.high < 1 / FLOOR for ratio in ratios):
        return "faster"
    return "no difference"


class _Draws:
    """A row's median and those of its resamples, in `plain` as measured, in `corrected` by the yardstick."""

    def __init__(self, blocks: Blocks, rng: np.random.Generator) -> None:
        row = _thinned(np.asarray(blocks.medians, np.float64))
        chosen = _resampled(row, rng)
        self.plain = float(np.median(row)), np.median(row[chosen], axis=1)
        self.corrected: tuple[float, Row] | None = None
        if len(blocks.yardstick) == len(blocks.medians):
            yard = _thinned(np.asarray(blocks.yardstick, np.float64))
            level = float(np.median(row)) / float(np.median(yard))
            self.corrected = level, np.median(row[chosen], axis=1) / np.median(yard[chosen], axis=1)


def _ratio(old: tuple[float, Row], new: tuple[float, Row]) -> Ratio:
    tail = (1 - CERTAINTY) / 2
    low, high = np.quantile(new[1] / old[1], (tail, 1 - tail))
    return Ratio(new[0] / old[0], float(low), float(high))


def _resampled(row: Row, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(RESAMPLES, blocks) indices: runs of neighbours, put together until there are enough."""
    count, length = len(row), _length(row)
    starts = rng.integers(0, count - length + 1, (RESAMPLES, math.ceil(count / length), 1))
    return (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, :count]


def _length(row: Row) -> int:
    """How many neighbours are drawn at once: 1 without correlation, at most half the row."""
    centred = np.log(row) - np.log(row).mean()
    power = float((centred**2).sum())
    correlation = float((centred[1:] * centred[:-1]).sum()) / power if power else 0.0
    if correlation <= 0:
        return 1
    best: int = math.ceil((2 * correlation / (1 - correlation**2)) ** (2 / 3) * len(row) ** (1 / 3))
    return max(1, min(best, len(row) // 2))


def _thinned(row: Row) -> Row:
    if len(row) <= MOST_BLOCKS:
        return row
    return np.array([np.median(part) for part in np.array_split(row, MOST_BLOCKS)])
