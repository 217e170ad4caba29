"""Frames whose colours tell which one they are, as pictures, videos and streams of bytes."""

import io
import sys
import threading
import time

import cv2
import numpy as np
from PIL import Image

LONG = 30  # seconds until a test that hangs is a failure
WIDTH, HEIGHT = 64, 48


def colour(index):
    """A colour whose channels cannot be mixed up: red leads, green tells the index."""
    return np.array([200, 10 * index, 30], np.uint8)


def plain(index):
    return np.broadcast_to(colour(index), (HEIGHT, WIDTH, 3)).copy()


def jpeg(index, **options):
    buffer = io.BytesIO()
    Image.fromarray(plain(index)).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def assert_colour(pixels, index, tolerance=3):
    """JPEG at quality 95 and MJPG video round colours by at most three levels, ever in flat areas."""
    assert pixels.dtype == np.uint8
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(pixels.mean((0, 1)), colour(index), atol=tolerance)


def write_video(path):
    """Ten frames, by OpenCV itself."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for index in range(10):
        writer.write(cv2.cvtColor(plain(index), cv2.COLOR_RGB2BGR))
    writer.release()


def ends_when(action, waits):
    """Return what `waits` returns in a thread, after `action` was done while it waited.

    The action is done again and again: nobody knows whether the thread waits already.
    """
    results = []
    thread = threading.Thread(target=lambda: results.append(waits()), daemon=True)
    thread.start()
    thread.join(0.1)
    assert not results
    deadline = time.monotonic() + LONG
    while thread.is_alive() and time.monotonic() < deadline:
        action()
        thread.join(0.1)
    return results[0]


def write_all(file, data, sizes=(1000,)):
    def write():
        at = 0
        for turn in range(sys.maxsize):
            part = data[at : at + sizes[turn % len(sizes)]]
            if not part:
                break
            file.write(part)
            at += len(part)
        file.close()

    threading.Thread(target=write, daemon=True).start()
