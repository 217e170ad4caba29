"""The machine and the state of its processor, on which measured times depend.

Both are read from /proc and /sys of Linux. What a machine does not report is None, never guessed. The firmware of a
Raspberry Pi also reports whether it throttles the processor because of heat or a weak power supply.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"

# The bits of `get_throttled`: the lower half is the state now, the upper half has been so since the board started
# (Raspberry Pi documentation, "vcgencmd: get_throttled").
THROTTLED_BITS = {
    0: "under-voltage now",
    1: "frequency capped now",
    2: "throttled now",
    3: "soft temperature limit active now",
    16: "under-voltage since start",
    17: "frequency capped since start",
    18: "throttled since start",
    19: "soft temperature limit reached since start",
}
_SECONDS = 5  # for vcgencmd, which answers at once or hangs


@dataclass(frozen=True)
class Machine:
    """A machine: two measured times compare only if it is equal. `processors` are those that this process may use."""

    system: str
    architecture: str
    model: str
    processors: int

    def __str__(self) -> str:
        return f"{self.model}, {self.architecture}, {self.processors} processor{'s' * (self.processors != 1)}"

    @property
    def key(self) -> str:
        """One line that is the same for machines of the same kind."""
        return f"{self.system}/{self}"


@dataclass(frozen=True)
class Condition:
    """The processor's state at one moment; None or empty what the machine does not report.

    Frequencies are in MHz, of the slowest group of cores; `temperatures` in degrees Celsius by thermal zone.
    `throttled` are the firmware's bits, `throttling` their meaning. `load` is the number of runnable processes,
    averaged over the last minute.
    """

    governors: tuple[str, ...]
    frequency: float | None
    frequency_limit: float | None
    temperatures: dict[str, float]
    throttled: int | None
    throttling: tuple[str, ...]
    load: float | None

    @property
    def hottest(self) -> float | None:
        """The highest temperature, degrees Celsius."""
        return max(self.temperatures.values(), default=None)

    @property
    def absent(self) -> tuple[str, ...]:
        """The names of the values that this machine does not report."""
        reported = {
            "governor": bool(self.governors),
            "frequency": self.frequency is not None,
            "temperature": bool(self.temperatures),
            "throttling": self.throttled is not None,
        }
        return tuple(name for name, known in reported.items() if not known)


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_machine(root: Path = Path("/")) -> Machine:
    """Return the machine that this process runs on. `root` is the folder that has /proc."""
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        model=_model(root),
        processors=usable_processors(),
    )


def condition(root: Path = Path("/")) -> Condition:
    """Return the processor's state now; takes a few milliseconds. `root` is the folder that has /proc and /sys."""
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    governors = {_text(policy / "scaling_governor") for policy in policies}
    frequencies = [_number(policy / "scaling_cur_freq") for policy in policies]
    limits = [_number(policy / "scaling_max_freq") for policy in policies]
    throttled = _throttled(root)
    return Condition(
        governors=tuple(sorted(name for name in governors if name is not None)),
        frequency=_slowest(frequencies),
        frequency_limit=_slowest(limits),
        temperatures=_temperatures(root),
        throttled=throttled,
        throttling=meaning(throttled or 0),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def meaning(throttled: int) -> tuple[str, ...]:
    """Return the meaning of the bits of `get_throttled`."""
    return tuple(words for bit, words in THROTTLED_BITS.items() if throttled >> bit & 1)


def _model(root: Path) -> str:
    """Return a board's name from its device tree, else the processor's name, else "unknown"."""
    board = _text(root / "proc/device-tree/model")
    if board:
        return board.strip("\0")
    fields = _cpuinfo(root)
    part = "CPU implementer {CPU implementer} part {CPU part}".format_map(fields) if "CPU part" in fields else None
    elsewhere = "" if platform.system() == "Linux" else platform.processor()  # starts a process on Linux
    return fields.get("Model") or fields.get("model name") or part or elsewhere or "unknown"


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return the first value of each field of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    fields.setdefault("CPU implementer", "?")
    return fields


def _temperatures(root: Path) -> dict[str, float]:
    """Read the thermal zones, which report thousandths of a degree (kernel documentation, sysfs-class-thermal)."""
    temperatures: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp")
        if value is not None:
            name = _text(zone / "type") or zone.name
            temperatures[name if name not in temperatures else f"{name} ({zone.name})"] = value / 1000
    return temperatures


def _throttled(root: Path) -> int | None:
    """Read the bits from the kernel's file; older and newer systems have only the firmware's own program."""
    text = _text(root / THROTTLED)
    if text is None and root == Path("/"):
        text = _vcgencmd()
    try:
        return None if text is None else int(text.rpartition("=")[2], 16)
    except ValueError:
        return None


def _vcgencmd() -> str | None:
    import subprocess  # takes longer to import than all else that opening a file needs of this module

    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"],  # noqa: S607 (where it lies differs between systems)
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _slowest(values: list[float | None]) -> float | None:
    """Return the lowest of frequencies in kHz, in MHz."""
    known = [value for value in values if value is not None]
    return min(known) / 1000 if known else None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
