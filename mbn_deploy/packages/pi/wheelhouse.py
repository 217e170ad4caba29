"""Collect a wheelhouse: every wheel that a board needs, fetched by pip for that board's Python.

pip chooses versions and files, from wherever its own configuration says. This module decides which requirements count,
because pip evaluates their markers (`python_version < "3.11"`) for the machine that it runs on, not for the one that
it fetches for (pypa/pip#11010).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING

from mbn_deploy.archives import ZIP_ERRORS
from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.hashing import sha256
from mbn_deploy.packages.pi.board import Board
from mbn_deploy.packages.pi.own_wheel import OWN, own_metadata, rebuilt_wheel
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.system.temporary import scratch

if TYPE_CHECKING:
    from packaging.requirements import Requirement

STEP = "wheels"  # the name of this step in progress reports
SERVER_EXTRA = "serve"
INSTALLER = "pip"  # its wheel is part of the wheelhouse, so that a board needs no ensurepip
_ROUNDS = 20  # each fetches what the wheels of the round before require; four are usual


@dataclass(frozen=True, eq=False)
class Wheelhouse:
    """Wheels by file name, and the pinned requirements with sha256 that install exactly them.

    `unpacked` has the size of every file that they install, by its path under site-packages.
    """

    wheels: Mapping[str, bytes] = field(repr=False)
    requirements: str
    unpacked: Mapping[str, int] = field(repr=False)


def build_wheelhouse(board: Board, folders: Sequence[Path] = (), progress: Progress = silent) -> Wheelhouse:
    """Fetch everything that `mbn-deploy` needs on `board`.

    Args:
        board: the board that the wheels are for.
        folders: folders of wheels; if there are any, pip takes wheels from them and asks no index.
        progress: called after every round of fetching.

    Raises:
        InputError: a wheel cannot be had; the message quotes pip.
        MissingExtraError: `packaging` is not installed here.
    """
    own, installer = rebuilt_wheel(OWN), rebuilt_wheel(INSTALLER)
    with scratch("wheels") as folder:
        paths = sorted(_fetch_all(board, folders, folder, progress).values())
        wheels = {path.name: path.read_bytes() for path in paths} | {own.name: own.data}
    lines = sorted(f"{_pinned(name)} --hash=sha256:{sha256(data)}\n" for name, data in wheels.items())
    unpacked = {name: size for data in wheels.values() for name, size in _contents(data)}
    return Wheelhouse(wheels | {installer.name: installer.data}, "".join(lines), unpacked)


def _contents(wheel: bytes) -> list[tuple[str, int]]:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return [(entry.filename, entry.file_size) for entry in archive.infolist()]


@dataclass
class _Requirements:
    """All requirements on one distribution together."""

    specifiers: set[str] = field(default_factory=set)
    extras: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return ",".join(sorted(filter(None, self.specifiers)))


def _fetch_all(board: Board, folders: Sequence[Path], into: Path, progress: Progress) -> dict[str, Path]:
    """Return wheels that satisfy every requirement, by normalized name; run pip until nothing is missing."""
    fetched: dict[str, Path] = {}
    for number in range(_ROUNDS):
        needed = _closure(board, fetched)
        missing = [f"{name}{asked}" for name, asked in needed.items() if not _satisfies(fetched.get(name), asked)]
        progress(STEP, len(needed) - len(missing), len(needed))
        if not missing:
            return {name: path for name, path in fetched.items() if name in needed}
        folder = into / str(number)
        _download(board, folders, folder, missing)
        fetched |= {_normalized(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    raise InputError(f"these requirements contradict each other: {', '.join(missing)}")


def _closure(board: Board, fetched: Mapping[str, Path]) -> dict[str, _Requirements]:
    """Return what the board needs according to the wheels fetched so far, without what comes from apt."""
    needed: dict[str, _Requirements] = {}
    pending = [(text, _own_extras(board)) for text in own_requirements()]
    while pending:
        text, extras = pending.pop(0)
        requirement = _parsed(text)
        name = _normalized(requirement.name)
        applies = requirement.marker is None or any(requirement.marker.evaluate(board.markers(e)) for e in extras)
        if not applies or name in board.debian_packages:
            continue
        is_known = name in needed
        asked = needed.setdefault(name, _Requirements())
        new_extras = requirement.extras - asked.extras
        asked.specifiers.add(str(requirement.specifier))
        asked.extras |= new_extras
        if name in fetched and (new_extras or not is_known):
            pending += [(t, {"", *asked.extras}) for t in _metadata(fetched[name]).get_all("Requires-Dist") or ()]
    for constraint in map(_parsed, board.constraints):
        if constraint.name in needed:
            needed[constraint.name].specifiers.add(str(constraint.specifier))
    return needed


def own_requirements() -> list[str]:
    """Return the requirements of this program, as its metadata state them."""
    return list(own_metadata().get_all("Requires-Dist") or ())


def _own_extras(board: Board) -> set[str]:
    """Return the extras that are installed: the interpreter's, and that of `mbn-deploy serve` if there is one."""
    return {"", board.backend, *({SERVER_EXTRA} & set(own_metadata().get_all("Provides-Extra") or ()))}


def _satisfies(wheel: Path | None, requirements: _Requirements) -> bool:
    from packaging.specifiers import SpecifierSet

    return wheel is not None and SpecifierSet(str(requirements)).contains(wheel.name.split("-")[1], prereleases=True)


def _download(board: Board, folders: Sequence[Path], into: Path, requirements: Sequence[str]) -> None:
    """Run pip once: fetch wheels of exactly these requirements, without their own. Nothing is built or executed.

    pip's temporary files lie in `into`, too, so that they are removed with it if both processes are killed.
    """
    into.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", board.python]
    for platform in board.platforms:
        command += ["--platform", platform]
    if folders:
        command += ["--no-index"]
    for folder in folders:
        command += ["--find-links", str(folder)]
    process = subprocess.run(  # noqa: S603 - no shell; names come from packages' metadata
        [*command, "--dest", str(into), "--", *requirements], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(into)},
    )  # fmt: skip
    if process.returncode:
        raise InputError(
            f"pip finds no wheels of {', '.join(requirements)} for CPython {board.python} on {board.architecture}:\n"
            + "\n".join(pip_errors(process.stderr))
        )


def pip_errors(output: str) -> list[str]:
    """Return the lines of pip's output that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    if "ERROR: Exception:" in errors:  # a full disk, say: a traceback follows, whose last line has the reason
        errors[-1:] = lines[-1:]
    return errors or lines[-3:]


def _metadata(wheel: Path) -> Message:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            return message_from_bytes(archive.read(name))
    except (*ZIP_ERRORS, StopIteration) as error:
        raise InputError(f"{wheel.name}: not a wheel: {error}") from error


def _pinned(wheel: str) -> str:
    name, version = wheel.split("-")[:2]
    return f"{_normalized(name)}=={version}"


def _normalized(name: str) -> str:
    """Normalize a distribution's name (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


def _parsed(text: str) -> Requirement:
    try:
        from packaging.requirements import Requirement
    except ImportError as error:
        raise MissingExtraError("packaging", "export", "to collect wheels") from error
    return Requirement(text)
