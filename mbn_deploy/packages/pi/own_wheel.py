"""A wheel made again from what is installed, so that a device gets exactly what runs here.

Works for a package that pip installed from a wheel (its RECORD says which files) and for an editable
checkout (its folder does). Nothing is built, so that no build backend is needed. Formats: the PyPA
specifications "Binary distribution format" and "Recording installed projects".
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mbn_deploy import version
from mbn_deploy.archives import zip_bytes
from mbn_deploy.errors import InputError

OWN = "mbn-deploy"
_TAG = "py3-none-any"


@dataclass(frozen=True)
class Wheel:
    """A wheel's file name and bytes."""

    name: str
    data: bytes


def rebuilt_wheel(name: str) -> Wheel:
    """The wheel of an installed pure Python distribution; the same files give the same bytes.

    Raises `InputError` where it is not installed, or compiled for this machine.
    """
    found = _distribution(name)
    stem = f"{name.replace('-', '_')}-{found.version}"
    info = f"{stem}.dist-info"
    files = {f"{info}/{key}": value for key, value in _info_files(found).items()}
    if "Root-Is-Purelib: false" in (found.read_text("WHEEL") or ""):
        raise InputError(f"{name} is compiled for this machine: its wheel cannot be made again for another one")
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: mbn-deploy\nRoot-Is-Purelib: true\nTag: {_TAG}\n".encode()
    files |= dict(_package_files(found) if name == OWN and _from_folder(found) else _recorded(found))
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return Wheel(f"{stem}-{_TAG}.whl", zip_bytes(dict(sorted(files.items())), compress=True))


def own_metadata() -> metadata.PackageMetadata:
    """What this program says of itself: version, requirements, extras."""
    return _distribution(OWN).metadata


def _distribution(name: str) -> metadata.Distribution:
    """The installed distribution. A checkout's own .egg-info, found where Python was started in it, comes last."""
    found = list(metadata.distributions(name=name))
    if not found:
        raise InputError(f"{name} is not installed with its metadata; install it: pip install {name}")
    return min(found, key=lambda one: one.read_text("METADATA") is None)


def _from_folder(found: metadata.Distribution) -> bool:
    """Whether the code lies somewhere else than where it is recorded: an editable installation."""
    text = found.read_text("direct_url.json")
    editable = text is not None and bool(json.loads(text).get("dir_info", {}).get("editable"))
    return editable or found.read_text("METADATA") is None


def _info_files(found: metadata.Distribution) -> dict[str, bytes]:
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    files = {"METADATA": text.encode()}
    for name in ("entry_points.txt", "top_level.txt"):
        content = found.read_text(name)
        if content:
            files[name] = content.encode()
    for name in found.metadata.get_all("License-File") or ():
        content = found.read_text(f"licenses/{name}") or found.read_text(name)
        if content is None:  # a checkout's .egg-info: the file lies beside it
            path = Path(str(found.locate_file(name)))
            content = path.read_text("utf-8") if path.is_file() else None
        if content is not None:
            files[f"licenses/{name}"] = content.encode()
    return files


def _package_files(_: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    folder = Path(version.__file__).parent
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inside.parts):
            yield f"{folder.name}/{inside.as_posix()}", path.read_bytes()


def _recorded(found: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    if not found.files:
        raise InputError(
            f"{found.name}: nothing says which files belong to it; install it with pip, in a virtual environment"
        )
    for entry in found.files:
        outside = ".." in entry.parts or entry.is_absolute()  # programs in bin/, made by pip
        if outside or "__pycache__" in entry.parts or entry.parts[0].endswith(".dist-info"):
            continue
        try:
            yield entry.as_posix(), entry.read_binary()
        except OSError as error:
            raise InputError(f"{entry.locate()}: {error.strerror}; the installation is damaged") from error


def _record(files: Mapping[str, bytes], own: str) -> bytes:
    """RECORD: path, sha256 in URL-safe base64 without padding, size; of itself neither."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(data)])
    rows.writerow([own, "", ""])
    return text.getvalue().encode()
