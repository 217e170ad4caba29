"""A package made from a bundle: a folder, and beside it the same as one archive to copy to a device.

`package.json` says what it is and which files belong to it, so that a package, and nothing else, is
replaced by the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mbn_deploy.archives import tar_gz_bytes
from mbn_deploy.bundle.write import put_back, put_folder
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.system.temporary import replacing
from mbn_deploy.text import shorten

PACKAGE_NAME = "package.json"
ARCHIVE_SUFFIX = ".tar.gz"
# What Gradle makes beside a build script; a package that was built in its place can be replaced all the same.
_BUILD_SCRIPT, _BUILT = "build.gradle.kts", frozenset({"build", ".gradle", ".kotlin"})


def archive_of(folder: Path) -> Path:
    """Where the archive of the package `folder` lies: beside it."""
    target = folder.resolve()
    return target.with_name(target.name + ARCHIVE_SUFFIX)


def check_package_target(folder: Path, *, overwrite: bool) -> None:
    """Whether a package may be written to `folder`, asked before the long work.

    Raises `UsageError` where something stands that must not be replaced, `InputError` where nothing
    can be written.
    """
    target, archive = folder.resolve(), archive_of(folder)
    if not target.name:
        raise UsageError(f"{folder}: a package needs a folder of its own")
    put_back(target)
    if target.exists():
        _check_replaceable(folder, target, overwrite=overwrite)
    if archive.exists() and not (overwrite and archive.is_file()):
        raise UsageError(f"{archive} is there already; --overwrite replaces it")
    parent = next(p for p in target.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no permission to write in {parent}, or no folder")


def _check_replaceable(folder: Path, target: Path, *, overwrite: bool) -> None:
    if not target.is_dir():
        raise UsageError(f"{folder} is a file; a package is a folder")
    try:
        found = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not found:
        return
    own = _own_files(target)
    if own is None:
        raise UsageError(f"{folder} is no package (it has no {PACKAGE_NAME}) and not empty; choose another folder")
    if not overwrite:
        raise UsageError(f"{folder} holds a package already; --overwrite replaces it")
    foreign = sorted(path for path in found - own if not _built(path, own))
    if foreign:
        raise UsageError(
            f"{folder} holds files that are no part of its package ({shorten(foreign)}); move them away first"
        )


def _built(path: str, own: Collection[str]) -> bool:
    parts = PurePosixPath(path).parts
    return any(
        part in _BUILT and PurePosixPath(*parts[:depth], _BUILD_SCRIPT).as_posix() in own
        for depth, part in enumerate(parts[:-1])
    )


def _own_files(target: Path) -> set[str] | None:
    """The files that the package which stands there names; None if it is none."""
    try:
        return {PACKAGE_NAME, *map(str, json.loads((target / PACKAGE_NAME).read_bytes())["files"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_package(
    folder: Path,
    files: Mapping[str, bytes],
    facts: Mapping[str, Any],
    *,
    executable: Collection[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write the package and its archive; returns the archive's path.

    Args:
        folder: where to; its name is that of the archive's only top folder.
        files: relative paths (`models/labels.txt`) with their bytes.
        facts: JSON values that `package.json` says of the package.
        executable: files that may be run.
        overwrite: replace a package that stands there.

    Raises `UsageError` and `InputError` as `check_package_target`. Each of the two appears whole or not
    at all; the archive is made first and put in place last.
    """
    check_package_target(folder, overwrite=overwrite)
    listed = dict(facts) | {"files": sorted(files)}
    every = dict(files) | {PACKAGE_NAME: (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()}
    archive = archive_of(folder)
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{archive.parent} cannot be made: {error.strerror or error}") from error
    with replacing(archive) as new:
        new.write_bytes(tar_gz_bytes(folder.resolve().name, every, executable))
        put_folder(folder, every, executable=executable)
    return archive
