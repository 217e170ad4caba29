"""The processor's instruction sets that fast kernels use, and the limits on processor time and memory.

Standard library only. What a system does not report is None, never guessed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress
from pathlib import Path

NEON, DOT_PRODUCT, I8MM = "NEON", "dot product", "i8mm"
AVX2, AVX512, VNNI, AMX = "AVX2", "AVX-512", "VNNI", "AMX int8"
ARMV7, AARCH64, X86_64 = "armv7l", "aarch64", "x86_64"

# Names of architectures on other systems, and what a 64-bit ARM kernel calls 32-bit processes.
_ARCHITECTURES = {"amd64": X86_64, "x64": X86_64, "arm64": AARCH64, "armv8l": ARMV7}

# Flags of /proc/cpuinfo, any one of which means the feature (Linux, arch/x86/include/asm/cpufeatures.h).
_X86_FLAGS = {
    AVX2: {"avx2"},
    AVX512: {"avx512f"},
    VNNI: {"avx512_vnni", "avx_vnni"},
    AMX: {"amx_int8"},
}

# (entry of the auxiliary vector, bit): arch/arm64 and arch/arm, include/uapi/asm/hwcap.h. /proc/cpuinfo has the same
# features, but may be the host's under emulation.
_HWCAP, _HWCAP2 = 16, 26
_AARCH64_BITS = {
    NEON: (_HWCAP, 1),
    "fp16": (_HWCAP, 10),
    DOT_PRODUCT: (_HWCAP, 20),
    "SVE": (_HWCAP, 22),
    "SVE2": (_HWCAP2, 1),
    I8MM: (_HWCAP2, 13),
    "bf16": (_HWCAP2, 14),
}
_ARM_BITS = {
    NEON: (_HWCAP, 12),
    "VFPv4": (_HWCAP, 16),
    "fp16": (_HWCAP, 23),
    DOT_PRODUCT: (_HWCAP, 24),
    I8MM: (_HWCAP, 27),
}


def architecture() -> str:
    """Return the architecture that this Python was built for: `x86_64`, `aarch64`, `armv7l`, else the system's name.

    It is `armv7l` for a 32-bit Python on a 64-bit ARM kernel (older Raspberry Pi images), whatever the kernel reports.
    """
    machine = platform.machine().lower()
    known = _ARCHITECTURES.get(machine, machine)
    bits = 8 * struct.calcsize("P")
    if bits == 32:
        return {AARCH64: ARMV7, X86_64: "i686"}.get(known, known)
    return known


def features(machine: str, root: Path = Path("/")) -> tuple[str, ...] | None:
    """Return the processor's features, given its architecture; None if unknown (not Linux, no /proc)."""
    if not sys.platform.startswith("linux"):
        return None
    if machine in (X86_64, "i686"):
        flags = _flags(root)
        return None if flags is None else tuple(name for name, any_of in _X86_FLAGS.items() if any_of & flags)
    table = {AARCH64: _AARCH64_BITS, ARMV7: _ARM_BITS}.get(machine, {})
    words = {entry: _auxiliary(entry) for entry, _ in table.values()}
    if not words.get(_HWCAP):
        return None
    return tuple(name for name, (entry, bit) in table.items() if (words[entry] or 0) >> bit & 1)


def _flags(root: Path) -> set[str] | None:
    text = _text(root / "proc/cpuinfo") or ""
    flags = (line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags"))
    return next((set(words) for words in flags), None)


def _auxiliary(entry: int) -> int | None:
    """Return an entry of the auxiliary vector by getauxval(3), which glibc and musl have."""
    try:
        read = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError, TypeError):
        return None
    read.restype, read.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return int(read(entry))


def processor_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors' time a container may use (cpu.max of cgroup v2); None without a limit."""
    quota, _, period = (_text(root / "sys/fs/cgroup/cpu.max") or "").partition(" ")
    with suppress(ValueError, ZeroDivisionError):
        return int(quota) / int(period)
    return None


def memory(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Return the bytes of memory in total and available, within a container's limit."""
    entries = {}
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        with suppress(ValueError, IndexError):
            entries[name] = int(value.split()[0]) * 1024
    total, available = entries.get("MemTotal"), entries.get("MemAvailable")
    if total is None:
        with suppress(ValueError, OSError, AttributeError):
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(ValueError):
        limit = int(_text(root / "sys/fs/cgroup/memory.max") or "")
        total = limit if total is None else min(total, limit)
        available = None if available is None else min(available, limit)
    return total, available


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
