"""Write a package: a folder, and beside it the same as one archive to copy to a device.

`package.json` describes the package and lists its files, so that the next one replaces them and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mbn_deploy.archives import tar_gz_bytes
from mbn_deploy.bundle.atomic_folder import check_parent, check_place, restore_interrupted, write_folder_atomically
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime.system.temporary import replacing
from mbn_deploy.text import shorten

PACKAGE_NAME = "package.json"
ARCHIVE_SUFFIX = ".tar.gz"
# Folders that Gradle makes beside a build script. They are no part of a package, but may be replaced with it.
_BUILD_SCRIPT, _BUILD_FOLDERS = "build.gradle.kts", frozenset({"build", ".gradle", ".kotlin"})


def archive_of(folder: Path) -> Path:
    """Return the path of the archive of the package `folder`, which is beside it."""
    target = folder.resolve()
    return target.with_name(target.name + ARCHIVE_SUFFIX)


def check_package_target(folder: Path, *, overwrite: bool) -> None:
    """Check that a package may be written to `folder`, before the long work.

    Raises:
        UsageError: something is there that must not be replaced.
        InputError: nothing can be written there.
    """
    target = check_place(folder)
    archive = archive_of(folder)
    restore_interrupted(target)
    if target.exists():
        _check_replaceable(folder, target, overwrite=overwrite)
    if archive.exists() and not (overwrite and archive.is_file()):
        raise UsageError(f"{archive} exists; --overwrite replaces it")
    check_parent(folder)


def _check_replaceable(folder: Path, target: Path, *, overwrite: bool) -> None:
    if not target.is_dir():
        raise UsageError(f"{folder} is a file; a package is a folder")
    try:
        paths = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not paths:
        return
    own = _own_files(target)
    if own is None:
        raise UsageError(f"{folder} is not empty, and not a package (it has no {PACKAGE_NAME}); choose another folder")
    if not overwrite:
        raise UsageError(f"{folder} holds a package; --overwrite replaces it")
    foreign = sorted(path for path in paths - own if not _is_built(path, own))
    if foreign:
        raise UsageError(f"{folder} holds files that are not part of its package: {shorten(foreign)}; move them away")


def _is_built(path: str, own: Collection[str]) -> bool:
    """Return whether Gradle made the file, beside a build script of the package."""
    parts = PurePosixPath(path).parts
    return any(
        part in _BUILD_FOLDERS and PurePosixPath(*parts[:depth], _BUILD_SCRIPT).as_posix() in own
        for depth, part in enumerate(parts[:-1])
    )


def _own_files(target: Path) -> set[str] | None:
    """Return the files that the package at `target` lists; None if it is not a package."""
    try:
        return {PACKAGE_NAME, *map(str, json.loads((target / PACKAGE_NAME).read_bytes())["files"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_package(
    folder: Path,
    files: Mapping[str, bytes],
    description: Mapping[str, Any],
    *,
    executable: Collection[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write a package and its archive; return the archive's path.

    Folder and archive each appear complete or not at all. The archive is made first and put in place last.

    Args:
        folder: the package; its name is that of the archive's top folder.
        files: the bytes of each file, by relative path (`models/labels.txt`).
        description: JSON values for `package.json`, which lists the files as well.
        executable: the files that may be run.
        overwrite: replace a package that is there.

    Raises `UsageError` and `InputError` as `check_package_target`.
    """
    check_package_target(folder, overwrite=overwrite)
    listed = dict(description) | {"files": sorted(files)}
    contents = dict(files) | {PACKAGE_NAME: (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()}
    archive = archive_of(folder)
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{archive.parent}: cannot be created: {error.strerror or error}") from error
    with replacing(archive) as temporary:
        temporary.write_bytes(tar_gz_bytes(folder.resolve().name, contents, executable))
        write_folder_atomically(folder, contents, executable=executable)
    return archive
