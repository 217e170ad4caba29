"""Compare our pixels with those of the training's loaders: Keras' and torchvision's.

    python benchmarks/training_pixels.py [pixels] [time] [answers] [--shared ../shared] [--count 60] [--json]

pixels     the share of pixels that are at most one level off, and the largest difference. "made": noise and photographs
           of many sizes and proportions in PNG files, which every decoder reads alike. "photographs": the JPEG files as
           they are; TensorFlow decodes JPEG with another inverse cosine transform than Pillow ("decoded": the share at
           most one level off before anything is resized). The bound is 99.9 %, for all but TensorFlow's JPEGs.
time       milliseconds from a 12-megapixel JPEG file to pixels of 224 x 224: ours and the loader's, medians of 9.
answers    MobileNetV2 1.0 on photographs: on how many the pixels of each way give the same first answer as the pixels
           of `image_dataset_from_directory`.

Without an argument all run. torchvision is no dependency: without it, it is left out. The exit code is 1 if a bound is
broken.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mbn_deploy.manifest import Preprocess, Resize
from mbn_deploy.pipeline.training_loader import LOADERS, load_as_in_training
from mbn_deploy.runtime import load_pixels

BOUND = 0.999
INPUTS = ((224, 224), (96, 96), (32, 32), (160, 120))
SIZES = (
    (227, 227),
    (640, 480),
    (500, 333),
    (333, 500),
    (97, 31),
    (1280, 720),
    (60, 200),
    (33, 33),
    (700, 90),
    (20, 20),
)
MEGAPIXELS_12 = (4000, 3000)
ROUNDS = 9
TORCHVISION: Resize = "torchvision"
CROP_FRACTION = 224 / 256

Array = npt.NDArray[Any]
Loader = Callable[[Path, tuple[int, int]], Array]


def main() -> int:
    """Run the parts asked for, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="pixels, time, answers (default: all)")
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--count", type=int, default=60, help="number of photographs")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    parts: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
        "pixels": compare_pixels,
        "time": measure_time,
        "answers": compare_answers,
    }
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(parts)}")
    if not photographs(options):
        print(f"skipped: no photographs in {options.shared}", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        chosen = [name for name in parts if name in (options.parts or parts)]
        results = {name: parts[name](options, Path(folder)) for name in chosen}
    if options.json:
        print(json.dumps(results, indent=2))
    return 0 if all(result.get("passed", True) for result in results.values()) else 1


def photographs(options: argparse.Namespace) -> list[Path]:
    """Return photographs, evenly spread over those of the shared folder."""
    paths = sorted((options.shared / "imagenet/calibration").glob("*.jpg"))
    return paths[:: max(1, len(paths) // options.count)][: options.count]


def loaders() -> dict[Resize, Loader]:
    """Return the libraries' own loaders by way to resize, without torchvision's where that is not installed."""
    found: dict[Resize, Loader] = {resize: _keras_loader(resize) for resize in LOADERS}
    if importlib.util.find_spec("torchvision") is None:
        say("torchvision is not installed: left out")
    else:
        found[TORCHVISION] = _load_with_torchvision
    return found


def _keras_loader(resize: Resize) -> Loader:
    preprocess = Preprocess(resize=resize)
    return lambda path, size: next(iter(load_as_in_training([path], size, preprocess, 3)))


def _load_with_torchvision(path: Path, size: tuple[int, int]) -> Array:
    transforms = importlib.import_module("torchvision.transforms")
    shorter = round(min(size) / CROP_FRACTION)
    with Image.open(path) as image:
        resized = transforms.Compose([transforms.Resize(shorter), transforms.CenterCrop(size)])(image.convert("RGB"))
    return np.asarray(resized, np.float32)


def compare_pixels(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare with every loader on made pictures and on photographs."""
    made, photos = made_pictures(options, folder), photographs(options)
    say(
        f"\nPixels at most one level off in %, largest difference: {len(made)} made pictures, {len(photos)} photographs"
    )
    results: dict[str, Any] = {"decoded": decoded_alike(photos)}
    passed = True
    for resize, loader in loaders().items():
        results[resize] = {
            "made": differences(resize, loader, made),
            "photographs": differences(resize, loader, photos),
        }
        shares = {kind: 100 * each["share"] for kind, each in results[resize].items()}
        largest = {kind: each["largest"] for kind, each in results[resize].items()}
        say(
            f"  {resize:14} made {shares['made']:8.4f} ({largest['made']:4.1f})   "
            f"photographs {shares['photographs']:8.4f} ({largest['photographs']:4.1f})"
        )
        by_pillow = resize in (TORCHVISION, "keras-nearest")
        passed &= shares["made"] >= 100 * BOUND and (shares["photographs"] >= 100 * BOUND or not by_pillow)
    say(f"  JPEG decoded by TensorFlow and by Pillow, before resizing: {100 * results['decoded']:.2f}")
    return results | {"bound": BOUND, "passed": bool(passed)}


def made_pictures(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Write PNG files of noise and of photographs in many sizes."""
    rng, sources = np.random.default_rng(0), photographs(options)
    paths = []
    for number, size in enumerate(SIZES):
        noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
        photo = Image.open(sources[number % len(sources)]).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        for kind, image in (("noise", noise), ("photo", photo)):
            paths.append(folder / f"{number}-{kind}.png")
            image.save(paths[-1])
    return paths


def differences(resize: Resize, loader: Loader, paths: Sequence[Path]) -> dict[str, float]:
    """Return the share of pixels at most one level off, and the largest difference."""
    preprocess = Preprocess(resize=resize, crop_fraction=CROP_FRACTION)
    off = [
        np.abs(load_pixels(path, size, preprocess).astype(np.float32) - loader(path, size)).ravel()
        for path in paths
        for size in INPUTS
    ]
    joined = np.concatenate(off)
    return {"share": float((joined <= 1).mean()), "largest": float(joined.max())}


def decoded_alike(paths: Sequence[Path]) -> float:
    """Return the share of values that TensorFlow and Pillow decode to at most one level apart."""
    import tensorflow as tf

    alike = []
    for path in paths:
        theirs = tf.image.decode_image(path.read_bytes(), channels=3).numpy().astype(int)
        with Image.open(path) as image:
            alike.append((np.abs(np.asarray(image.convert("RGB")) - theirs) <= 1).mean())
    return float(np.mean(alike))


def measure_time(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure ours and the loader's time for a large JPEG."""
    path, size = folder / "large.jpg", (224, 224)
    Image.open(photographs(options)[0]).convert("RGB").resize(MEGAPIXELS_12).save(path, quality=90)
    cases: dict[str, Callable[[], object]] = {}
    for resize in ("squash", "crop", *LOADERS, TORCHVISION):
        cases[resize] = _ours(path, size, Preprocess(resize=resize))
    for resize, loader in loaders().items():
        cases[f"{resize}, the library"] = _theirs(path, size, loader)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS + 1):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: 1e3 * statistics.median(values[1:]) for name, values in seconds.items()}
    say("\n12-megapixel JPEG to 224 x 224, ms")
    for name, value in medians.items():
        say(f"  {name:28} {value:6.1f}")
    return {"milliseconds": medians}


def _ours(path: Path, size: tuple[int, int], preprocess: Preprocess) -> Callable[[], object]:
    return lambda: load_pixels(path, size, preprocess)


def _theirs(path: Path, size: tuple[int, int], loader: Loader) -> Callable[[], object]:
    return lambda: loader(path, size)


def compare_answers(options: argparse.Namespace, _folder: Path) -> dict[str, Any]:
    """Count the photographs that get the same first answer as from the pixels of Keras' loader."""
    weights = options.shared / "models/float/mobilenet_v2_1.0_224.weights.h5"
    if not weights.is_file():
        say(f"\nanswers skipped: no {weights}")
        return {}
    from mbn_deploy.models.api import build
    from mbn_deploy.verify.evaluate import keras_predictor

    model = build("mobilenet_v2", alpha=1.0, size=224, classes=1000, weights=weights)
    predict, size, paths = keras_predictor(model, Preprocess.parse("tf")), (224, 224), photographs(options)
    loader = _keras_loader("keras")
    reference = np.concatenate([predict(loader(path, size)[None]).argmax(1) for path in paths])
    same = {}
    say(f"\nSame first answer as with the pixels of image_dataset_from_directory, {len(paths)} photographs, %")
    for resize in ("keras", "squash", "crop", "keras-crop", "keras-nearest"):
        preprocess = Preprocess(resize=resize)
        answers = [predict(load_pixels(path, size, preprocess)[None]).argmax(1) for path in paths]
        same[resize] = 100 * float((np.concatenate(answers) == reference).mean())
        say(f"  {resize:14} {same[resize]:5.1f}")
    return {"same": same}


def say(text: str) -> None:
    """Print words, which are no data, to stderr."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
