"""A wheelhouse: every wheel that a board needs, fetched by pip for that board's Python.

pip chooses versions and files, from wherever its own configuration says. Which requirements count is
decided here: pip evaluates their markers (`python_version < "3.11"`) for the machine that it runs on,
not for the one that it fetches for (pypa/pip#11010).
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

from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.hashing import sha256
from mbn_deploy.packages.pi.board import Board
from mbn_deploy.packages.pi.own_wheel import OWN, own_metadata, rebuilt_wheel
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.system.temporary import scratch

if TYPE_CHECKING:
    from packaging.requirements import Requirement

STEP = "wheels"
SERVER = "serve"  # the extra
INSTALLER = "pip"  # its own wheel is part of the house, so that a board needs no ensurepip
_ROUNDS = 20  # of fetching what the wheels fetched before ask for: usual are four


@dataclass(frozen=True, eq=False)
class Wheelhouse:
    """The wheels by file name, and the pinned requirements with sha256 that install exactly them.

    `unpacked` is the size of every file that they install, by its path under site-packages.
    """

    wheels: Mapping[str, bytes] = field(repr=False)
    requirements: str
    unpacked: Mapping[str, int] = field(repr=False)

    @property
    def installed_bytes(self) -> int:
        """Size of all that is installed."""
        return sum(self.unpacked.values())


def build_wheelhouse(board: Board, folders: Sequence[Path] = (), progress: Progress = silent) -> Wheelhouse:
    """Fetch everything that `mbn-deploy` needs on `board`.

    Args:
        board: what for.
        folders: of wheels; with any, they are taken from there alone and no index is asked.
        progress: told after every round of fetching.

    Raises:
        InputError: a wheel cannot be had; the message has pip's own words.
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
class _Want:
    """What all requirements of one distribution together ask for."""

    specifiers: set[str] = field(default_factory=set)
    extras: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return ",".join(sorted(filter(None, self.specifiers)))


def _fetch_all(board: Board, folders: Sequence[Path], into: Path, progress: Progress) -> dict[str, Path]:
    """By normalized name, wheels that satisfy every requirement: rounds of pip until nothing is open."""
    fetched: dict[str, Path] = {}
    for done in range(_ROUNDS):
        wanted = _closure(board, fetched)
        missing = [f"{name}{want}" for name, want in wanted.items() if not _satisfied(fetched.get(name), want)]
        progress(STEP, len(wanted) - len(missing), len(wanted))
        if not missing:
            return {name: path for name, path in fetched.items() if name in wanted}
        folder = into / str(done)
        _download(board, folders, folder, missing)
        fetched |= {_normalized(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    raise InputError(f"these requirements contradict each other: {', '.join(missing)}")


def _closure(board: Board, fetched: Mapping[str, Path]) -> dict[str, _Want]:
    """What is needed on the board, as far as the wheels fetched so far tell, without what its system brings."""
    wanted: dict[str, _Want] = {}
    pending = [(text, _own_extras(board)) for text in _own_texts()]
    while pending:
        text, extras = pending.pop(0)
        requirement = _parsed(text)
        name = _normalized(requirement.name)
        counts = requirement.marker is None or any(requirement.marker.evaluate(board.markers(e)) for e in extras)
        if not counts or name in board.debian_packages:
            continue
        known = name in wanted
        want = wanted.setdefault(name, _Want())
        new = requirement.extras - want.extras
        want.specifiers.add(str(requirement.specifier))
        want.extras |= new
        if name in fetched and (new or not known):
            pending += [(t, {"", *want.extras}) for t in _metadata(fetched[name]).get_all("Requires-Dist") or ()]
    for constraint in map(_parsed, board.constraints):
        if constraint.name in wanted:
            wanted[constraint.name].specifiers.add(str(constraint.specifier))
    return wanted


def _own_texts() -> list[str]:
    return list(own_metadata().get_all("Requires-Dist") or ())


def _own_extras(board: Board) -> set[str]:
    """The interpreter, and the server of `mbn-deploy serve` if that needs anything."""
    return {"", board.backend, *({SERVER} & set(own_metadata().get_all("Provides-Extra") or ()))}


def _satisfied(wheel: Path | None, want: _Want) -> bool:
    from packaging.specifiers import SpecifierSet

    return wheel is not None and SpecifierSet(str(want)).contains(wheel.name.split("-")[1], prereleases=True)


def _download(board: Board, folders: Sequence[Path], into: Path, requirements: Sequence[str]) -> None:
    """One run of pip: wheels of exactly these requirements, without theirs. None is built, none is executed.

    Its temporary files lie in `into`, too: if both are killed, they go with it.
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
    done = subprocess.run(  # noqa: S603 - no shell; names come from packages' metadata
        [*command, "--dest", str(into), "--", *requirements], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(into)},
    )  # fmt: skip
    if done.returncode:
        raise InputError(
            f"pip finds no wheels of {', '.join(requirements)} for CPython {board.python} on {board.architecture}:\n"
            + "\n".join(_errors(done.stderr))
        )


def _errors(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [line for line in lines if line.startswith("ERROR")]
    if "ERROR: Exception:" in found:  # a full disk, say: a traceback follows, and the reason is its last line
        found[-1:] = lines[-1:]
    return found or lines[-3:]


def _metadata(wheel: Path) -> Message:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            return message_from_bytes(archive.read(name))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise InputError(f"{wheel.name}: not a wheel: {error}") from error


def _pinned(wheel: str) -> str:
    name, version = wheel.split("-")[:2]
    return f"{_normalized(name)}=={version}"


def _normalized(name: str) -> str:
    """As PEP 503 has it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _parsed(text: str) -> Requirement:
    try:
        from packaging.requirements import Requirement
    except ImportError as error:
        raise MissingExtraError("packaging", "export", "to collect wheels") from error
    return Requirement(text)
