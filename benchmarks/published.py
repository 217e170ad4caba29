"""Top-1 and top-5 of Google's published .tflite files through our runtime, beside the figures that are known of them.

    python benchmarks/published.py [--shared ../shared] [--json]

The known figures are read from the table in the shared folder's README. A file passes if both of its
figures are within half a point. Without the folder there is nothing to measure, and the program says so.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from mbn_deploy.runtime import Classifier, load_pixels

ALLOWED = 0.5  # points: the decoder's and the resize filter's version move single images
BATCH = 50
ROW = re.compile(r"\| `(?P<file>[\w.]+\.tflite)` \|[^|]*\| (?P<top1>[\d.]+) \| (?P<top5>[\d.]+) \|")


def main() -> int:
    """Measure every file that has figures, print a table or JSON; 1 if one is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--json", action="store_true", help="data to stdout, words to stderr")
    options = parser.parse_args()
    if not (options.shared / "models/published").is_dir():
        print(f"skipped: no published models in {options.shared}", file=sys.stderr)
        return 0
    known = list(ROW.finditer((options.shared / "README.md").read_text(encoding="utf-8")))
    results = [measure(options.shared, match) for match in known]
    if options.json:
        print(json.dumps({"results": results}, indent=2))
    return 0 if all(result["passed"] for result in results) else 1


def measure(shared: Path, match: re.Match[str]) -> dict[str, object]:
    """One file over all validation images, against its row of the README."""
    images = sorted((shared / "imagenet/validation").glob("*/*.jpg"))
    synsets = (shared / "imagenet/synsets.txt").read_text(encoding="utf-8").split()
    with Classifier.open(shared / "models/published" / match["file"], resize="squash") as classifier:
        truth = (
            np.array([synsets.index(image.parent.name) for image in images]) + classifier.info.classes - len(synsets)
        )
        top1, top5 = accuracy(classifier, images, truth)
    expected1, expected5 = float(match["top1"]), float(match["top5"])
    passed = abs(top1 - expected1) <= ALLOWED and abs(top5 - expected5) <= ALLOWED
    result = {
        "file": match["file"],
        "images": len(images),
        "top1": round(top1, 2),
        "top5": round(top5, 2),
        "known_top1": expected1,
        "known_top5": expected5,
        "passed": passed,
    }
    print(
        f"{match['file']:52} top-1 {top1:5.2f} (known {expected1:5.2f})  top-5 {top5:5.2f} (known {expected5:5.2f})  "
        f"{'ok' if passed else 'OFF'}",
        file=sys.stderr,
    )
    return result


def accuracy(classifier: Classifier, images: list[Path], truth: np.ndarray) -> tuple[float, float]:
    """(top-1, top-5) in percent; a lower index wins where scores are equal."""
    info = classifier.info
    ranks = []
    for start in range(0, len(images), BATCH):
        chunk = images[start : start + BATCH]
        pixels = np.stack([load_pixels(image, info.size, info.preprocess) for image in chunk])
        order = np.argsort(-classifier.predict(pixels), axis=1, kind="stable")
        ranks.append((order == truth[start : start + BATCH, None]).argmax(axis=1))
    rank = np.concatenate(ranks)
    return 100 * float((rank < 1).mean()), 100 * float((rank < 5).mean())


if __name__ == "__main__":
    sys.exit(main())
