"""Write a bundle: check that it may stand in its place, then write it complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from mbn_deploy.bundle.atomic_folder import check_parent, check_place, restore_interrupted, write_folder_atomically
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME, REPORT_NAME, plain_name
from mbn_deploy.runtime.system.temporary import sibling_pattern
from mbn_deploy.text import shorten


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Check that a bundle may be written to `folder`, before the long work and again after it.

    Raises `UsageError` if something is there that must not be replaced, `InputError` if nothing can be written there.
    """
    target = check_place(folder)
    restore_interrupted(target)
    if target.exists():
        _check_replaceable(folder, target, overwrite=overwrite)
    check_parent(folder)


def _check_replaceable(folder: Path, target: Path, *, overwrite: bool) -> None:
    if not target.is_dir():
        raise UsageError(f"{folder} is a file; a bundle is a folder")
    try:
        names = sorted(path.name for path in target.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if not names:
        return
    if MANIFEST_NAME not in names:
        raise UsageError(f"{folder} is no bundle (it has no {MANIFEST_NAME}) and not empty; choose another folder")
    if not overwrite:
        raise UsageError(f"{folder} holds a bundle already; --overwrite replaces it")
    own, of_killed = _own_names(target), sibling_pattern(MANIFEST_NAME)
    foreign = [name for name in names if name not in own and not fnmatchcase(name, of_killed)]
    if foreign:
        raise UsageError(
            f"{folder} holds files that are no part of its bundle ({shorten(foreign)}); move them away first"
        )


def _own_names(target: Path) -> set[str]:
    """Return the files that the bundle's manifest names, of whatever version, so that older bundles can be replaced."""
    own = {MANIFEST_NAME, REPORT_NAME}
    try:
        data = json.loads((target / MANIFEST_NAME).read_bytes())
        return own | {str(data.get("labels")), str(data.get("golden")), *(str(f["path"]) for f in data["files"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return own


def write_bundle(folder: Path, files: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Write `files` (plain names) as the whole content of `folder`, all or nothing.

    Raises `UsageError` if something is there that must not be replaced, `InputError` for a full disk or a missing
    permission; nothing of the new bundle is left then.
    """
    for name in files:
        plain_name("bundle file", name)
    check_target(folder, overwrite=overwrite)
    write_folder_atomically(folder, files)
