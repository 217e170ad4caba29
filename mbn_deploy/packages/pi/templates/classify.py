#!/usr/bin/env python3
"""Answer to pictures from a folder, a camera or a video: an example to start from.

venv/bin/python classify.py folder:photos
venv/bin/python classify.py picamera2            a camera on the ribbon cable
venv/bin/python classify.py v4l2:/dev/video0     a camera on USB
venv/bin/python classify.py video:film.mp4
"""

import argparse
import sys
from pathlib import Path

from mbn_deploy.errors import MbnError
from mbn_deploy.runtime import Answer, Classifier, Value
from mbn_deploy.runtime.camera import frames

MODELS = Path(__file__).resolve().parent / "models"


def described(answer: Answer) -> str:
    """Return names with probabilities, values with their names, or the length of a feature vector."""
    if not isinstance(answer, list):
        return f"{len(answer)} features"
    return ", ".join(
        f"{each.value:.6g}  {each.label!r}" if isinstance(each, Value) else f"{each.score:7.2%}  {each.label!r}"
        for each in answer
    )


def main() -> int:
    """Print a line for every frame: the likeliest class, all labels, the values; and the frame's name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder:DIR, picamera2, v4l2:/dev/video0 or video:FILE")
    parser.add_argument("--sure", type=float, help="print only names of at least this probability")
    options = parser.parse_args()
    try:
        # Opening a model takes as long as many pictures: use one classifier for all frames.
        with Classifier.open(MODELS) as classifier, frames(options.source) as source:
            names = None if classifier.info.answers.meaning == "labels" else 1
            for result in classifier.answer_stream(source, names, threshold=options.sure):
                if len(result.answer):
                    print(f"{described(result.answer)}  {result.source.name!r}", flush=True)
    except MbnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
