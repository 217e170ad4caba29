"""Which interpreters pip can install where: the wheels that the package index has.

Read on `AS_OF` off what `pip download -vv --no-deps --only-binary=:all: --platform none PACKAGE` says: it lists
every file of a package, each with the reason why it does not fit. Nothing here asks the network.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.runtime.backends import PACKAGES
from mbn_deploy.runtime.system.cpu import AARCH64, ARMV7, X86_64, architecture

AS_OF = "2026-11-24"

Version = tuple[int, ...]
_LINUX, _MAC, _WINDOWS = "Linux", "Darwin", "Windows"
GLIBC, MUSL = "glibc", "musl"


@dataclass(frozen=True)
class Wheel:
    """Wheels of one version for one platform; `least` is the oldest glibc, or macOS, that they run on."""

    backend: str
    version: str
    system: str
    architecture: str
    least: Version
    pythons: tuple[str, ...]


def _wheels(
    backend: str, version: str, platforms: Iterable[tuple[str, str, Version]], pythons: str
) -> tuple[Wheel, ...]:
    return tuple(Wheel(backend, version, *platform_, tuple(pythons.split())) for platform_ in platforms)


# Newest first: pip takes the first that fits. Versions below those of pyproject.toml are left out.
WHEELS = (
    *_wheels(
        "litert", "2.3.0",
        [(_LINUX, X86_64, (2, 27)), (_LINUX, AARCH64, (2, 27)), (_MAC, AARCH64, (12, 0)), (_WINDOWS, X86_64, ())],
        "3.10 3.11 3.12 3.13 3.14",
    ),
    *_wheels(
        "tflite", "2.14.0",
        [(_LINUX, X86_64, (2, 17)), (_LINUX, AARCH64, (2, 34)), (_LINUX, ARMV7, (2, 34))],
        "3.10 3.11",
    ),
    *_wheels(
        "onnx", "1.32.0", [(_LINUX, X86_64, (2, 28)), (_LINUX, AARCH64, (2, 28))],
        "3.11 3.12 3.13 3.14 3.13t 3.14t",
    ),
    *_wheels(
        "onnx", "1.32.0", [(_MAC, AARCH64, (14, 0)), (_WINDOWS, X86_64, ()), (_WINDOWS, AARCH64, ())],
        "3.11 3.12 3.13 3.14",
    ),
    *_wheels(
        "onnx", "1.28.0", [(_LINUX, X86_64, (2, 27)), (_LINUX, AARCH64, (2, 27))],
        "3.11 3.12 3.13 3.14 3.13t 3.14t",
    ),
    *_wheels("onnx", "1.23.2", [(_LINUX, X86_64, (2, 27)), (_LINUX, AARCH64, (2, 27))], "3.10 3.11 3.12 3.13 3.13t"),
    *_wheels(
        "onnx", "1.23.2", [(_MAC, AARCH64, (13, 0)), (_MAC, X86_64, (13, 0)), (_WINDOWS, X86_64, ())],
        "3.10 3.11 3.12 3.13",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """What pip looks at: `python` as `3.12` (`3.13t` without the lock), `libc` glibc, musl, or None elsewhere.

    `libc_version` is glibc's, or that of macOS; empty where it is not known.
    """

    system: str
    architecture: str
    python: str
    implementation: str
    libc: str | None
    libc_version: Version

    def __str__(self) -> str:
        return f"{self.implementation} {self.python} on {self.platform}"

    @property
    def platform(self) -> str:
        """System, architecture and library, in words."""
        version = ".".join(map(str, self.libc_version))
        if self.system == _MAC:
            return f"macOS {version}, {self.architecture}"
        library = f", {' '.join(filter(None, (self.libc, version)))}" if self.libc else ""
        return f"{self.system} {self.architecture}{library}"


def this_place() -> Place:
    """Where this program runs."""
    system = platform.system()
    name, version = (None, ()) if system != _LINUX else _libc()
    if system == _MAC:
        version = _numbers(platform.mac_ver()[0])
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    python = f"{sys.version_info.major}.{sys.version_info.minor}{free}"
    return Place(system, architecture(), python, platform.python_implementation(), name, version)


def _libc() -> tuple[str | None, Version]:
    """Only glibc tells its version (confstr(3)); musl has no such call, but its loader has one name everywhere."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError, AttributeError):
        name, version = "", ""
    if name == GLIBC:
        return GLIBC, _numbers(version)
    musl = "musl" in str(sysconfig.get_config_var("SOABI")) or any(Path("/lib").glob("ld-musl-*"))
    return (MUSL if musl else None), ()


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def wheel_for(backend: str, place: Place) -> Wheel | None:
    """What pip would take for a backend; None if it has nothing but source code, or not even that."""
    return next((w for w in WHEELS if w.backend == backend and not _mismatch(w, place)), None)


def why_not(backend: str, place: Place) -> str:
    """Why there is no wheel, by what comes closest; for a backend of which `wheel_for` found none."""
    found = (_mismatch(wheel, place) for wheel in WHEELS if wheel.backend == backend)
    return f"{PACKAGES[backend]} has no wheel for {max(reason for reason in found if reason)[1]}"


def _mismatch(wheel: Wheel, place: Place) -> tuple[int, str] | None:
    """(how far it got, what is in the way)."""
    if place.implementation != "CPython":
        return 1, place.implementation
    if (wheel.system, wheel.architecture) != (place.system, place.architecture):
        return 2, f"{place.system} on {place.architecture}"
    if place.libc == MUSL:
        return 3, "musl (Alpine); it needs glibc"
    if place.python not in wheel.pythons:
        return 4, f"Python {place.python} there (it has {', '.join(wheel.pythons)})"
    if wheel.least and place.libc_version and place.libc_version < wheel.least:
        what = "macOS" if place.system == _MAC else GLIBC
        return 5, f"{what} {'.'.join(map(str, place.libc_version))}; it needs {'.'.join(map(str, wheel.least))}"
    return None
