"""The .tflite files of five real float models in Google's own MediaPipe Tasks, beside this project's Classifier.

    .venv/bin/python benchmarks/mediapipe_tasks.py [--data ../shared] [--models V2 ...] [--limit N] [--json FILE]

MediaPipe's `ImageClassifier` reads normalization and labels out of the file's metadata; it runs the same
C++ on Android. Three columns of top-1 agreement: of *pictures* each side resizes by itself (227 to 224 pixels,
Pillow's antialiased bilinear filter here, OpenCV's `warpPerspective` there);
*filter* is the same, but the Classifier is given pixels that were resized as MediaPipe does it, which tells how
much of the difference the filter explains; *prepared* pictures have the input's size already, so that what is left
is the model; *built-in* is that against LiteRT without XNNPACK, for dynamic-range files: their activations are
quantized while they run, by every version of the kernels in a way of its own, so that neither of LiteRT's families
gives MediaPipe's scores. Of classes with equal scores, which 8 bits make often, either side may name any first: that
counts as agreement, and *equal* says on how many prepared pictures it mattered. int8 files are tried with uint8 and
with float32 input: int8 input MediaPipe refuses. Nothing is tuned on these pictures.

MediaPipe sends metrics about its use to Google, and has no switch for that (mediapipe#6291); no pictures.

The exit code is 1 if less than 99 % agree on prepared pictures, or with MediaPipe's filter, of any file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import CASES, Case

ENOUGH = 0.99  # of pictures with the same top-1


@dataclass(frozen=True)
class Result:
    """One file: shares of pictures on which both sides agree, and the largest difference of a score, prepared.

    `equal`: the share of prepared pictures on which they name different classes first, with equal scores.
    """

    file: str
    input: str
    pictures: int
    top1_pictures: float
    top1_filter: float
    top1_prepared: float
    top1_built_in: float | None
    top5_prepared: float
    equal: float
    largest_difference: float
    ours_top1: float
    theirs_top1: float


def main() -> int:
    """Measure, print, and return 1 where the two part on more pictures than they may."""
    arguments = _arguments()
    photographs = _photographs(arguments.data, arguments.limit)
    results: list[Result] = []
    known = same_filter([path for path, _ in photographs[:20]], (224, 224))
    print(f"MediaPipe's resizing, rebuilt here, gives {known:.2%} of its values on {len(photographs[:20])} photographs")
    names = {"pictures": 9, "filter": 9, "prepared": 9, "built-in": 9, "top-5": 7, "equal": 6, "score": 8}
    columns = " ".join(f"{name:>{width}}" for name, width in {**names, "ours": 7, "Tasks": 7}.items())
    print(f"{'file':51} {'input':7} {columns}")
    for case in CASES:
        if any(part in case.file for part in arguments.models):
            results += _measured(case, arguments.data, photographs)
    if arguments.json is not None:
        versions = {name: version(name) for name in ("mediapipe", "ai-edge-litert", "pillow")}
        data = {"versions": versions, "same_filter": known, "files": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(data, indent=2) + "\n")
    for column in ("pictures", "filter", "prepared"):
        short = _short(results, column)
        print(f"{len(photographs)} photographs; {column}: below {ENOUGH:.0%} with the same top-1: {short or 'none'}")
    return 1 if _short(results, "filter") + _short(results, "prepared") else 0


def _short(results: list[Result], column: str) -> list[str]:
    return [f"{r.file} ({r.input})" for r in results if getattr(r, f"top1_{column}") < ENOUGH]


def _photographs(data: Path, limit: int | None) -> list[tuple[Path, int]]:
    """(picture, class), every n-th if not all are wanted."""
    synsets = [line.split()[0] for line in (data / "imagenet" / "synsets.txt").read_text().splitlines()]
    found = sorted((data / "imagenet" / "validation").glob("*/*.jpg"))
    step = 1 if limit is None else max(1, len(found) // limit)
    return [(path, synsets.index(path.parent.name)) for path in found[::step][:limit]]


def _measured(case: Case, data: Path, photographs: list[tuple[Path, int]]) -> list[Result]:
    from mbn_deploy import build, export_model
    from mbn_deploy.export.file_types import InputType

    results = []
    inputs: dict[InputType, str] = {"uint8": "float32,float16,dynamic,int8", "float32": "int8"}
    for input_type, precisions in inputs.items():
        with tempfile.TemporaryDirectory() as scratch:
            bundle = export_model(
                build(case.network, alpha=case.alpha, weights=data / "models" / "float" / case.file),
                Path(scratch) / "bundle",
                formats=["tflite"],
                precisions=precisions,
                input=input_type,
                resize="squash",
                calibrate=data / "imagenet" / "calibration",
                labels=data / "imagenet" / "labels.txt",
            ).bundle
            for file in bundle.files:
                results.append(compare(Path(scratch) / "bundle" / file.path, photographs))
                _show(results[-1])
    return results


def compare(file: Path, photographs: list[tuple[Path, int]]) -> Result:
    """Both sides on every picture, as it lies on the disk and at the input's size."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    from mbn_deploy.runtime import Classifier, load_pixels

    base = BaseOptions(model_asset_path=str(file))
    rows: list[list[float]] = []
    alone: list[bool] = []
    built_in = _built_in(file) if "dynamic" in file.name else None
    with (
        vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=base)) as tasks,
        Classifier.open(file) as ours,
    ):
        labels = ours.labels
        for path, truth in photographs:
            mine = ours.classify(path)
            picture = _categories(tasks.classify(mp.Image.create_from_file(str(path))))
            pixels = load_pixels(path, ours.info.size, ours.info.preprocess)
            prepared = _categories(tasks.classify(mp.Image(mp.ImageFormat.SRGB, pixels)))
            if labels is None or any(labels[index] != name for index, (name, _) in prepared.items()):
                raise SystemExit(f"{file.name}: MediaPipe reads other labels than the bundle's")
            alone.append(built_in is None or next(iter(prepared)) == built_in(ours.prepare(pixels)))
            scores, filtered = ours.predict(np.stack([pixels, resized_by_tasks(path, ours.info.size)]))
            differences = [abs(score - scores[index]) for index, (_, score) in prepared.items()]
            best, alike = next(iter(picture)), next(iter(prepared))
            rows.append(
                [
                    scores[best] >= mine[0].score,
                    filtered[best] >= filtered.max(),
                    scores[alike] >= mine[0].score,
                    _same_best(prepared, scores),
                    scores[alike] == mine[0].score and alike != mine[0].index,
                    max(differences),
                    mine[0].index == truth,
                    best == truth,
                ]
            )
    shares = [float(column) for column in np.mean(rows, axis=0)]
    shares[5] = float(np.max(rows, axis=0)[5])
    shares.insert(3, float(np.mean(alone)))
    result = Result(file.name, ours.info.input.dtype, len(rows), *shares)
    return result if built_in else replace(result, top1_built_in=None)


def _built_in(file: Path) -> Callable[[np.ndarray], int]:
    """Top-1 of a prepared tensor on LiteRT's built-in kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(file), experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def best(tensor: np.ndarray) -> int:
        interpreter.set_tensor(source, tensor)
        interpreter.invoke()
        return int(interpreter.get_tensor(result).argmax())

    return best


def resized_by_tasks(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture to `size` (height, width) as MediaPipe's `ImageToTensorCalculator` does; uint8 (H, W, 3).

    Without a GPU that is OpenCV's `warpPerspective`, corner of a pixel to corner of a pixel, bilinear, not antialiased
    (mediapipe/calculators/tensor/image_to_tensor_converter_opencv.cc), whose places are rounded to 1/32 pixel
    (`INTER_BITS` 5 of OpenCV's imgproc). `same_filter` says whether that is what the installed MediaPipe does.
    """
    import mediapipe as mp

    image = mp.Image.create_from_file(str(path))
    pixels = image.numpy_view()[..., :3].astype(np.float64)
    for axis, count in enumerate(size):
        places = np.clip(np.rint(np.arange(count) * pixels.shape[axis] / count * 32) / 32, 0, pixels.shape[axis] - 1)
        first = np.floor(places).astype(int)
        share = (places - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        following = np.minimum(first + 1, pixels.shape[axis] - 1)
        pixels = pixels.take(first, axis) * (1 - share) + pixels.take(following, axis) * share
    rounded: np.ndarray = np.floor(pixels + 0.5).astype(np.uint8)
    return rounded


def same_filter(paths: list[Path], size: tuple[int, int]) -> float:
    """Return the share of values for which `resized_by_tasks` equals what Tasks hands to a model.

    Asked with a network that answers with its input, a class a value.
    """
    import mediapipe as mp
    import tensorflow as tf
    from mediapipe.tasks.python import BaseOptions, vision

    count = size[0] * size[1] * 3
    network = tf.function(lambda pixels: tf.reshape(tf.cast(pixels, tf.float32), (1, count)))
    concrete = network.get_concrete_function(tf.TensorSpec((1, *size, 3), tf.uint8))
    base = BaseOptions(model_asset_buffer=tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    equal = []
    with vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=base)) as tasks:
        for path in paths:
            values = np.empty(count)
            for category in tasks.classify(mp.Image.create_from_file(str(path))).classifications[0].categories:
                values[category.index] = category.score
            equal.append(np.mean(values == resized_by_tasks(path, size).reshape(-1)))
    return float(np.mean(equal))


def _categories(result: Any) -> dict[int, tuple[str, float]]:
    """{class: (name, score)} of all classes, best first."""
    return {c.index: (c.category_name, c.score) for c in result.classifications[0].categories}


def _same_best(theirs: dict[int, tuple[str, float]], ours: Any, count: int = 5) -> bool:
    """Return whether their best classes are among ours: of equal scores, frequent in 8 bits, any may come first."""
    least = np.sort(ours)[-count]
    return all(ours[index] >= least - 1e-6 for index in list(theirs)[:count])


def _show(result: Result) -> None:
    print(
        f"{result.file:51} {result.input:7} {result.top1_pictures:9.2%} {result.top1_filter:9.2%} "
        f"{result.top1_prepared:9.2%} {_share(result.top1_built_in)} {result.top5_prepared:7.2%} {result.equal:6.2%} "
        f"{result.largest_difference:8.5f} {result.ours_top1:7.2%} {result.theirs_top1:7.2%}",
        flush=True,
    )


def _share(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:9.2%}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--data", type=Path, default=here.parent / "shared")
    parser.add_argument("--models", nargs="*", default=[""], help="parts of file names; all without it")
    parser.add_argument("--limit", type=int, help="so many pictures, not all")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
