"""Find out what this machine can run, what will be fast, and what to install, without using the network."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from mbn_deploy.runtime.backends import BACKENDS, default_threads
from mbn_deploy.runtime.backends.delegation import BUILT_IN
from mbn_deploy.runtime.backends.modules import MODULES, PACKAGES, installed
from mbn_deploy.runtime.doctor.probe import PRECISIONS, Probe, probe
from mbn_deploy.runtime.doctor.wheels import AS_OF, PythonPlatform, this_platform, wheel_for, why_no_wheel
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
    """One interpreter on this machine.

    Attributes:
        backend: its name here.
        package: its package on the package index.
        format: the format of the files that it runs.
        installed: its version, or None.
        available: the version that pip would install, or None.
        reason: why pip has no wheel of it.
        probes: how it ran tiny models; empty if it is not installed.
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
        """Whether it runs files of at least one precision."""
        return any(probe.works for probe in self.probes)


@dataclass(frozen=True)
class DoctorReport:
    """The machine, and the interpreters and files that it can run.

    Attributes:
        python: the version of Python.
        place: the platform that pip chooses wheels for.
        machine: the processor and its cores.
        features: instruction sets that matter for speed; None if the system does not report them.
        quota: processors' worth of time that a container may use; None without a limit.
        memory: bytes in all; None if the system does not report it.
        memory_available: bytes that are free; None if the system does not report it.
        threads: default number of threads of an inference.
        wheels_as_of: the date of the table of wheels.
        interpreters: every interpreter that mbn-deploy supports.
        expect: sentences about speed.
        missing: sentences about what does not work and what to do, most useful first.
    """

    python: str
    place: PythonPlatform
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
        """Whether anything here can run models."""
        return any(interpreter.works for interpreter in self.interpreters)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"works": self.works}


def examine() -> DoctorReport:
    """Examine this machine; every installed interpreter runs tiny models in a child process."""
    place = this_platform()
    interpreters = tuple(_examine_interpreter(backend, place) for backend in MODULES)
    instruction_sets = features(place.architecture)
    total, available = memory()
    return DoctorReport(
        python=platform.python_version(),
        place=place,
        machine=this_machine(),
        features=instruction_sets,
        quota=processor_quota(),
        memory=total,
        memory_available=available,
        threads=default_threads(),
        wheels_as_of=AS_OF,
        interpreters=interpreters,
        expect=tuple(expectations(place, instruction_sets, interpreters)),
        missing=tuple(missing(place, interpreters)),
    )


def _examine_interpreter(backend: str, place: PythonPlatform) -> InterpreterReport:
    wheel = wheel_for(backend, place)
    return InterpreterReport(
        backend=backend,
        package=PACKAGES[backend],
        format=next(kind for kind, names in BACKENDS.items() if backend in names),
        installed=_installed_version(backend) if installed(backend) else None,
        available=None if wheel is None else wheel.version,
        reason=why_no_wheel(backend, place) if wheel is None else None,
        probes=tuple(probe(backend, precision) for precision in PRECISIONS) if installed(backend) else (),
    )


def _installed_version(backend: str) -> str:
    """Return the version that pip recorded: importing a broken interpreter could end this process."""
    try:
        return metadata.version(PACKAGES[backend])
    except metadata.PackageNotFoundError:
        return "of another package"


def expectations(
    place: PythonPlatform, instruction_sets: Sequence[str] | None, interpreters: Sequence[InterpreterReport]
) -> list[str]:
    """Return sentences about what will be fast, from what is known about the kernels; nothing is measured."""
    sentences = []
    if instruction_sets is None:
        sentences.append(
            "This system does not report the processor's instruction sets; `mbn-deploy benchmark` shows what is fast."
        )
    elif place.architecture == AARCH64:
        sentences.append(_expect_on_aarch64(instruction_sets))
    elif place.architecture == X86_64:
        sentences.append(_expect_on_x86(instruction_sets))
    elif place.architecture == ARMV7 and NEON not in instruction_sets:
        sentences.append("Without NEON no kernel is vectorized: expect seconds instead of milliseconds.")
    slow = [each for each in interpreters if _uses_built_in(each) and not _has_alternative(each, interpreters)]
    sentences += [
        f"{each.package} runs int8 without XNNPACK here, which is several times slower. {_expect_float32(each)}"
        for each in slow
    ]
    return sentences


def _expect_on_aarch64(instruction_sets: Sequence[str]) -> str:
    if DOT_PRODUCT in instruction_sets:
        more = " and i8mm" if I8MM in instruction_sets else ""
        return f"int8 is fast with ai-edge-litert and onnxruntime: the processor has dot product{more} instructions."
    return (
        "The processor has no dot product instructions, like the Cortex-A53 and A72 of Raspberry Pi 3 and 4: int8 "
        "takes a quarter of the memory, but may be hardly faster than float32. `mbn-deploy benchmark` compares a "
        "bundle's files."
    )


def _expect_on_x86(instruction_sets: Sequence[str]) -> str:
    if VNNI in instruction_sets:
        more = "; ai-edge-litert also uses its AMX" if AMX in instruction_sets else ""
        return f"int8 is fast with ai-edge-litert and onnxruntime: the processor has VNNI instructions{more}."
    if AVX2 in instruction_sets:
        return (
            "The processor has no VNNI instructions: int8 gains less over float32, and sums in int8 .onnx files can "
            "saturate (see ONNX Runtime's page on quantization); `mbn-deploy verify` shows whether they do."
        )
    return "The processor has no AVX2 instructions: everything is several times slower than on newer processors."


def _uses_built_in(interpreter: InterpreterReport, precision: str = "int8") -> bool:
    return any(p.precision == precision and p.works and p.kernels == BUILT_IN for p in interpreter.probes)


def _expect_float32(interpreter: InterpreterReport) -> str:
    if _uses_built_in(interpreter, "float32"):
        return "The same is true of float32."
    return "float32 uses XNNPACK and may be faster: `mbn-deploy benchmark` compares a bundle's files."


def _has_alternative(interpreter: InterpreterReport, interpreters: Sequence[InterpreterReport]) -> bool:
    """Return whether another interpreter for the same files works."""
    return any(o.works and o.format == interpreter.format and o is not interpreter for o in interpreters)


def missing(place: PythonPlatform, interpreters: Sequence[InterpreterReport]) -> list[str]:
    """Return sentences about what is broken, what to install, and what cannot be installed here."""
    sentences = [
        f"{interpreter.package} {interpreter.installed} cannot run {failed.precision} files: {failed.error}"
        for interpreter in interpreters
        for failed in interpreter.probes
        if not failed.works
    ]
    for kind in BACKENDS:
        of_kind = [interpreter for interpreter in interpreters if interpreter.format == kind]
        if not any(interpreter.works for interpreter in of_kind):
            sentences += _missing_for_format(kind, of_kind, place)
    if place.architecture == ARMV7:
        sentences += _hints_for_armv7()
    return sentences


def _missing_for_format(kind: str, interpreters: Sequence[InterpreterReport], place: PythonPlatform) -> list[str]:
    available = [each for each in interpreters if each.available is not None and each.installed is None]
    if available:
        return [f".{kind} files: pip install 'mbn-deploy[{available[0].backend}]'"]
    if any(interpreter.installed for interpreter in interpreters):
        return []  # its error has been reported
    reasons = "; ".join(interpreter.reason for interpreter in interpreters if interpreter.reason)
    return [f".{kind} files: pip has no interpreter for {place}. {reasons}."]


def _hints_for_armv7() -> list[str]:
    if platform.machine() != ARMV7 and sys.maxsize < 2**32:
        first = (
            "This Python is a 32-bit program on a 64-bit processor: a 64-bit system can install ai-edge-litert and "
            "onnxruntime."
        )
    else:
        first = (
            "For 32-bit ARM there is only tflite-runtime 2.14, for CPython 3.10 and 3.11 (with glibc 2.34 or newer, as "
            "in Debian 12)."
        )
    second = (
        "numpy and Pillow have no wheels for it: install the system's packages (apt install python3-numpy "
        "python3-pil), or a folder that `mbn-deploy bundle pi --arch armv7l` wrote on another machine."
    )
    return [first, second]
