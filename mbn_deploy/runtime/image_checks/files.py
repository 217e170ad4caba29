"""Check an image file by what it begins with; of other formats the size alone."""

from __future__ import annotations

import io
from typing import IO

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.image_checks import jpeg, jpeg2000, tiff
from mbn_deploy.runtime.image_checks.sizes import FILE_LIMIT


def check_file(file: IO[bytes], name: str) -> None:
    """Raise `InputError` for an image file whose decoding would take too long, and return to where `file` stood."""
    position = file.tell()
    try:
        size = file.seek(0, io.SEEK_END)
        if size > FILE_LIMIT:
            raise InputError(f"{name}: an image file of {size} bytes; at most {FILE_LIMIT} are read")
        file.seek(0)
        start = file.read(4)
        if start.startswith(jpeg.START):
            jpeg.check_jpeg(file, name)
        elif start in tiff.STARTS:
            tiff.check_tiff(file, name)
        elif start in jpeg2000.STARTS:
            jpeg2000.check_jpeg2000(file, name)
    finally:
        file.seek(position)
