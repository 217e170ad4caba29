"""Zip archives whose entries lie stored and aligned, and whose bytes depend on nothing but the content.

Android maps assets out of an archive where they lie, which it can for stored entries only. The field
that moves an entry to its place is the one that `apksigner` writes and keeps: 0xD935, "Android ZIP
alignment" (apksig, ApkSigner.java): the alignment in two bytes, then zeros.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

ALIGNMENT = 4  # of any entry, as zipalign has it
PAGE = 16384  # of what is mapped: the largest page of an Android system (developer.android.com, "16 KB page sizes")

_FIELD = 0xD935
_LOCAL_HEADER = 30  # bytes before an entry's name (APPNOTE.TXT, 4.3.7)
_FIELD_HEAD = 6  # two of its identifier, two of its length, two of the alignment
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip archive can name: the same bytes every time
_UNIX, _MODE = 3, 0o100644  # of a plain file that everybody may read


def aligned_zip(entries: Mapping[str, bytes], pages: frozenset[str] = frozenset()) -> bytes:
    """An archive of `entries` in their order, none compressed.

    Args:
        entries: names with `/` and contents.
        pages: names of entries that begin at a multiple of `PAGE`; all others at one of `ALIGNMENT`.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = _UNIX, _MODE << 16
            head = packed.tell() + _LOCAL_HEADER + len(name.encode())
            entry.extra = _padding(head, PAGE if name in pages else ALIGNMENT)
            archive.writestr(entry, content)
    return packed.getvalue()


def _padding(head: int, alignment: int) -> bytes:
    """The extra field behind `head` bytes after which an entry is aligned; none where it is so already."""
    if head % alignment == 0:
        return b""
    zeros = -(head + _FIELD_HEAD) % alignment
    return struct.pack("<HHH", _FIELD, 2 + zeros, alignment) + bytes(zeros)
