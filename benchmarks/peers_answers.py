"""The five best classes of every validation photograph by one file in one engine; `peers.py` starts it for each.

    python peers_answers.py ENGINE FILE.json PIXELS.npy ANSWERS.npy

FILE.json tells the file (see `peers_make.py`), PIXELS are uint8 (N, H, W, 3); ANSWERS becomes int64 (N, 5). A process
a file, since some files take their interpreter with them. ENGINE `keras` is the float model itself, FILE.json then
has `weights` and `data`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy import CASES
from peers_engines import open_engine, runner
from peers_routes import Figures

from mbn_deploy.manifest import Preprocess
from mbn_deploy.verify.evaluate import Predictor, keras_predictor
from mbn_deploy.verify.scores import top_classes

CLASSES = 1000  # what is more is a first class of background
BATCH, TOP, THREADS = 50, 5, 2


def keras(file: Figures) -> Predictor:
    """Return a predictor of the float model."""
    from mbn_deploy.models.api import build

    case = next(case for case in CASES if case.file == file["weights"])
    model = build(case.network, alpha=case.alpha, weights=Path(file["data"]) / "models" / "float" / case.file)
    return keras_predictor(model, Preprocess.parse("raw" if case.network.startswith("mobilenet_v3") else "tf"))


def answers(predict: Predictor, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the five best classes of each image, (N, 5); raises `ValueError` for scores that are not finite."""
    found: list[npt.NDArray[Any]] = []
    for start in range(0, len(pixels), BATCH):
        scores = predict(np.ascontiguousarray(pixels[start : start + BATCH]))
        if not np.isfinite(scores).all():
            raise ValueError("answers are not finite")
        found.append(top_classes(scores[:, scores.shape[1] - CLASSES :], TOP))
    return np.concatenate(found)


def main() -> int:
    """Answer for one file; an error is one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    for name in ("file", "pixels", "answers"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    file, engine = json.loads(options.file.read_text("utf-8")), options.engine
    try:
        predict = keras(file) if engine == "keras" else runner(file, open_engine(engine, file, THREADS))
        np.save(options.answers, answers(predict, np.load(options.pixels, mmap_mode="r")))
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is what is written down
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
