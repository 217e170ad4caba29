"""Measure how many JPEGs a second `classify_stream` answers, against what two cores allow.

    python benchmarks/stream.py [--shared ../shared] [--frames 60] [--rounds 15] [--json]

For each size of JPEG and each model, with an interpreter of one thread: seconds a frame of decoding and preparing
alone (`Classifier.prepare`), of inference and ranking alone (`run_raw`, `rank`), and of the stream, all over the
same frames in one process, interleaved; medians of the rounds. Two cores of which one decodes and one infers would
need max(decode, infer) a frame; the bound is 90 % of that rate. Beside it stands what `classify` in a loop does.

The JPEGs are calibration photographs, enlarged. The exit code is 1 if the bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from runtime import enlarged, say

from mbn_deploy.runtime import Classifier

MODELS = ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v2_1.0_224_quant.tflite")
SIZES = {"640 x 480": ((640, 480), 1), "12 megapixels": ((4000, 3000), 4)}  # and by what the frames are divided
PHOTOGRAPHS = 12
BOUND = 0.9


def main() -> int:
    """Print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--frames", type=int, default=60, help="in a pass, of 640 x 480; a quarter of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    photographs = sorted((options.shared / "imagenet/calibration").glob("*.jpg"))[:PHOTOGRAPHS]
    if not photographs:
        print(f"skipped: no photographs in {options.shared}", file=sys.stderr)
        return 0
    results = []
    say(f"{options.rounds} rounds; load of the machine {os.getloadavg()[0]:.1f}; milliseconds a frame, medians")
    for title, (size, divisor) in SIZES.items():
        jpegs = list(islice(cycle([enlarged(path, size) for path in photographs]), options.frames // divisor))
        for name in MODELS:
            model = options.shared / "models/published" / name
            with Classifier.open(model, resize="squash", threads=1) as classifier:
                results.append({"jpegs": title, "model": name, **measured(classifier, jpegs, options.rounds)})
            say(line(results[-1]))
    if options.json:
        print(json.dumps({"bound": BOUND, "rounds": options.rounds, "results": results}, indent=2))
    return 0 if all(result["ratio"] >= BOUND for result in results) else 1


def measured(classifier: Classifier, jpegs: list[bytes], rounds: int) -> dict[str, Any]:
    """Seconds a frame of each way, and the ratio of the stream's rate to what max(decode, infer) allows."""
    tensors = [classifier.prepare(jpeg) for jpeg in jpegs]
    ways: dict[str, Callable[[], object]] = {
        "decode": lambda: [classifier.prepare(jpeg) for jpeg in jpegs],
        "infer": lambda: [classifier.rank(classifier.run_raw(tensor)) for tensor in tensors],
        "stream": lambda: sum(1 for _ in classifier.classify_stream(jpegs)),
        "loop": lambda: [classifier.classify(jpeg) for jpeg in jpegs],
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):  # the first one warms up
        for way in list(ways)[turn % 4 :] + list(ways)[: turn % 4]:
            start = time.perf_counter()
            ways[way]()
            times[way].append((time.perf_counter() - start) / len(jpegs))
    medians = {way: median(values[1:]) for way, values in times.items()}
    return {"frames": len(jpegs), **medians, "ratio": max(medians["decode"], medians["infer"]) / medians["stream"]}


def line(result: dict[str, Any]) -> str:
    """One line of the table."""
    times = "  ".join(f"{way} {result[way] * 1e3:7.2f}" for way in ("decode", "infer", "stream", "loop"))
    return (
        f"  {result['jpegs']:14} {result['model']:36} {result['frames']:3} frames  {times}  "
        f"stream {1 / result['stream']:6.0f} a second, {result['ratio']:.2f} of max(decode, infer)"
    )


if __name__ == "__main__":
    sys.exit(main())
