"""Measure what Classifier costs beside the bare interpreter, and what fast decoding of large JPEGs gains and changes.

    python benchmarks/runtime.py [overhead] [jpeg] [accuracy] [--shared ../shared] [--threads 1] [--json]

overhead   V1 0.25/128 int8, an array at hand: `Classifier.classify` against `Interpreter.invoke` alone and against
           set_tensor + invoke + get_tensor, interleaved in one process. The bound is 1.03 against `invoke` alone.
jpeg       12-megapixel JPEGs (enlarged photographs): `classify` of the file's bytes against decoding all of it,
           resizing, and `classify` of the array. The bound is 1.4 times as fast.
accuracy   top-1 over the validation photographs, as they are and enlarged so that the fast way really decodes them
           smaller: fast against full decoding. The bound is 0.2 points as they are, and beyond that 1.96 paired
           standard errors for the enlarged ones: single images flip at any change of a level. Beside it, as a
           control, full decoding with as many pixels moved by one level, at random, as the fast way moves.

Without an argument all three run. The exit code is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime import Classifier, load_pixels

FASTEST = "mobilenet_v1_0.25_128_quant.tflite"
ACCURATE = ("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v1_0.25_224_float_with_metadata.tflite")
WAYS = ("fast", "full", "control")
ROUNDS, WARM_UP = 6000, 300
MEGAPIXELS_12 = (4000, 3000)
QUALITY = 90
OVERHEAD_BOUND, JPEG_BOUND, ACCURACY_BOUND = 1.03, 1.4, 0.2

Case = Callable[[], object]


def main() -> int:
    """Run the parts asked for, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="overhead, jpeg, accuracy (default: all)")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--enlarge", type=int, nargs="*", default=[1, 4, 8], help="factors for the accuracy part")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "overhead": overhead,
        "jpeg": jpeg,
        "accuracy": accuracy,
    }
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(parts)}")
    if not (options.shared / "models/published").is_dir():
        print(f"skipped: no published models in {options.shared}", file=sys.stderr)
        return 0
    results = {name: run(options) for name, run in parts.items() if name in (options.parts or parts)}
    if options.json:
        print(json.dumps(results, indent=2))
    return 0 if all(result["passed"] for result in results.values()) else 1


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds, medians of interleaved rounds."""
    path = options.shared / "models/published" / FASTEST
    classifier = Classifier.open(path, resize="squash", backend="litert", threads=options.threads)
    array = load_pixels(photographs(options.shared)[0], classifier.info.size, classifier.info.preprocess)
    batch = array[np.newaxis]
    # The classifier's own interpreter: another one would have other memory, and they would push each other
    # out of the cache, which happens to nobody who runs one model.
    backend: Any = classifier._backend  # noqa: SLF001 (see above)
    bare = backend._interpreter  # noqa: SLF001
    source, result = bare.get_input_details()[0]["index"], bare.get_output_details()[0]["index"]

    def complete() -> object:
        bare.set_tensor(source, batch)
        bare.invoke()
        return bare.get_tensor(result)

    cases: dict[str, Case] = {
        "invoke": bare.invoke,
        "set_tensor, invoke, get_tensor": complete,
        "Classifier.classify": lambda: classifier.classify(array),
    }
    medians = interleaved(cases, ROUNDS)
    ratios = {name: medians["Classifier.classify"] / medians[name] for name in list(cases)[:2]}
    say(f"\n{FASTEST}, {options.threads} thread(s), {ROUNDS} interleaved rounds, medians")
    for name, seconds in medians.items():
        ratio = f"classify costs {ratios[name]:.4f} x" if name in ratios else ""
        say(f"  {name:32} {seconds * 1e6:8.1f} us  {ratio}")
    return {
        "threads": options.threads,
        "rounds": ROUNDS,
        "microseconds": {k: v * 1e6 for k, v in medians.items()},
        "ratios": ratios,
        "bound": OVERHEAD_BOUND,
        "passed": ratios["invoke"] <= OVERHEAD_BOUND,
    }


def jpeg(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from the bytes of a 12-megapixel JPEG to the answer."""
    model = options.shared / "models/published" / ACCURATE[0]
    classifier = Classifier.open(model, resize="squash", threads=options.threads)
    size = classifier.info.size
    results: list[dict[str, Any]] = []
    say(f"\n12-megapixel JPEGs, {ACCURATE[0]}, {options.threads} thread(s), medians of 9")
    for path in photographs(options.shared)[::140]:
        data = enlarged(path, MEGAPIXELS_12)

        def full(data: bytes = data) -> object:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            resized = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return classifier.classify(np.asarray(resized))

        def fast(data: bytes = data) -> object:
            return classifier.classify(data)

        medians = interleaved({"fast": fast, "full": full}, 9, warm_up=1)
        ratio = medians["full"] / medians["fast"]
        results.append({"photo": path.name, "bytes": len(data), **medians, "faster": ratio})
        say(
            f"  {path.name:28} {len(data) / 1e6:4.1f} MB  full {medians['full'] * 1e3:6.1f} ms  "
            f"fast {medians['fast'] * 1e3:6.1f} ms  {ratio:4.2f} x"
        )
    slowest = min(float(result["faster"]) for result in results)
    return {"photos": results, "bound": JPEG_BOUND, "passed": slowest >= JPEG_BOUND}


def accuracy(options: argparse.Namespace) -> dict[str, Any]:
    """Top-1 in % with fast and with full decoding of the same enlarged JPEGs."""
    paths = photographs(options.shared)
    synsets = (options.shared / "imagenet/synsets.txt").read_text(encoding="utf-8").split()
    models = {
        name: Classifier.open(options.shared / "models/published" / name, resize="squash", threads=2)
        for name in ACCURATE
    }
    results = []
    say(f"\n{len(paths)} validation photographs, enlarged, JPEG quality {QUALITY}: top-1 in %")
    for factor in options.enlarge:
        answers: dict[tuple[str, str], list[int]] = {(m, way): [] for m in models for way in WAYS}
        differences = []
        for index, path in enumerate(paths):
            pixels = decoded_ways(path, factor, first(models).info.preprocess, np.random.default_rng(index))
            differences.append(float(np.abs(pixels["fast"].astype(int) - pixels["full"]).mean()))
            for (name, way), found in answers.items():
                found.append(models[name].classify(pixels[way], 1)[0].index - 1)  # 1001 classes, background first
        truth = np.array([synsets.index(path.parent.name) for path in paths])
        results += [summary(name, factor, answers, truth, statistics.mean(differences)) for name in models]
    return {"results": results, "bound": ACCURACY_BOUND, "passed": all(result["passed"] for result in results)}


def decoded_ways(path: Path, factor: int, preprocess: Preprocess, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the photograph's pixels by each of `WAYS`."""
    data = enlarged(path, tuple(side * factor for side in Image.open(path).size)) if factor > 1 else path.read_bytes()
    fast = load_pixels(data, (224, 224), preprocess)
    full = load_pixels(Image.open(io.BytesIO(data)), (224, 224), preprocess)  # a PIL image is decoded in full
    share = min(1.0, float(np.abs(fast.astype(int) - full).mean()))
    noise = rng.choice([-1, 0, 1], size=full.shape, p=[share / 2, 1 - share, share / 2])
    return {"fast": fast, "full": full, "control": (full.astype(int) + noise).clip(0, 255).astype(np.uint8)}


def summary(
    name: str, factor: int, answers: dict[tuple[str, str], list[int]], truth: np.ndarray, difference: float
) -> dict[str, Any]:
    """One line of the accuracy table; `difference` is the mean over pixels, in levels."""
    given = {way: np.array(answers[name, way]) for way in WAYS}
    right = {way: given[way] == truth for way in WAYS}
    top1 = {way: 100 * float(right[way].mean()) for way in WAYS}
    agree = {way: 100 * float((given[way] == given["full"]).mean()) for way in ("fast", "control")}
    # McNemar: only images that one way gets right and the other wrong count.
    error = 100 * float((right["fast"] != right["full"]).sum() ** 0.5) / len(truth)
    allowed = ACCURACY_BOUND if factor == 1 else max(ACCURACY_BOUND, 1.96 * error)
    say(
        f"  x{factor}  {name:50} full {top1['full']:5.2f}  fast {top1['fast']:5.2f}  control {top1['control']:5.2f}  "
        f"same answer: fast {agree['fast']:6.2f}, control {agree['control']:6.2f}  "
        f"pixels differ by {difference:.2f} levels; allowed {allowed:.2f}"
    )
    return {
        "model": name,
        "enlarged": factor,
        "top1": top1,
        "agree_with_full": agree,
        "mean_difference": difference,
        "allowed": allowed,
        "passed": abs(top1["fast"] - top1["full"]) <= allowed,
    }


def interleaved(cases: dict[str, Case], rounds: int, warm_up: int = WARM_UP) -> dict[str, float]:
    """Median seconds of each case; every round runs all of them, each time beginning with another one."""
    names = list(cases)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            cases[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[warm_up:]) for name, values in times.items()}


def photographs(shared: Path) -> list[Path]:
    """Return the validation photographs in a fixed order."""
    return sorted((shared / "imagenet/validation").glob("*/*.jpg"))


def enlarged(path: Path, size: tuple[int, ...]) -> bytes:
    """Return the photograph as a larger JPEG."""
    buffer = io.BytesIO()
    image = Image.open(path).convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def first(models: dict[str, Classifier]) -> Classifier:
    """Any of them: their preprocessing of pixels (not of numbers) is the same."""
    return next(iter(models.values()))


def say(text: str) -> None:
    """Words go to stderr, so that --json has stdout to itself."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
