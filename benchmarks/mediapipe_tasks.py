"""The .tflite files of five real float models in Google's own MediaPipe Tasks, beside this project's Classifier.

    .venv/bin/python benchmarks/mediapipe_tasks.py [--data ../shared] [--models V2 ...] [--limit N] [--json FILE]

MediaPipe's `ImageClassifier` reads normalization and labels out of the file's metadata; it runs the same
C++ on Android. Two columns of top-1 agreement: of *pictures* each side resizes by itself (227 to
224 pixels, Pillow's antialiased bilinear filter here, OpenCV's or a GPU's there); *prepared* ones have the
input's size already, so that what is left is the model. Of classes with equal scores, which 8 bits make often,
either side may name any first: that counts as agreement, and *equal* says on how many pictures it mattered.
int8 files are tried with uint8 and with float32 input: int8 input MediaPipe refuses. Nothing is tuned on
these pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
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
    top1_prepared: float
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
    columns = f"{'pictures':>9} {'prepared':>9} {'top-5':>7} {'equal':>6} {'score':>8} {'ours':>7} {'Tasks':>7}"
    print(f"{'file':51} {'input':7} {columns}")
    for case in CASES:
        if any(part in case.file for part in arguments.models):
            results += _measured(case, arguments.data, photographs)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    short = [result.file for result in results if result.top1_pictures < ENOUGH]
    print(f"\n{len(photographs)} pictures; below {ENOUGH:.0%} of pictures with the same top-1: {short or 'none'}")
    return 1 if short else 0


def _photographs(data: Path, limit: int | None) -> list[tuple[Path, int]]:
    """(picture, class), every n-th if not all are wanted."""
    synsets = [line.split()[0] for line in (data / "imagenet" / "synsets.txt").read_text().splitlines()]
    found = sorted((data / "imagenet" / "validation").glob("*/*.jpg"))
    step = 1 if limit is None else max(1, len(found) // limit)
    return [(path, synsets.index(path.parent.name)) for path in found[::step][:limit]]


def _measured(case: Case, data: Path, photographs: list[tuple[Path, int]]) -> list[Result]:
    from mbn_deploy import build, export

    results = []
    for input_dtype, precisions in (("uint8", ["float32", "float16", "dynamic", "int8"]), ("float32", ["int8"])):
        with tempfile.TemporaryDirectory() as scratch:
            bundle = export(
                build(case.network, alpha=case.alpha, weights=data / "models" / "float" / case.file),
                Path(scratch) / "bundle",
                formats=["tflite"], precisions=precisions, input_dtype=input_dtype, resize="squash",
                calibration=data / "imagenet" / "calibration", labels=data / "imagenet" / "labels.txt",
            )  # fmt: skip
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
            scores = ours.predict(pixels[None])[0]
            differences = [abs(score - scores[index]) for index, (_, score) in prepared.items()]
            best, alike = next(iter(picture)), next(iter(prepared))
            rows.append([
                scores[best] >= mine[0].score, scores[alike] >= mine[0].score, _same_best(prepared, scores),
                scores[alike] == mine[0].score and alike != mine[0].index,
                max(differences), mine[0].index == truth, best == truth,
            ])  # fmt: skip
    shares = [float(column) for column in np.mean(rows, axis=0)]
    shares[4] = float(np.max(rows, axis=0)[4])
    return Result(file.name, ours.info.input.dtype, len(rows), *shares)


def _categories(result: Any) -> dict[int, tuple[str, float]]:
    """{class: (name, score)} of all classes, best first."""
    return {c.index: (c.category_name, c.score) for c in result.classifications[0].categories}


def _same_best(theirs: dict[int, tuple[str, float]], ours: Any, count: int = 5) -> bool:
    """Whether their best are among ours: of equal scores, which 8 bits make often, any may come first."""
    least = np.sort(ours)[-count]
    return all(ours[index] >= least - 1e-6 for index in list(theirs)[:count])


def _show(result: Result) -> None:
    print(
        f"{result.file:51} {result.input:7} {result.top1_pictures:9.2%} {result.top1_prepared:9.2%} "
        f"{result.top5_prepared:7.2%} {result.equal:6.2%} {result.largest_difference:8.5f} {result.ours_top1:7.2%} "
        f"{result.theirs_top1:7.2%}",
        flush=True,
    )


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
