#!/usr/bin/env python3
"""Classify pictures from a folder, a camera or a video: an example to start from.

venv/bin/python classify.py folder:photos
venv/bin/python classify.py picamera2            a camera on the ribbon cable
venv/bin/python classify.py v4l2:/dev/video0     a camera on USB
venv/bin/python classify.py video:film.mp4
"""

import argparse
import sys
from pathlib import Path

from mbn_deploy.errors import MbnError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.camera import frames

MODELS = Path(__file__).resolve().parent / "models"


def main() -> int:
    """Print a line for every frame: the probability of its best class, the label, and the frame's name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder:DIR, picamera2, v4l2:/dev/video0 or video:FILE")
    parser.add_argument("--sure", type=float, default=0.0, help="print only classes of at least this probability")
    options = parser.parse_args()
    try:
        # Opening a model takes as long as many pictures: use one classifier for all frames.
        with Classifier.open(MODELS) as classifier, frames(options.source) as source:
            for result in classifier.classify_stream(source):
                best = result.predictions[0]
                if best.score >= options.sure:
                    print(f"{best.score:7.2%}  {best.label!r}  {result.source.name!r}", flush=True)
    except MbnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
