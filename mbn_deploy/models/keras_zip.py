"""Safe reading of `.keras` archives: a zip of `config.json`, `metadata.json` and `model.weights.h5`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mbn_deploy.archives import ZIP_ERRORS
from mbn_deploy.errors import InputError

CONFIG_MEMBER = "config.json"
METADATA_MEMBER = "metadata.json"
WEIGHTS_MEMBER = "model.weights.h5"

CONFIG_LIMIT = 64 << 20  # bytes of config.json; V3-Large has 0.3 MB
# Keras stores weights uncompressed; an archive may unpack to this many times its size, above a floor.
_EXPANSION, _FLOOR = 20, 64 << 20


def is_zip(start: bytes) -> bool:
    """Tell whether a file that begins with `start` is a zip archive."""
    return start.startswith(b"PK\x03\x04")


def read_member(path: Path, name: str, limit: int | None = None) -> bytes:
    """Return one file of the archive at `path`.

    Raises:
        InputError: the archive is damaged or dangerous, has no such file, or one larger than `limit` bytes.
    """
    with _archive(path) as archive:
        try:
            size = archive.getinfo(name).file_size
        except KeyError:
            raise InputError(f"{path}: the archive has no {name}, so it is no Keras model") from None
        if limit is not None and size > limit:
            raise InputError(f"{path}: {name} has {size} bytes; more than {limit} are not read")
        return archive.read(name)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            yield archive
    except ZIP_ERRORS as error:
        raise InputError(f"{path}: the .keras archive is damaged or cut short: {error}") from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if name in seen:
            raise InputError(f"{path}: the archive has {name!r} twice; Keras writes no such file")
        seen.add(name)
        if PurePosixPath(name).is_absolute() or set(name) & set("\\:") or ".." in PurePosixPath(name).parts:
            raise InputError(f"{path}: the archive's member {name!r} points outside of it; Keras writes no such file")
    unpacked = sum(member.file_size for member in members)
    if unpacked > _FLOOR + _EXPANSION * path.stat().st_size:
        raise InputError(
            f"{path}: an archive of {path.stat().st_size} bytes that unpacks to {unpacked}; Keras writes no such file"
        )
