"""Zip and tar archives, written so that their bytes depend only on their contents, and what readers of them share."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import BinaryIO

ALIGNMENT = 4  # bytes: where `zipalign` puts stored entries of an Android archive
PAGE = 16384  # bytes: the largest memory page of an Android system (developer.android.com, "16 KB page sizes")
FILE_MODE, OWNER_ONLY = 0o100644, 0o600  # `OWNER_ONLY` is the mode that zipfile gives to entries without one

# What zipfile raises for damaged archives: it seeks, unpacks and decodes without checking first.
ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, KeyError, ValueError),
    *(OverflowError, RuntimeError),  # a position that no file has; encryption, or an unknown compression
)

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can hold
_TAR_DATE = 315532800  # the same, in seconds since 1970
_UNIX = 3  # "created on" in a zip entry: modes are Unix modes
# An entry's local header: bytes before its name, and the place of the lengths of name and extra field (APPNOTE, 4.3.7)
_LOCAL_HEADER, _NAME_LENGTH, _LENGTHS = 30, 26, struct.Struct("<2H")
# The extra field that aligns an entry: `apksigner` writes it and keeps it (apksig, ApkSigner.java). It holds the
# alignment in two bytes, then zeros.
_ALIGNMENT_FIELD, _ALIGNMENT_FIELD_HEAD = 0xD935, 6
_TAR_COMPRESSION = 1  # fast: wheels and models, which are most of a package, hardly become smaller


def zip_bytes(
    files: Mapping[str, bytes],
    *,
    compress: bool = False,
    mode: int = FILE_MODE,
    prefix: bytes = b"",
    alignment: int = 1,
    page_aligned: Collection[str] = (),
) -> bytes:
    """Return a zip archive of `files` (names with `/`), in the order of the mapping.

    Args:
        files: the content of each entry, by name.
        compress: deflate the entries; otherwise they are stored.
        mode: the Unix mode of every entry.
        prefix: bytes in front of the archive, such as the model file that it is appended to.
        alignment: the data of every entry begins at a multiple of this many bytes.
        page_aligned: names of entries whose data begins at a multiple of `PAGE` instead, to be mapped into memory.
    """
    packed = io.BytesIO(prefix)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.compress_type = archive.compression
            entry.create_system, entry.external_attr = _UNIX, mode << 16
            header_end = packed.tell() + _LOCAL_HEADER + len(name.encode())
            entry.extra = _alignment_field(header_end, PAGE if name in page_aligned else alignment)
            archive.writestr(entry, content)
    return packed.getvalue()


def _alignment_field(header_end: int, alignment: int) -> bytes:
    """Return the extra field that aligns data behind a header ending at `header_end`; empty if it is aligned."""
    if header_end % alignment == 0:
        return b""
    zeros = -(header_end + _ALIGNMENT_FIELD_HEAD) % alignment
    return struct.pack("<HHH", _ALIGNMENT_FIELD, 2 + zeros, alignment) + bytes(zeros)


def data_offset(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Return where the data of an entry of a zip archive begins; the archive's directory does not say so itself."""
    file.seek(entry.header_offset + _NAME_LENGTH)
    name_length, extra_length = _LENGTHS.unpack(file.read(_LENGTHS.size))
    return entry.header_offset + _LOCAL_HEADER + int(name_length) + int(extra_length)


def tar_gz_bytes(top: str, files: Mapping[str, bytes], executable: Collection[str] = ()) -> bytes:
    """Return a .tar.gz archive of `files`, sorted by name, below the folder `top`.

    Files named in `executable` have mode 755, all others 644.
    """
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", _TAR_COMPRESSION, buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), _TAR_DATE, 0o755 if name in executable else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
