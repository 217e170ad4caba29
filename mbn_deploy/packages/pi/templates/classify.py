#!/usr/bin/env python3
"""Says what is on pictures, as long as there are any: an example to start from.

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
    """Print a line for every frame: what is on it, how sure the model is, and which frame it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder:DIR, picamera2, v4l2:/dev/video0 or video:FILE")
    parser.add_argument("--sure", type=float, default=0.0, help="keep silent below this probability")
    wanted = parser.parse_args()
    try:
        # One classifier for all frames: opening a model costs as much as many pictures.
        with Classifier.open(MODELS) as classifier, frames(wanted.source) as source:
            for result in classifier.classify_stream(source):
                best = result.predictions[0]
                if best.score >= wanted.sure:
                    print(f"{best.score:7.2%}  {best.label!r}  {result.source.name!r}", flush=True)
    except MbnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
