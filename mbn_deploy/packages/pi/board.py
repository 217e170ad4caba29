"""The boards that a package can be made for: their processor, Python, interpreters and system packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mbn_deploy.errors import UnknownNameError, UsageError

Architecture = Literal["aarch64", "armv7l"]
BoardBackend = Literal["litert", "onnx", "tflite"]

OLDEST_GLIBC = 17  # the minor version of the oldest glibc that manylinux wheels are built for
# By Python version: the system that ships it, and the minor version of its glibc.
SYSTEMS: dict[str, tuple[str, int]] = {
    "3.10": ("Ubuntu 22.04", 35),
    "3.11": ("Debian 12 and Raspberry Pi OS Bookworm", 36),
    "3.12": ("Ubuntu 24.04", 39),
    "3.13": ("Debian 13 and Raspberry Pi OS Trixie", 41),
}
# Nobody builds wheels of LiteRT and ONNX Runtime for 32-bit boards; those of tflite-runtime end at CPython 3.11.
BACKENDS: dict[Architecture, tuple[BoardBackend, ...]] = {
    "aarch64": ("litert", "onnx", "tflite"),
    "armv7l": ("tflite",),
}
LAST_TFLITE_PYTHON = "3.11"

# The Python versions of the systems that have a package of picamera2. Its compiled parts fit only the system's numpy
# (raspberrypi/picamera2#1088, #1211), so the system's numpy and Pillow, which it brings along, are used.
CAMERA_SYSTEMS = ("3.11", "3.13")
# By distribution: the Debian package to use where PyPI has no wheel. The wheels of piwheels need libraries that apt
# must install as well, and are for Raspberry Pi OS only.
DEBIAN_PACKAGES = {"numpy": "python3-numpy", "pillow": "python3-pil"}
_MODULES = {"numpy": "numpy", "pillow": "PIL"}


@dataclass(frozen=True)
class Board:
    """A board's processor, Python and interpreter; `Board.of` checks that the combination can work.

    `camera` says whether the system's picamera2 is to be used.
    """

    architecture: Architecture
    python: str
    backend: BoardBackend
    camera: bool = False

    @classmethod
    def of(
        cls, architecture: str = "aarch64", python: str = "3.11", backend: str | None = None, *, camera: bool = False
    ) -> Board:
        """Check the names; raises `UnknownNameError`, or `UsageError` for a combination without wheels."""
        known = get_args(Architecture)
        machine = next((name for name in known if name == architecture), None)
        if machine is None:
            raise UnknownNameError("architecture", architecture, known)
        if python not in SYSTEMS:
            raise UnknownNameError("Python version", python, SYSTEMS)
        chosen = BACKENDS[machine][0] if backend is None else backend
        name = next((one for one in get_args(BoardBackend) if one == chosen), None)
        if name is None:
            raise UnknownNameError("backend", chosen, get_args(BoardBackend))
        if name not in BACKENDS[machine]:
            raise UsageError(
                f"{name} is not built for {machine}; use {' or '.join(BACKENDS[machine])}, or a 64-bit system, which "
                "runs all interpreters (Raspberry Pi 3, Zero 2 W and later)"
            )
        if name == "tflite" and _numbers(python) > _numbers(LAST_TFLITE_PYTHON):
            other = "litert or onnx" if machine == "aarch64" else "a 64-bit system"
            raise UsageError(f"tflite-runtime has wheels up to CPython {LAST_TFLITE_PYTHON}, not {python}; use {other}")
        if camera and python not in CAMERA_SYSTEMS:
            raise UsageError(
                f"picamera2 is a package of Raspberry Pi OS with Python {' or '.join(CAMERA_SYSTEMS)}, not {python}"
            )
        return cls(machine, python, name, camera)

    @property
    def system(self) -> str:
        """The operating systems that ship this Python."""
        return SYSTEMS[self.python][0]

    @property
    def bits(self) -> int:
        """The bits of a pointer: 64 or 32."""
        return 64 if self.architecture == "aarch64" else 32

    @property
    def debian_packages(self) -> dict[str, str]:
        """The Python distributions that come from apt instead of a wheel, with the names of their packages."""
        return DEBIAN_PACKAGES if self.camera or self.architecture == "armv7l" else {}

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that apt has to install on the board."""
        return (*self.debian_packages.values(), *(("python3-picamera2",) if self.camera else ()))

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that the board's Python must be able to import before anything is installed."""
        return (*(_MODULES[name] for name in self.debian_packages), *(("picamera2",) if self.camera else ()))

    @property
    def sees_system(self) -> bool:
        """Whether the virtual environment sees the system's Python packages."""
        return bool(self.debian_packages)

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags of wheels that run on the board, newest glibc first (PEP 600)."""
        newest = SYSTEMS[self.python][1]
        tags = [f"manylinux_2_{minor}_{self.architecture}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
        return (*tags, f"manylinux2014_{self.architecture}", f"linux_{self.architecture}")

    @property
    def constraints(self) -> tuple[str, ...]:
        """Requirements that the board adds to those of the program.

        Bookworm has numpy 1.24, but ml-dtypes, which LiteRT needs, requires numpy 2 from version 0.6 on.
        """
        return ("ml-dtypes<0.6",) if self.debian_packages and self.python == "3.11" else ()

    def markers(self, extra: str = "") -> dict[str, str]:
        """Return the values of environment markers on the board (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.architecture,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": extra,
        }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
