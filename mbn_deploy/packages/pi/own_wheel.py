"""Rebuild the wheel of an installed distribution, so that a device gets exactly what runs here.

It works for a distribution that pip installed from a wheel, whose RECORD lists the files, and for an editable checkout,
whose folder has them. No build backend is needed. The formats are those of the PyPA specifications "Binary distribution
format" and "Recording installed projects".
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mbn_deploy import version
from mbn_deploy.archives import zip_bytes
from mbn_deploy.errors import InputError
from mbn_deploy.hashing import sha256

OWN = "mbn-deploy"
_TAG = "py3-none-any"


@dataclass(frozen=True)
class Wheel:
    """A wheel's file name and bytes."""

    name: str
    data: bytes


def rebuilt_wheel(name: str) -> Wheel:
    """Rebuild the wheel of an installed pure Python distribution; the same files give the same bytes.

    Raises `InputError` if it is not installed, or has parts that are compiled for this machine.
    """
    distribution = _distribution(name)
    stem = f"{name.replace('-', '_')}-{distribution.version}"
    info = f"{stem}.dist-info"
    files = {f"{info}/{key}": value for key, value in _info_files(distribution).items()}
    if "Root-Is-Purelib: false" in (distribution.read_text("WHEEL") or ""):
        raise InputError(f"{name} is compiled for this machine: its wheel cannot be rebuilt for another one")
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: mbn-deploy\nRoot-Is-Purelib: true\nTag: {_TAG}\n".encode()
    files |= dict(_package_files() if name == OWN and _is_editable(distribution) else _recorded_files(distribution))
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return Wheel(f"{stem}-{_TAG}.whl", zip_bytes(dict(sorted(files.items())), compress=True))


def own_metadata() -> metadata.PackageMetadata:
    """Return this program's own metadata: version, requirements, extras."""
    return _distribution(OWN).metadata


def _distribution(name: str) -> metadata.Distribution:
    """Return the installed distribution; a checkout's .egg-info in the current folder counts last."""
    distributions = list(metadata.distributions(name=name))
    if not distributions:
        raise InputError(f"{name} is not installed with its metadata; install it: pip install {name}")
    return min(distributions, key=lambda one: one.read_text("METADATA") is None)


def _is_editable(distribution: metadata.Distribution) -> bool:
    """Return whether the code is in a checkout instead of where RECORD says."""
    text = distribution.read_text("direct_url.json")
    editable = text is not None and bool(json.loads(text).get("dir_info", {}).get("editable"))
    return editable or distribution.read_text("METADATA") is None


def _info_files(distribution: metadata.Distribution) -> dict[str, bytes]:
    """Return the files of the .dist-info folder, except WHEEL and RECORD."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    files = {"METADATA": text.encode()}
    for name in ("entry_points.txt", "top_level.txt"):
        content = distribution.read_text(name)
        if content:
            files[name] = content.encode()
    for name in distribution.metadata.get_all("License-File") or ():
        content = distribution.read_text(f"licenses/{name}") or distribution.read_text(name)
        if content is None:  # a checkout's .egg-info: the file lies beside it
            path = Path(str(distribution.locate_file(name)))
            content = path.read_text("utf-8") if path.is_file() else None
        if content is not None:
            files[f"licenses/{name}"] = content.encode()
    return files


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of this package from the folder that it is imported from."""
    folder = Path(version.__file__).parent
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inside.parts):
            yield f"{folder.name}/{inside.as_posix()}", path.read_bytes()


def _recorded_files(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files that RECORD lists, except programs and metadata."""
    if not distribution.files:
        raise InputError(
            f"{distribution.name}: its installation has no list of files; install it with pip, in a virtual environment"
        )
    for entry in distribution.files:
        is_program = ".." in entry.parts or entry.is_absolute()  # in bin/, made by pip
        if is_program or "__pycache__" in entry.parts or entry.parts[0].endswith(".dist-info"):
            continue
        try:
            yield entry.as_posix(), entry.read_binary()
        except OSError as error:
            raise InputError(f"{entry.locate()}: {error.strerror}; the installation is damaged") from error


def _record(files: Mapping[str, bytes], own: str) -> bytes:
    """Return RECORD: path, sha256 in URL-safe base64 without padding, and size of each file."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(bytes.fromhex(sha256(data))).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(data)])
    rows.writerow([own, "", ""])
    return text.getvalue().encode()
