"""A package for a Raspberry Pi or another ARM board, made from a bundle.

DIR/                     and the same as DIR.tar.gz beside it
  install.sh  settings   makes a virtual environment from wheels/, offline, and verifies models/
  requirements.txt       what it installs, pinned, with sha256
  models/                a bundle with the files that the board's interpreter runs
  wheels/                for the board's processor and Python
  classify.py            an example
  mbn-deploy.service     a systemd unit
  rpicam/                model, labels and JSON for rpicam-apps' object_classify_tf
  package.json           what all this is
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME, ModelFile
from mbn_deploy.packages.package import archive_of, check_package_target, write_package
from mbn_deploy.packages.pi.board import Board
from mbn_deploy.packages.pi.rpicam import JSON_NAME, StageFiles, lores_size, stage_files
from mbn_deploy.packages.pi.wheelhouse import Wheelhouse, build_wheelhouse
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.backends import BACKENDS as FORMATS
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.file_choice import preference
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.version import __version__

INSTALLER = "install.sh"
_PROGRAMS = (INSTALLER, "classify.py")
_SHIPPED = (*_PROGRAMS, "mbn-deploy.service")

# Parts of wheels, as shell patterns under site-packages, that classifying pictures never loads: accelerators, libraries
# for programs in C, tests, tools of a workstation. They need not take room on a board's card.
_TESTS = ("numpy/tests", "numpy/*/tests")
UNUSED: dict[str, tuple[str, ...]] = {
    "litert": ("ai_edge_litert/libLiteRtWebGpuAccelerator.so", *_TESTS),
    "onnx": ("onnxruntime/capi/libonnxruntime.so.*", "onnxruntime/transformers", *_TESTS),
    "tflite": _TESTS,
}


@dataclass(frozen=True)
class PiPackage:
    """What was made. `installed_bytes` is what the wheels unpack to, without what `install.sh` takes away.

    `rpicam` is the model file that the stage's one was made from, None if none can be; then
    `rpicam_reasons` says why, file by file.
    """

    folder: Path
    archive: Path
    board: Board
    files: tuple[ModelFile, ...]
    wheels: dict[str, int] = field(repr=False)
    installed_bytes: int
    rpicam: str | None
    rpicam_added: tuple[str, ...] = ()
    rpicam_reasons: tuple[str, ...] = field(default=(), repr=False)

    @property
    def download_bytes(self) -> int:
        """Size of the archive."""
        return self.archive.stat().st_size


def package_pi(
    bundle: str | Path,
    folder: str | Path,
    board: Board | None = None,
    *,
    precision: str | None = None,
    wheels: Sequence[Path] = (),
    overwrite: bool = False,
    progress: Progress = silent,
) -> PiPackage:
    """Make the package `folder` and its archive beside it from a bundle.

    Args:
        bundle: a folder that `export` made.
        folder: where to; appears whole or not at all.
        board: what for; by default aarch64, CPython 3.11, LiteRT.
        precision: only this one of the bundle's files.
        wheels: folders to take wheels from; pip then asks no index.
        overwrite: replace a package that stands there.
        progress: told while wheels are fetched.

    Raises:
        InputError: a damaged bundle, wheels that cannot be had, a disk that is full.
        UsageError: something in the way at `folder`; nothing in the bundle for this interpreter.
        MissingExtraError: the `export` extra is not installed here.
    """
    target, board = Path(folder), board or Board.of()
    check_package_target(target, overwrite=overwrite)
    opened = Bundle.read(bundle)
    chosen = _chosen(opened, board, precision)
    stage, reasons = _stage(opened, precision)
    house = build_wheelhouse(board, wheels, progress)
    installed = house.installed_bytes - _unused_bytes(house, board)
    plan = _Plan(opened, board, chosen, archive_of(target), installed, stage, reasons)
    files = _models(opened, chosen) | {f"wheels/{name}": data for name, data in house.wheels.items()}
    files |= {name: _shipped(name) for name in _SHIPPED}
    files |= {} if stage is None else {f"rpicam/{name}": data for name, data in stage.files.items()}
    texts = {"requirements.txt": house.requirements, "settings": _settings(board), "README.md": _readme(plan)}
    files |= {name: text.encode() for name, text in texts.items()}
    archive = write_package(target, files, _facts(opened, board, house), executable=_PROGRAMS, overwrite=overwrite)
    sizes = {name: len(data) for name, data in house.wheels.items()}
    source, added = (None, ()) if stage is None else (stage.source, stage.added)
    return PiPackage(target, archive, board, chosen, sizes, installed, source, added, reasons)


@dataclass(frozen=True)
class _Plan:
    """What the package's README tells of."""

    bundle: Bundle
    board: Board
    chosen: tuple[ModelFile, ...]
    archive: Path
    installed: int
    stage: StageFiles | None
    reasons: tuple[str, ...]


def _chosen(bundle: Bundle, board: Board, precision: str | None) -> tuple[ModelFile, ...]:
    """The bundle's files that the board's interpreter runs, of the precision asked for."""
    formats = {known for known, names in FORMATS.items() if board.backend in names}
    if precision is not None and precision not in {entry.precision for entry in bundle.files}:
        raise UnknownNameError("precision", precision, sorted({entry.precision for entry in bundle.files}))
    found = tuple(e for e in bundle.files if e.format in formats and precision in (None, e.precision))
    if not found:
        has = ", ".join(sorted(f"{entry.format}/{entry.precision}" for entry in bundle.files))
        raise UsageError(f"{bundle.folder}: nothing in it for {board.backend} as asked; it has {has}")
    return found


def _models(bundle: Bundle, chosen: tuple[ModelFile, ...]) -> dict[str, bytes]:
    """The bundle with these files alone. Labels and golden vectors are taken as they are, so are their hashes."""
    manifest = replace(bundle.manifest, files=chosen)
    names = [name for name in (manifest.labels, manifest.golden) if name is not None]
    files = {name: read_file(bundle.folder / name) for name in names}
    files |= {entry.path: check_file(bundle.folder, entry) for entry in chosen}
    return {f"models/{name}": data for name, data in files.items()} | {
        f"models/{MANIFEST_NAME}": manifest.to_json().encode()
    }


def _stage(bundle: Bundle, precision: str | None) -> tuple[StageFiles | None, tuple[str, ...]]:
    """Files for rpicam-apps from the best file that its stage can use, or why there is none."""
    candidates = [e for e in bundle.files if e.format == "tflite" and precision in (None, e.precision)]
    reasons: list[str] = []
    for entry in sorted(candidates, key=lambda e: preference(e.precision)):
        found = _stage_of(bundle, entry)
        if isinstance(found, StageFiles):
            return found, ()
        reasons.append(found)
    return None, tuple(reasons) or ("there is no .tflite file",)


def _stage_of(bundle: Bundle, entry: ModelFile) -> StageFiles | str:
    data = check_file(bundle.folder, entry)
    try:
        return stage_files(data, entry, bundle.manifest.scores, bundle.labels)
    except InputError as error:
        return str(error)


def _shipped(name: str) -> bytes:
    return (resources.files("mbn_deploy.packages.pi") / "templates" / name).read_bytes()


def _settings(board: Board) -> str:
    """What `install.sh` reads: shell assignments of values that are all from tables of this program."""
    values = {
        "arch": board.architecture,
        "bits": str(board.bits),
        "python_version": board.python,
        "backend": board.backend,
        "system_site": "yes" if board.sees_system else "no",
        "modules": " ".join(board.modules),
        "packages": " ".join(board.packages),
        "dependencies": "unchecked" if board.debian_packages else "checked",
        "unused": " ".join(UNUSED[board.backend]),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _unused_bytes(house: Wheelhouse, board: Board) -> int:
    patterns = UNUSED[board.backend]
    return sum(size for name, size in house.unpacked.items() if any(_lies_under(name, p) for p in patterns))


def _lies_under(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))


def _readme(plan: _Plan) -> str:
    board, stage = plan.board, plan.stage
    apt = f"\n       sudo apt install {' '.join(board.packages)}" if board.packages else ""
    values: Mapping[str, str] = {
        "version": __version__,
        "architecture": board.architecture,
        "python": board.python,
        "system": board.system,
        "archive": shlex.quote(plan.archive.name),
        "debian": apt,
        "installed": str(round(plan.installed / 1e6)),
        "files": ", ".join(f"`{_plain(entry.path)}` ({_plain(entry.precision)})" for entry in plan.chosen),
        "rpicam": "model and settings for rpicam-apps, see below" if stage else "not here, see below",
        "stage": _stage_text(plan.bundle, stage, plan.reasons),
    }
    return Template(_shipped("README.md").decode()).substitute(values)


def _stage_text(bundle: Bundle, stage: StageFiles | None, reasons: tuple[str, ...]) -> str:
    if stage is None:
        listed = "\n".join(f"- {_plain(reason)}" for reason in reasons)
        return f"\n## rpicam-apps\n\nNo file can be used by its stage `object_classify_tf`:\n\n{listed}\n"
    entry = next(e for e in bundle.files if e.path == stage.source)
    width, height = lores_size(entry)
    values = {
        "json": JSON_NAME,
        "source": _plain(stage.source),
        "added": ", ".join(stage.added) or "nothing",
        "width": str(width),
        "height": str(height),
    }
    return Template(_shipped("rpicam.md").decode()).substitute(values)


def _plain(text: str) -> str:
    """A name from a manifest as it may stand in a text: nothing that ends a quotation or moves a cursor."""
    return "".join(c if c.isprintable() and c != "`" else "?" for c in text)


def _facts(bundle: Bundle, board: Board, house: Wheelhouse) -> dict[str, Any]:
    return {
        "kind": "pi",
        "model": bundle.manifest.model,
        "mbn_deploy": __version__,
        "architecture": board.architecture,
        "python": board.python,
        "backend": board.backend,
        "camera": board.camera,
        "requirements": [line.split(" ")[0] for line in house.requirements.splitlines()],
    }
