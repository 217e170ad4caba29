"""Write a package for a Raspberry Pi or another ARM board from a bundle.

DIR/                     and the same as DIR.tar.gz beside it
  install.sh  settings   makes a virtual environment from wheels/, offline, and verifies models/
  requirements.txt       what it installs, pinned, with sha256
  models/                a bundle with the files that the board's interpreter runs
  wheels/                for the board's processor and Python
  classify.py            an example
  mbn-deploy.service     a systemd unit
  rpicam/                model, labels and JSON for rpicam-apps' object_classify_tf
  README.md  package.json
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME, ModelFile
from mbn_deploy.packages.contents import listed_files
from mbn_deploy.packages.package import archive_of, check_package_target, write_package
from mbn_deploy.packages.pi.board import Board
from mbn_deploy.packages.pi.rpicam import JSON_NAME, StageFiles, lores_size, stage_files
from mbn_deploy.packages.pi.wheelhouse import Wheelhouse, build_wheelhouse
from mbn_deploy.packages.templates import fill_template, template_bytes
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.backends import BACKENDS as FORMATS
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.file_choice import preference
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.text import plain_words
from mbn_deploy.version import __version__

INSTALLER = "install.sh"
_PROGRAMS = (INSTALLER, "classify.py")
_SHIPPED = (*_PROGRAMS, "mbn-deploy.service")

# Parts of wheels that classifying pictures never loads, as shell patterns under site-packages: accelerators, libraries
# for C programs, tests, tools for workstations. `install.sh` removes them to save room on the board's card.
_TESTS = ("numpy/tests", "numpy/*/tests")
UNUSED: dict[str, tuple[str, ...]] = {
    "litert": ("ai_edge_litert/libLiteRtWebGpuAccelerator.so", *_TESTS),
    "onnx": ("onnxruntime/capi/libonnxruntime.so.*", "onnxruntime/transformers", *_TESTS),
    "tflite": _TESTS,
}


@dataclass(frozen=True)
class PiPackage:
    """A package that was written.

    Attributes:
        folder: the package.
        archive: the same as a .tar.gz file.
        board: the board that it is for.
        files: the bundle's files in it.
        wheels: the size of each wheel, by file name.
        installed_bytes: what the wheels take on the board, without what `install.sh` removes.
        rpicam: the model file that rpicam-apps' one was made from; None if none could be.
        rpicam_added: the operators that were put around the network for rpicam-apps.
        rpicam_reasons: why rpicam-apps cannot use the bundle's files, one reason a file; empty if it can use one.
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
        """The size of the archive."""
        return self.archive.stat().st_size


def write_pi_package(
    bundle: str | Path,
    folder: str | Path,
    board: Board | None = None,
    *,
    precision: str | None = None,
    wheels: Sequence[Path] = (),
    overwrite: bool = False,
    progress: Progress = silent,
) -> PiPackage:
    """Write a package to `folder`, and its archive beside it.

    Args:
        bundle: a folder that `export` made.
        folder: the package's folder; it appears complete or not at all.
        board: the board that it is for; by default aarch64, CPython 3.11, LiteRT.
        precision: take only the files of this precision.
        wheels: folders to take wheels from; pip then asks no index.
        overwrite: replace a package that is there.
        progress: called while wheels are fetched.

    Raises:
        InputError: a damaged bundle, wheels that cannot be had, a full disk.
        UsageError: something in the way at `folder`, no file in the bundle for this interpreter.
        MissingExtraError: the `export` extra is not installed here.
    """
    target, board = Path(folder), board or Board.of()
    check_package_target(target, overwrite=overwrite)
    source = Bundle.read(bundle)
    entries = _choose_files(source, board, precision)
    stage, reasons = _choose_stage(source, precision)
    wheelhouse = build_wheelhouse(board, wheels, progress)
    installed_bytes = _installed_bytes(wheelhouse, board)
    files = _models(source, entries) | {f"wheels/{name}": data for name, data in wheelhouse.wheels.items()}
    files |= {name: template_bytes("pi", name) for name in _SHIPPED}
    files |= {} if stage is None else {f"rpicam/{name}": data for name, data in stage.files.items()}
    readme = fill_template(
        "pi",
        "README.md",
        {
            **_board_values(board),
            "archive": shlex.quote(archive_of(target).name),
            "installed": round(installed_bytes / 1e6),
            "files": ", ".join(f"`{plain_words(e.path)}` ({plain_words(e.precision)})" for e in entries),
            "rpicam": "model and settings for rpicam-apps, see below" if stage else "not here, see below",
            "stage": _stage_text(source, stage, reasons),
        },
    )
    texts = {"requirements.txt": wheelhouse.requirements, "settings": _settings(board), "README.md": readme}
    files |= {name: text.encode() for name, text in texts.items()}
    description = _description(source, board, wheelhouse)
    return PiPackage(
        folder=target,
        archive=write_package(target, files, description, executable=_PROGRAMS, overwrite=overwrite),
        board=board,
        files=entries,
        wheels={name: len(data) for name, data in wheelhouse.wheels.items()},
        installed_bytes=installed_bytes,
        rpicam=None if stage is None else stage.source,
        rpicam_added=() if stage is None else stage.added,
        rpicam_reasons=reasons,
    )


def _choose_files(bundle: Bundle, board: Board, precision: str | None) -> tuple[ModelFile, ...]:
    """Return the files of the requested precision that the board's interpreter runs."""
    formats = {known for known, names in FORMATS.items() if board.backend in names}
    if precision is not None and precision not in {entry.precision for entry in bundle.files}:
        raise UnknownNameError("precision", precision, sorted({entry.precision for entry in bundle.files}))
    entries = tuple(e for e in bundle.files if e.format in formats and precision in (None, e.precision))
    if not entries:
        raise UsageError(
            f"{bundle.folder}: {board.backend} runs none of the requested files; the bundle has {listed_files(bundle)}"
        )
    return entries


def _models(bundle: Bundle, entries: tuple[ModelFile, ...]) -> dict[str, bytes]:
    """Return the bundle with only these files; labels and golden vectors, and so their hashes, stay as they are."""
    manifest = replace(bundle.manifest, files=entries)
    names = [name for name in (manifest.labels, manifest.golden) if name is not None]
    files = {name: read_file(bundle.folder / name) for name in names}
    files |= {entry.path: check_file(bundle.folder, entry) for entry in entries}
    files[MANIFEST_NAME] = manifest.to_json().encode()
    return {f"models/{name}": data for name, data in files.items()}


def _choose_stage(bundle: Bundle, precision: str | None) -> tuple[StageFiles | None, tuple[str, ...]]:
    """Make rpicam-apps' files from the best file that its stage can use; otherwise return why there is none."""
    candidates = [e for e in bundle.files if e.format == "tflite" and precision in (None, e.precision)]
    reasons: list[str] = []
    for entry in sorted(candidates, key=lambda e: preference(e.precision)):
        data = check_file(bundle.folder, entry)
        try:
            return stage_files(data, entry, bundle.manifest.answers, bundle.labels), ()
        except InputError as error:
            reasons.append(str(error))
    return None, tuple(reasons) or ("the bundle has no .tflite file",)


def _settings(board: Board) -> str:
    """Return the shell assignments that `install.sh` reads; all values are from tables of this program."""
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


def _installed_bytes(wheelhouse: Wheelhouse, board: Board) -> int:
    unused = UNUSED[board.backend]
    kept = (size for name, size in wheelhouse.unpacked.items() if not any(_lies_under(name, p) for p in unused))
    return sum(kept)


def _lies_under(name: str, pattern: str) -> bool:
    parts, pattern_parts = name.split("/"), pattern.split("/")
    return len(parts) >= len(pattern_parts) and all(map(fnmatchcase, parts, pattern_parts))


def _board_values(board: Board) -> dict[str, str]:
    return {
        "version": __version__,
        "architecture": board.architecture,
        "python": board.python,
        "system": board.system,
        "debian": f"\n       sudo apt install {' '.join(board.packages)}" if board.packages else "",
    }


def _stage_text(bundle: Bundle, stage: StageFiles | None, reasons: tuple[str, ...]) -> str:
    """Return the part of the README about rpicam-apps."""
    if stage is None:
        listed = "\n".join(f"- {plain_words(reason)}" for reason in reasons)
        return f"\n## rpicam-apps\n\nIts stage `object_classify_tf` cannot use any of the files:\n\n{listed}\n"
    entry = next(e for e in bundle.files if e.path == stage.source)
    width, height = lores_size(entry)
    return fill_template(
        "pi",
        "rpicam.md",
        {
            "json": JSON_NAME,
            "source": plain_words(stage.source),
            "added": ", ".join(stage.added) or "nothing",
            "width": width,
            "height": height,
        },
    )


def _description(bundle: Bundle, board: Board, wheelhouse: Wheelhouse) -> dict[str, Any]:
    """Return what package.json says of the package."""
    return {
        "kind": "pi",
        "model": bundle.manifest.model,
        "mbn_deploy": __version__,
        "architecture": board.architecture,
        "python": board.python,
        "backend": board.backend,
        "camera": board.camera,
        "requirements": [line.split(" ")[0] for line in wheelhouse.requirements.splitlines()],
    }
