"""Hashes of content: what a bundle, a record or a cache knows a file by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def sha256(data: bytes | memoryview) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_parts(parts: Iterable[bytes | memoryview]) -> str:
    """Return the hexadecimal SHA-256 of all `parts` in a row, without joining them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def md5(data: bytes) -> str:
    """Return the hexadecimal MD5 of `data`, to compare with a sum that somebody published."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
