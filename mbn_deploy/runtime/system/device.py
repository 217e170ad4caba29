"""Which machine this is, and in what state its processor is: what a measured time depends on.

Read from Linux' /proc and /sys; what a machine does not tell is None, never guessed. On a Raspberry Pi the firmware
also says whether it slows the processor down, for heat or for a weak power supply.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"

# What the bits of `get_throttled` mean: the lower half is so now, the upper half was so since the board started
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
    """What must be equal for two times to be comparable. `processors` are those that this process may use."""

    system: str
    architecture: str
    model: str
    processors: int

    def __str__(self) -> str:
        return f"{self.model}, {self.architecture}, {self.processors} processor{'s' * (self.processors != 1)}"

    @property
    def key(self) -> str:
        """One line that machines of the same kind share."""
        return f"{self.system}/{self}"


@dataclass(frozen=True)
class Condition:
    """The processor's state at one moment; None or empty where the machine does not tell.

    `temperatures` are degrees Celsius by thermal zone, frequencies MHz of the slowest group of cores,
    `throttled` the firmware's bits and `throttling` what they mean, `load` the runnable processes of
    the last minute.
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
        """What this machine does not tell."""
        told = {
            "governor": bool(self.governors),
            "frequency": self.frequency is not None,
            "temperature": bool(self.temperatures),
            "throttling": self.throttled is not None,
        }
        return tuple(name for name, known in told.items() if not known)


def usable_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine at hand. `root` is where /proc lies."""
    return Machine(platform.system(), platform.machine(), _model(root), usable_processors())


def condition(root: Path = Path("/")) -> Condition:
    """The processor's state now; a few milliseconds. `root` is where /proc and /sys lie."""
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
    """The bits of `get_throttled` in words."""
    return tuple(words for bit, words in THROTTLED_BITS.items() if throttled >> bit & 1)


def _model(root: Path) -> str:
    """A board's name from its device tree, else the processor's; "unknown" if neither is told."""
    board = _text(root / "proc/device-tree/model")
    if board:
        return board.strip("\0")
    facts = _cpuinfo(root)
    part = "CPU implementer {CPU implementer} part {CPU part}".format_map(facts) if "CPU part" in facts else None
    elsewhere = "" if platform.system() == "Linux" else platform.processor()  # starts a process on Linux
    return facts.get("Model") or facts.get("model name") or part or elsewhere or "unknown"


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first value of each field."""
    facts: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    facts.setdefault("CPU implementer", "?")
    return facts


def _temperatures(root: Path) -> dict[str, float]:
    """Thermal zones report thousandths of a degree (kernel documentation, sysfs-class-thermal)."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp")
        if value is not None:
            name = _text(zone / "type") or zone.name
            found[name if name not in found else f"{name} ({zone.name})"] = value / 1000
    return found


def _throttled(root: Path) -> int | None:
    """From the kernel's file; older and newer systems have the firmware's own program only."""
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
    """MHz, of kHz."""
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
