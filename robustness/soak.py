"""Check that memory stays constant and every answer right over a hundred thousand inferences.

    python robustness/soak.py [--shared ../shared] [--inferences 100000] [--openings 1000] [--json]

V1 0.25/128 in int8, exported here from the published float weights (the demo's V1 0.25/32 where they are absent),
in LiteRT and in onnxruntime, each case in a process of its own:

one          all inferences in one thread, `Classifier.classify` of arrays
threads      as many, shared by 16 threads on one classifier
pool         the same on a `ClassifierPool`
stream       a tenth of as many JPEGs through `classify_stream`
open_close   open, one inference, close

Every answer is compared with the first that the same picture got. Memory is the resident set (`/proc/self/statm`),
sampled a hundred times; growth is the last quarter's median less that of the second quarter, after which everything
that is made once (buffers, arenas of malloc, the interpreter's caches) is there. The bound is 1 MiB, twenty bytes
an inference: less than the smallest Python object. Openings have 4 MiB, 8 kB each, where an interpreter that is
not freed costs over a hundred: they leave malloc with free pieces that it keeps (of 5.4 MB after 3000 openings with
onnxruntime, 1.3 MB more than after 500; in use, by mallinfo2, were 205 kB more, and with LiteRT nothing).
The exit code is 1 for a wrong answer or growth beyond the bound.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from mbn_deploy.runtime import Classifier, ClassifierPool

WEIGHTS = "mobilenet_v1_0.25_224.h5"
WAYS = ("one", "threads", "pool", "stream", "open_close")
THREADS, SAMPLES, PICTURES = 16, 100, 64
BOUND, OPENINGS_BOUND = 2**20, 2**22
PAGE = 4096


class Soak:
    """One backend: the runs, the pictures, and the answers that they must get."""

    def __init__(self, bundle: Path, backend: str, inferences: int, openings: int) -> None:
        self.path = bundle
        self.options: dict[str, Any] = {"precision": "int8", "backend": backend, "threads": 1}
        self.inferences, self.openings = inferences, openings
        rng = np.random.default_rng(0)
        with Classifier.open(bundle, **self.options) as classifier:
            shape = (PICTURES, *classifier.info.size, 3)
            self.pictures = rng.integers(0, 256, shape).astype(np.uint8)
            self.jpegs = [_jpeg(picture) for picture in self.pictures]
            self.expected = [classifier.classify(picture) for picture in self.pictures]
            self.of_jpegs = [classifier.classify(jpeg) for jpeg in self.jpegs]

    def one(self) -> Iterator[int]:
        """Yield the wrong answers of each hundredth of the inferences, in one thread."""
        with Classifier.open(self.path, **self.options) as classifier:
            for _ in range(SAMPLES):
                yield self._wrong(classifier, self.inferences // SAMPLES)

    def threads(self) -> Iterator[int]:
        """Yield the wrong answers when 16 threads share a classifier."""
        with Classifier.open(self.path, **self.options) as classifier:
            yield from self._shared(classifier)

    def pool(self) -> Iterator[int]:
        """Yield the wrong answers of a pool of interpreters."""
        with ClassifierPool.open(self.path, size=4, **self.options) as pool:
            yield from self._shared(pool)

    def stream(self) -> Iterator[int]:
        """Yield the wrong answers of a stream of a tenth as many JPEGs."""
        each = self.inferences // SAMPLES // 10
        with Classifier.open(self.path, **self.options) as classifier:
            results = classifier.classify_stream(cycle(self.jpegs))
            for _ in range(SAMPLES):
                yield sum(r.predictions != self.of_jpegs[r.index % PICTURES] for r in islice(results, each))
            results.close()

    def open_close(self) -> Iterator[int]:
        """Yield the wrong answers of opening, one inference and closing, again and again."""
        for _ in range(SAMPLES):
            wrong = 0
            for _ in range(self.openings // SAMPLES):
                with Classifier.open(self.path, **self.options) as classifier:
                    wrong += self._wrong(classifier, 1)
            yield wrong

    def _shared(self, classifier: Classifier) -> Iterator[int]:
        each = max(1, self.inferences // SAMPLES // THREADS)
        with ThreadPoolExecutor(THREADS) as threads:
            for _ in range(SAMPLES):
                yield sum(threads.map(lambda number: self._wrong(classifier, each, number), range(THREADS)))

    def _wrong(self, classifier: Classifier, count: int, start: int = 0) -> int:
        places = (place % PICTURES for place in range(start, start + count))
        return sum(classifier.classify(self.pictures[place]) != self.expected[place] for place in places)


def main() -> int:
    """Run both backends, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--inferences", type=int, default=100_000)
    parser.add_argument("--openings", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    spawn = get_context("spawn")
    with TemporaryDirectory() as folder:
        bundle = _in_process(spawn, exported, options.shared, Path(folder))
        for backend in ("litert", "onnx"):
            for way in WAYS:
                found = _in_process(spawn, measured, bundle, backend, way, options.inferences, options.openings)
                results.append({"backend": backend, "way": way, **found})
                print(line(results[-1]), file=sys.stderr)
    if options.json:
        print(json.dumps({"results": results}, indent=2))
    return 0 if all(result["wrong"] == 0 and result["growth"] <= result["bound"] for result in results) else 1


def measured(bundle: Path, backend: str, way: str, inferences: int, openings: int) -> dict[str, Any]:
    """Run one way in this process."""
    run: Callable[[], Iterator[int]] = getattr(Soak(bundle, backend, inferences, openings), way)
    samples, wrong, start = [], 0, time.perf_counter()
    for mistakes in run():
        wrong += mistakes
        samples.append(resident())
    seconds = time.perf_counter() - start
    quarter = len(samples) // 4
    growth = median(samples[-quarter:]) - median(samples[quarter : 2 * quarter])
    count = openings if way == "open_close" else inferences // (10 if way == "stream" else 1)
    bound = OPENINGS_BOUND if way == "open_close" else BOUND
    return {"count": count, "wrong": wrong, "seconds": seconds, "growth": growth, "bound": bound, "samples": samples}


def exported(shared: Path, folder: Path) -> Path:
    """Export int8 files of V1 0.25 at 128 pixels (weights do not depend on the input's size), or of the demo."""
    from mbn_deploy import build, export_model
    from mbn_deploy.demo.run import export_demo, write_pictures

    if not (shared / "models/float" / WEIGHTS).exists():
        return export_demo("mobilenet_v1", folder, write_pictures(folder)).bundle.folder
    model = build("mobilenet_v1", alpha=0.25, size=128, weights=shared / "models/float" / WEIGHTS)
    return export_model(
        model,
        folder / "bundle",
        resize="squash",
        precisions=("int8",),
        calibrate=shared / "imagenet/calibration",
        calibration_count=50,
    ).bundle.folder


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def line(result: dict[str, Any]) -> str:
    """Format one line of the table."""
    first, last = result["samples"][0] / 1e6, result["samples"][-1] / 1e6
    return (
        f"{result['backend']:7} {result['way']:9} {result['count']:7} in {result['seconds']:6.1f} s, {result['wrong']} "
        f"wrong; resident {first:.1f} MB at first, {last:.1f} MB at last, grew by {result['growth'] / 1e3:.0f} kB"
    )


def _in_process(context: Any, function: Callable[..., Any], *args: Any) -> Any:
    with context.Pool(1) as pool:
        return pool.apply(function, args)


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
