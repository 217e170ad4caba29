"""The small classifier that the servers of the tests run, with labels that are no good HTML, and pictures of it."""

import io

import numpy as np
import pytest
import runtime_models as models
from PIL import Image

LABELS = ("<b>bold</b>", "<img src=x onerror=alert(1)>", "katze & hund", "\u202egnikool", "ünïcode " * 12)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return (the file, the options that `serve` and `run` need for it)."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    (folder / "tiny.tflite").write_bytes(models.int8_tflite())
    return folder / "tiny.tflite", ("--labels", folder / "labels.txt", "--threads", 1)


def encoded(pixels, kind="PNG", **options):
    """Encode the pixels as a file's bytes."""
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, kind, **options)
    return made.getvalue()


def png(index=0):
    return encoded(models.pictures()[index])


def photograph(width, height, kind="JPEG", **options):
    """Return smooth noise of that size."""
    rng = np.random.default_rng(width * height)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return encoded(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), kind, **options)
