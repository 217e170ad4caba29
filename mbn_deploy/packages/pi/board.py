"""The boards that a package can be made for: processor, Python, and what exists for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mbn_deploy.errors import UnknownNameError, UsageError

Architecture = Literal["aarch64", "armv7l"]
BoardBackend = Literal["litert", "onnx", "tflite"]

OLDEST_GLIBC = 17
# Python: (the system that ships it, its glibc's minor version). Raspberry Pi OS is Debian in this.
SYSTEMS: dict[str, tuple[str, int]] = {
    "3.10": ("Ubuntu 22.04", 35),
    "3.11": ("Debian 12 and Raspberry Pi OS Bookworm", 36),
    "3.12": ("Ubuntu 24.04", 39),
    "3.13": ("Debian 13 and Raspberry Pi OS Trixie", 41),
}
# For 32-bit boards nobody builds wheels of LiteRT and ONNX Runtime; tflite-runtime's end at CPython 3.11.
BACKENDS: dict[Architecture, tuple[BoardBackend, ...]] = {
    "aarch64": ("litert", "onnx", "tflite"),
    "armv7l": ("tflite",),
}
LAST_TFLITE_PYTHON = "3.11"

# picamera2 is a package of these systems; its compiled parts fit their numpy and no other
# (raspberrypi/picamera2#1088, #1211), so that numpy and Pillow, which it brings along, serve for all.
CAMERA_SYSTEMS = ("3.11", "3.13")
# Debian's packages stand in for wheels that the usual index does not have: those of piwheels are built against
# libraries that apt has to install too, and they are for Raspberry Pi OS only.
DEBIAN_PACKAGES = {"numpy": "python3-numpy", "pillow": "python3-pil"}
_MODULES = {"numpy": "numpy", "pillow": "PIL"}


@dataclass(frozen=True)
class Board:
    """What the package is for. Made by `Board.of`, which checks that it can work."""

    architecture: Architecture
    python: str
    backend: BoardBackend
    camera: bool = False

    @classmethod
    def of(
        cls, architecture: str = "aarch64", python: str = "3.11", backend: str | None = None, *, camera: bool = False
    ) -> Board:
        """Check the names; raises `UnknownNameError`, or `UsageError` for a combination that has no wheels."""
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
                f"nobody builds {name} for {machine}: {' or '.join(BACKENDS[machine])} runs there. "
                "A 64-bit system on the same board (from the Raspberry Pi 3 and Zero 2 W on) runs all of them."
            )
        if name == "tflite" and _numbers(python) > _numbers(LAST_TFLITE_PYTHON):
            other = "litert or onnx" if machine == "aarch64" else "a 64-bit system"
            raise UsageError(
                f"tflite-runtime has no wheels for CPython {python}: they end at {LAST_TFLITE_PYTHON}; take {other}"
            )
        if camera and python not in CAMERA_SYSTEMS:
            raise UsageError(
                f"picamera2 is a package of Raspberry Pi OS, with Python {' or '.join(CAMERA_SYSTEMS)}, not {python}"
            )
        return cls(machine, python, name, camera)

    @property
    def system(self) -> str:
        """The operating systems that ship this Python."""
        return SYSTEMS[self.python][0]

    @property
    def bits(self) -> int:
        """Of a pointer."""
        return 64 if self.architecture == "aarch64" else 32

    @property
    def debian_packages(self) -> dict[str, str]:
        """Python distributions that come from apt instead of a wheel, with the names of their packages."""
        return DEBIAN_PACKAGES if self.camera or self.architecture == "armv7l" else {}

    @property
    def packages(self) -> tuple[str, ...]:
        """What apt has to install on the board."""
        return (*self.debian_packages.values(), *(("python3-picamera2",) if self.camera else ()))

    @property
    def modules(self) -> tuple[str, ...]:
        """What Python must be able to import there before anything is installed."""
        return (*(_MODULES[name] for name in self.debian_packages), *(("picamera2",) if self.camera else ()))

    @property
    def sees_system(self) -> bool:
        """Whether the virtual environment sees the system's Python packages."""
        return bool(self.debian_packages)

    @property
    def platforms(self) -> tuple[str, ...]:
        """Wheel platforms that run there, newest glibc first (PEP 600)."""
        newest = SYSTEMS[self.python][1]
        tags = [f"manylinux_2_{minor}_{self.architecture}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
        return (*tags, f"manylinux2014_{self.architecture}", f"linux_{self.architecture}")

    @property
    def constraints(self) -> tuple[str, ...]:
        """Versions of what is needed, by normalized name, beyond what the program itself asks for.

        Bookworm has numpy 1.24; ml-dtypes, which LiteRT needs, asks for numpy 2 from 0.6 on.
        """
        return ("ml-dtypes<0.6",) if self.debian_packages and self.python == "3.11" else ()

    def markers(self, extra: str = "") -> dict[str, str]:
        """What environment markers of requirements are compared with on the board (PEP 508)."""
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
