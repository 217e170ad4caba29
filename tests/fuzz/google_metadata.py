"""TFLITE_METADATA, and the archive with the labels behind a file."""

import io
import zipfile

from harness import fuzz, instrumented, probe

with instrumented():
    from mbn_deploy.runtime.formats.tflite_metadata import google_metadata


def _archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("labels.txt", "ant\nbee\n")
    return buffer.getvalue()


_ROOT = b"\x0c\0\0\0M001\0\0\0\0"
fuzz(
    lambda data: google_metadata(data, data + _archive(), "m.tflite"),
    [_ROOT + bytes(40), probe("float32.tflite")[:400].replace(b"TFL3", b"M001")],
)
