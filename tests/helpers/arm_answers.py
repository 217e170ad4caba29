"""A program for the emulated board: write the raw outputs of .tflite files for the pictures of an .npz.

python3 arm_answers.py OUT.npz PIXELS.npz BACKEND FILE...
"""

import sys
from pathlib import Path

import numpy as np

from mbn_deploy.runtime.backends import open_backend


def main(out, pixels, backend, files):
    with np.load(pixels) as archive:
        pictures = archive["pixels"]
    answers = {}
    for index, file in enumerate(files):
        opened = open_backend(Path(file).read_bytes(), "tflite", name=backend, threads=1)
        answers[f"f{index}"] = np.concatenate([opened.run(picture[np.newaxis]) for picture in pictures])
        opened.close()
    np.savez(out, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4:])
