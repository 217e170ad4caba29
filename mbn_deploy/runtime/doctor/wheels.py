"""Which interpreters pip can install on which platforms: a table of the wheels on the package index.

The table was read on `AS_OF` from the output of `pip download -vv --no-deps --only-binary=:all: --platform none
PACKAGE`, which lists every file of a package with the reason why it does not fit. Nothing here uses the network.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.runtime.backends.modules import PACKAGES
from mbn_deploy.runtime.system.cpu import AARCH64, ARMV7, X86_64, architecture

AS_OF = "2026-11-24"

Version = tuple[int, ...]
_LINUX, _MAC, _WINDOWS = "Linux", "Darwin", "Windows"
GLIBC, MUSL = "glibc", "musl"


@dataclass(frozen=True)
class InterpreterWheel:
    """Wheels of one version for one platform; `least` is the oldest glibc or macOS that they run on."""

    backend: str
    version: str
    system: str
    architecture: str
    least: Version
    pythons: tuple[str, ...]


def _wheels(
    backend: str, version: str, platforms: Iterable[tuple[str, str, Version]], pythons: str
) -> tuple[InterpreterWheel, ...]:
    return tuple(InterpreterWheel(backend, version, *platform_, tuple(pythons.split())) for platform_ in platforms)


# Newest first: pip takes the first that fits. Versions older than pyproject.toml requires are left out.
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
class PythonPlatform:
    """The platform by which pip chooses wheels.

    Attributes:
        system: such as `Linux`.
        architecture: such as `aarch64`.
        python: such as `3.12`; `3.13t` without the global interpreter lock.
        implementation: such as `CPython`.
        libc: `glibc`, `musl`, or None if unknown or not on Linux.
        libc_version: the version of glibc or macOS; empty if unknown.
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
        """System, architecture and C library, as text."""
        version = ".".join(map(str, self.libc_version))
        if self.system == _MAC:
            return f"macOS {version}, {self.architecture}"
        library = f", {' '.join(filter(None, (self.libc, version)))}" if self.libc else ""
        return f"{self.system} {self.architecture}{library}"


def this_platform() -> PythonPlatform:
    """Return the platform that this program runs on."""
    system = platform.system()
    name, version = (None, ()) if system != _LINUX else c_library()
    if system == _MAC:
        version = _numbers(platform.mac_ver()[0])
    suffix = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    python = f"{sys.version_info.major}.{sys.version_info.minor}{suffix}"
    return PythonPlatform(
        system=system,
        architecture=architecture(),
        python=python,
        implementation=platform.python_implementation(),
        libc=name,
        libc_version=version,
    )


def c_library() -> tuple[str | None, Version]:
    """Return the name and version of Linux' C library.

    Only glibc reports its version (see confstr(3)); musl is recognized by the name of its loader.
    """
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


def wheel_for(backend: str, place: PythonPlatform) -> InterpreterWheel | None:
    """Return the wheel that pip would install for a backend, or None."""
    return next((w for w in WHEELS if w.backend == backend and not _mismatch(w, place)), None)


def why_no_wheel(backend: str, place: PythonPlatform) -> str:
    """Return why there is no wheel for a backend: the obstacle of the wheel that comes closest."""
    mismatches = (_mismatch(wheel, place) for wheel in WHEELS if wheel.backend == backend)
    return f"{PACKAGES[backend]} has no wheel for {max(mismatch for mismatch in mismatches if mismatch)[1]}"


def _mismatch(wheel: InterpreterWheel, place: PythonPlatform) -> tuple[int, str] | None:
    """Return (how close the wheel comes, what does not fit), or None if it fits."""
    if place.implementation != "CPython":
        return 1, place.implementation
    if (wheel.system, wheel.architecture) != (place.system, place.architecture):
        return 2, f"{place.system} on {place.architecture}"
    if place.libc == MUSL:
        return 3, "musl (Alpine); it needs glibc"
    if place.python not in wheel.pythons:
        return 4, f"Python {place.python} there (only for {', '.join(wheel.pythons)})"
    if wheel.least and place.libc_version and place.libc_version < wheel.least:
        what = "macOS" if place.system == _MAC else GLIBC
        return 5, f"{what} {'.'.join(map(str, place.libc_version))}; it needs {'.'.join(map(str, wheel.least))}"
    return None
