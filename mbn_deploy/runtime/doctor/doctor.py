"""What this machine can run, how fast that will be, and what to install: asks the machine, never the network."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from mbn_deploy.runtime.backends import BACKENDS, MODULES, PACKAGES, default_threads, installed
from mbn_deploy.runtime.backends.delegation import BUILT_IN
from mbn_deploy.runtime.doctor.probe import PRECISIONS, Probe, probe
from mbn_deploy.runtime.doctor.wheels import AS_OF, Place, this_place, wheel_for, why_not
from mbn_deploy.runtime.system.cpu import (
    AARCH64,
    AMX,
    ARMV7,
    AVX2,
    DOT_PRODUCT,
    I8MM,
    NEON,
    VNNI,
    X86_64,
    features,
    memory,
    processor_quota,
)
from mbn_deploy.runtime.system.device import Machine, this_machine


@dataclass(frozen=True)
class InterpreterReport:
    """One interpreter: `installed` is its version or None, `available` the version that pip would find.

    `reason` says why there is none.
    """

    backend: str
    package: str
    format: str
    installed: str | None
    available: str | None
    reason: str | None
    probes: tuple[Probe, ...]

    @property
    def works(self) -> bool:
        """At least one kind of file runs."""
        return any(found.works for found in self.probes)


@dataclass(frozen=True)
class Doctor:
    """All that was found. `features` is None where the system does not tell; memory is in bytes.

    `quota` are processors' worth of time that a container may use, None without a limit. `expect` are
    sentences about speed, `missing` about what is to be done, most useful first.
    """

    python: str
    place: Place
    machine: Machine
    features: tuple[str, ...] | None
    quota: float | None
    memory: int | None
    memory_available: int | None
    threads: int
    wheels_as_of: str
    interpreters: tuple[InterpreterReport, ...]
    expect: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Something here can run models."""
        return any(found.works for found in self.interpreters)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"works": self.works}


def examine() -> Doctor:
    """Look at this machine; every installed interpreter runs a tiny model in a process of its own."""
    place = this_place()
    interpreters = tuple(_interpreter(backend, place) for backend in MODULES)
    has = features(place.architecture)
    total, available = memory()
    return Doctor(
        python=platform.python_version(),
        place=place,
        machine=this_machine(),
        features=has,
        quota=processor_quota(),
        memory=total,
        memory_available=available,
        threads=default_threads(),
        wheels_as_of=AS_OF,
        interpreters=interpreters,
        expect=tuple(expectations(place, has, interpreters)),
        missing=tuple(missing(place, interpreters)),
    )


def _interpreter(backend: str, place: Place) -> InterpreterReport:
    wheel = wheel_for(backend, place)
    return InterpreterReport(
        backend=backend,
        package=PACKAGES[backend],
        format=next(kind for kind, names in BACKENDS.items() if backend in names),
        installed=_version(backend) if installed(backend) else None,
        available=None if wheel is None else wheel.version,
        reason=why_not(backend, place) if wheel is None else None,
        probes=tuple(probe(backend, precision) for precision in PRECISIONS) if installed(backend) else (),
    )


def _version(backend: str) -> str:
    """By what pip wrote down: importing an interpreter that is broken could end this process."""
    try:
        return metadata.version(PACKAGES[backend])
    except metadata.PackageNotFoundError:
        return "of another package"


def expectations(place: Place, has: Sequence[str] | None, interpreters: Sequence[InterpreterReport]) -> list[str]:
    """What will be fast, by what is known of the kernels; nothing is measured here."""
    said = []
    if has is None:
        said.append("This system does not tell what its processor has; `mbn-deploy benchmark` tells what is fast.")
    elif place.architecture == AARCH64:
        said.append(_on_aarch64(has))
    elif place.architecture == X86_64:
        said.append(_on_x86(has))
    elif place.architecture == ARMV7 and NEON not in has:
        said.append("Without NEON every kernel here is a plain loop: expect a second where others take milliseconds.")
    slow = [found for found in interpreters if _built_in(found) and not _better(found, interpreters)]
    said += [
        f"{found.package} computes int8 without XNNPACK here, several times slower than with it. {_floats(found)}"
        for found in slow
    ]
    return said


def _on_aarch64(has: Sequence[str]) -> str:
    if DOT_PRODUCT in has:
        more = " and i8mm" if I8MM in has else ""
        return f"int8 is fast with ai-edge-litert and onnxruntime: the processor has the dot product{more}."
    return (
        "No dot product (nor have Cortex-A53 and A72, Raspberry Pi 3 and 4): int8 takes a quarter of the memory, but "
        "may be hardly faster than float32. `mbn-deploy benchmark` compares the files of a bundle."
    )


def _on_x86(has: Sequence[str]) -> str:
    if VNNI in has:
        more = ", and AMX, for which the former has kernels, too" if AMX in has else ""
        return f"int8 is fast with ai-edge-litert and onnxruntime: the processor has VNNI{more}."
    if AVX2 in has:
        return (
            "No VNNI: int8 gains less over float32, and sums in int8 .onnx files can saturate (says ONNX Runtime's "
            "page on quantization); `mbn-deploy verify` shows whether they do."
        )
    return "No AVX2: everything computes with old instructions, several times slower."


def _built_in(found: InterpreterReport, precision: str = "int8") -> bool:
    return any(p.precision == precision and p.works and p.kernels == BUILT_IN for p in found.probes)


def _floats(found: InterpreterReport) -> str:
    if _built_in(found, "float32"):
        return "So it does float32."
    return "float32 may well be faster, by XNNPACK: `mbn-deploy benchmark` compares the files of a bundle."


def _better(found: InterpreterReport, interpreters: Sequence[InterpreterReport]) -> bool:
    """Whether another one for the same files works."""
    return any(o.works and o.format == found.format and o is not found for o in interpreters)


def missing(place: Place, interpreters: Sequence[InterpreterReport]) -> list[str]:
    """What is broken, what can be installed for files that nothing here runs, and what cannot."""
    said = [
        f"{found.package} {found.installed} does not run {probe_.precision} files: {probe_.error}"
        for found in interpreters
        for probe_ in found.probes
        if not probe_.works
    ]
    for kind in BACKENDS:
        of_kind = [found for found in interpreters if found.format == kind]
        if not any(found.works for found in of_kind):
            said += _for_format(kind, of_kind, place)
    if place.architecture == ARMV7:
        said += _on_armv7()
    return said


def _for_format(kind: str, interpreters: Sequence[InterpreterReport], place: Place) -> list[str]:
    available = [found for found in interpreters if found.available is not None and found.installed is None]
    if available:
        return [f".{kind} files: pip install 'mbn-deploy[{available[0].backend}]'"]
    if any(found.installed for found in interpreters):
        return []  # the error of the one that is there has been told
    reasons = "; ".join(found.reason for found in interpreters if found.reason)
    return [f".{kind} files: nothing that pip could install for {place}. {reasons}."]


def _on_armv7() -> list[str]:
    if platform.machine() != ARMV7 and sys.maxsize < 2**32:
        first = "This Python is 32-bit on a 64-bit processor: a 64-bit system image has ai-edge-litert and onnxruntime."
    else:
        first = "32-bit ARM has tflite-runtime 2.14 for CPython 3.10 and 3.11 only (glibc 2.34, as Debian 12 has)."
    second = (
        "numpy and Pillow have no wheels for it: take the system's (apt install python3-numpy python3-pil), or a "
        "folder made by `mbn-deploy bundle pi --arch armv7l` on another machine."
    )
    return [first, second]
