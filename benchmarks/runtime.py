"""What the Classifier costs beside the bare interpreter, and what the fast way through large JPEGs gains and changes.

    python benchmarks/runtime.py [overhead] [jpeg] [accuracy] [--shared ../shared] [--threads 1] [--json]

overhead   V1 0.25/128 int8, an array at hand: `Classifier.classify` against `Interpreter.invoke` alone and against
           set_tensor + invoke + get_tensor, interleaved in one process. The bound is 1.03 against `invoke` alone.
jpeg       12-megapixel JPEGs (enlarged photographs): `classify` of the file's bytes against decoding all of it,
           resizing, and `classify` of the array. The bound is twice as fast.
accuracy   top-1 over the validation photographs, enlarged so that the fast way really decodes them smaller: fast
           against full decoding. The bound is 0.2 points.

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

from mbn_deploy.runtime import Classifier, load_pixels

FASTEST = "mobilenet_v1_0.25_128_quant.tflite"
ACCURATE = ("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v3_small_1.0_224_uint8.tflite")
ROUNDS, WARM_UP = 6000, 300
MEGAPIXELS_12 = (4000, 3000)
QUALITY = 90
OVERHEAD_BOUND, JPEG_BOUND, ACCURACY_BOUND = 1.03, 2.0, 0.2

Case = Callable[[], object]


def main() -> int:
    """Run the parts asked for, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="overhead, jpeg, accuracy (default: all)")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--enlarge", type=int, nargs="*", default=[4, 8], help="factors for the accuracy part")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "overhead": overhead, "jpeg": jpeg, "accuracy": accuracy,
    }  # fmt: skip
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
    bare: Any = classifier._backend._interpreter  # noqa: SLF001 - see above
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
        "threads": options.threads, "rounds": ROUNDS, "microseconds": {k: v * 1e6 for k, v in medians.items()},
        "ratios": ratios, "bound": OVERHEAD_BOUND, "passed": ratios["invoke"] <= OVERHEAD_BOUND,
    }  # fmt: skip


def jpeg(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from the bytes of a 12-megapixel JPEG to the answer."""
    model = options.shared / "models/published" / ACCURATE[0]
    classifier = Classifier.open(model, resize="squash", threads=options.threads)
    size = classifier.info.size
    results = []
    say(f"\n12-megapixel JPEGs, {ACCURATE[0]}, {options.threads} thread(s), medians of 9")
    for path in photographs(options.shared)[::140]:
        data = enlarged(path, MEGAPIXELS_12)

        def full(data: bytes = data) -> object:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            resized = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return classifier.classify(np.asarray(resized))

        medians = interleaved({"fast": lambda data=data: classifier.classify(data), "full": full}, 9, warm_up=1)
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
        answers: dict[tuple[str, str], list[int]] = {(m, way): [] for m in models for way in ("fast", "full")}
        differences = []
        for path in paths:
            data = enlarged(path, tuple(side * factor for side in Image.open(path).size))
            pixels = {"fast": load_pixels(data, (224, 224), first(models).info.preprocess)}
            whole = Image.open(io.BytesIO(data))  # a PIL image is always decoded in full
            pixels["full"] = load_pixels(whole, (224, 224), first(models).info.preprocess)
            differences.append(float(np.abs(pixels["fast"].astype(int) - pixels["full"]).mean()))
            for (name, way), found in answers.items():
                found.append(models[name].classify(pixels[way], 1)[0].index - 1)  # 1001 classes, background first
        truth = np.array([synsets.index(path.parent.name) for path in paths])
        results += [summary(name, factor, answers, truth, statistics.mean(differences)) for name in models]
    return {
        "results": results, "bound": ACCURACY_BOUND,
        "passed": all(abs(result["fast"] - result["full"]) <= ACCURACY_BOUND for result in results),
    }  # fmt: skip


def summary(
    name: str, factor: int, answers: dict[tuple[str, str], list[int]], truth: np.ndarray, difference: float
) -> dict[str, Any]:
    """One line of the accuracy table; `difference` is the mean over pixels, in levels."""
    fast, full = (np.array(answers[name, way]) for way in ("fast", "full"))
    result = {
        "model": name, "enlarged": factor, "fast": 100 * float((fast == truth).mean()),
        "full": 100 * float((full == truth).mean()), "agree": 100 * float((fast == full).mean()),
        "mean_difference": difference,
    }  # fmt: skip
    say(
        f"  x{factor}  {name:44} full {result['full']:5.2f}  fast {result['fast']:5.2f}  same answer "
        f"{result['agree']:6.2f}  pixels differ by {difference:.2f} levels"
    )
    return result


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
    """The validation photographs in a fixed order."""
    return sorted((shared / "imagenet/validation").glob("*/*.jpg"))


def enlarged(path: Path, size: tuple[int, ...]) -> bytes:
    """The photograph as a larger JPEG."""
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
