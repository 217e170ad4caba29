"""Measure how often the verdict of `benchmark --compare` is wrong, and how large its smallest difference must be.

    python benchmarks/noise.py [rule] [openings] [--shared ../shared] [--trials 1000] [--openings 12] [--seconds 4]

rule      Apply the rule of runtime/benchmark/significance.py to random rows whose truth is known: 5 % of noise,
          independent or drifting (autocorrelation 0.8), a machine that is 30 % slower as a whole, rare outliers, and
          real differences. Prints, in % of the trials, how often it answers "faster" or "slower". Where nothing
          differs, the bound is 1 % (the rule's certainty).
openings  Open one file again and again and measure all of them in turns: every pair is the same file, so each verdict
          is an error, and a ratio beyond 1 comes from noise and from the place in memory. Prints the largest ratio of
          two medians, and of two 10 % quantiles, which other programs on the machine move less: the rule's smallest
          difference (FLOOR) must not be below that one.

Without an argument both run. The exit code is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.benchmark.significance import CERTAINTY, FLOOR, Samples, difference
from mbn_deploy.runtime.benchmark.targets import synthetic_image
from mbn_deploy.runtime.benchmark.timing import Amount, Case, measure

FILES = ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v2_1.0_224_quant.tflite")
SPREAD, DRIFT = 0.05, 0.8
COUNTS = (30, 40, 100)
Draw = Callable[[np.random.Generator, int], Samples]


def row(
    rng: np.random.Generator, count: int, *, level: float = 1.0, drift: float = 0.0, machine: float = 1.0
) -> Samples:
    """`count` blocks of `level` ms with first-order autocorrelation `drift`, on a machine `machine` times as slow."""
    noise = np.empty(count)
    noise[0] = rng.normal()
    for index in range(1, count):
        noise[index] = drift * noise[index - 1] + (1 - drift**2) ** 0.5 * rng.normal()
    medians = 1e-3 * level * machine * np.exp(SPREAD * noise)
    yardstick = 2e-3 * machine * np.exp(SPREAD / 2 * rng.normal(size=count))
    return Samples(medians.tolist(), yardstick.tolist())


def outliers(rng: np.random.Generator, count: int) -> Samples:
    """One block of ten takes three times as long."""
    made = row(rng, count)
    return Samples([m * (3 if rng.random() < 0.1 else 1) for m in made.medians], made.yardstick)


CASES: dict[str, tuple[bool, Draw, Draw]] = {  # whether they differ, the old one, the new one
    "same": (False, row, row),
    "same, drifting": (False, *2 * (lambda rng, n: row(rng, n, drift=DRIFT),)),
    "same, machine 30 % slower": (False, row, lambda rng, n: row(rng, n, machine=1.3)),
    "same, outliers": (False, outliers, outliers),
    "4 % slower": (False, row, lambda rng, n: row(rng, n, level=1.04)),
    "15 % slower": (True, row, lambda rng, n: row(rng, n, level=1.15)),
    "30 % slower, drifting": (
        True, lambda rng, n: row(rng, n, drift=DRIFT), lambda rng, n: row(rng, n, level=1.3, drift=DRIFT)
    ),
    "twice as fast": (True, row, lambda rng, n: row(rng, n, level=0.5)),
}  # fmt: skip


def rule(options: argparse.Namespace) -> bool:
    """Rates by case and number of blocks."""
    passed = True
    print(f"{options.trials} trials, noise {SPREAD:.0%}; said to differ, in %")
    print(f"  {'':28}" + "".join(f"{count:>6} blocks" for count in COUNTS))
    for name, (differs, old, new) in CASES.items():
        rates = []
        for count in COUNTS:
            rng = np.random.default_rng(count)
            said = [difference(old(rng, count), new(rng, count)).verdict for _ in range(options.trials)]
            rates.append(np.mean([verdict in ("faster", "slower") for verdict in said]))
        passed &= differs or bool(max(rates) <= 1 - CERTAINTY)
        print(f"  {name:28}" + "".join(f"{100 * rate:13.1f}" for rate in rates))
    return passed


def openings(options: argparse.Namespace) -> bool:
    """Measure one file that is opened several times."""
    passed = True
    for name in FILES:
        path = options.shared / "models/published" / name
        if not path.is_file():
            print(f"skipped: no {path}", file=sys.stderr)
            continue
        opened = [Classifier.open(path, resize="squash", threads=1) for _ in range(options.openings)]
        cases = [Case(str(index), classifier, synthetic_image().data) for index, classifier in enumerate(opened)]
        measure(cases, Amount(seconds=options.seconds))
        pairs = list(itertools.combinations(cases, 2))
        wrong = sum(difference(old.samples(), new.samples()).verdict in ("faster", "slower") for old, new in pairs)
        ratios = {level: max(spread(old, new, level) for old, new in pairs) for level in (0.5, 0.1)}
        print(
            f"{name}: {options.openings} openings, {options.seconds} s each, {len(pairs)} pairs: ratio at most "
            f"{ratios[0.5]:.3f} of medians, {ratios[0.1]:.3f} of 10 % quantiles; floor {FLOOR}; {wrong} wrong verdicts"
        )
        passed &= ratios[0.1] <= FLOOR and wrong <= (1 - CERTAINTY) * len(pairs)
    return passed


def spread(old: Case, new: Case, level: float) -> float:
    """Return the larger of two quantiles of the inference time, divided by the smaller."""
    ends = sorted(float(np.quantile(case.columns()["inference"], level)) for case in (old, new))
    return ends[1] / ends[0]


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="rule, openings (default: both)")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--openings", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each opening")
    options = parser.parse_args()
    parts = {"rule": rule, "openings": openings}
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(parts)}")
    passed = [run(options) for name, run in parts.items() if name in (options.parts or parts)]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
