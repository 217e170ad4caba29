"""Replays the golden vectors of a bundle: does this machine compute what the export computed?"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy.errors import InputError, VerificationError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends import BACKENDS, open_backend
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.backends.modules import installed
from mbn_deploy.runtime.bundle import OpenedBundle, check_file
from mbn_deploy.verify.golden import Golden, GoldenProvenance, open_golden
from mbn_deploy.verify.golden_inputs import operation_inputs, version_of
from mbn_deploy.verify.golden_limits import check_limits
from mbn_deploy.verify.operation_check import OperationCheck, Subject, check, check_from_fields
from mbn_deploy.verify.runner import FileRunner
from mbn_deploy.verify.tolerance import tolerated_levels

# How far floats inside a dynamic-range file may be from the export's on another processor or version, as a fraction of
# the largest value of their tensor. Kernels quantize activations while they run: a value near the middle between two
# levels goes to either, and later layers enlarge that. Up to 0.10 was seen in MobileNet V2 on ARM, for random pixels.
OTHER_DYNAMIC = 0.25


@dataclass(frozen=True)
class GoldenResult:
    """The result of replaying the golden vectors of one file.

    With the same kernels as at export, int8 outputs may differ by one quantization level. Kernels of another family
    round differently, and the differences add up over the layers; then the operations are compared one by one.

    Attributes:
        file: name of the file.
        backend: the interpreter used here.
        version: its version.
        kernels: the kernels that it uses, see `Backend.kernels`.
        made_with: the kernels used at the export, "" if the bundle does not say.
        images: number of inputs.
        largest: largest difference of an output, in the output's own unit.
        tolerance: how large it may be.
        level: one quantization level in the same unit; None for float files.
        same_top1: share of inputs with the same first answer; None for models that do not answer with classes.
        operations: the comparison of all operations, what goes into the last softmax or sigmoid among them, which a
            saturated probability hides; None if the bundle has no samples of them.
    """

    file: str
    backend: str
    version: str
    kernels: str
    made_with: str
    images: int
    largest: float
    tolerance: float
    level: float | None
    same_top1: float | None
    operations: OperationCheck | None

    @property
    def other_kernels(self) -> bool:
        """Whether the kernels are not those of the export."""
        return self.made_with not in ("", self.kernels)

    @property
    def by_operations(self) -> bool:
        """Whether operations decide in place of outputs: for integer files run by other kernels than at the export."""
        return self.level is not None and self.other_kernels and self.operations is not None

    @property
    def outputs_passed(self) -> bool:
        """Whether the outputs are within the tolerance."""
        return self.largest <= self.tolerance

    @property
    def passed(self) -> bool:
        """Whether the outputs are within the tolerance, or need not be, and so is every operation."""
        operations_passed = self.operations is None or self.operations.passed
        return operations_passed and (self.by_operations or self.outputs_passed)


def replayable(files: Sequence[ModelFile], backend: str | None) -> list[ModelFile]:
    """Return the files that `backend` runs, by default those of which an interpreter is installed.

    With a backend of an unknown name, or no interpreter at all, every file: opening one says what is missing.
    """
    formats = {
        f for f, names in BACKENDS.items() if any(map(installed, names) if backend is None else [backend in names])
    }
    return [entry for entry in files if entry.format in (formats or BACKENDS)]


def replay(
    opened: OpenedBundle, golden: Golden, entry: ModelFile, *, backend: str | None = None, threads: int | None = None
) -> GoldenResult:
    """Replay the golden vectors of one file of a bundle, which has some.

    Args:
        opened: the bundle.
        golden: its golden vectors.
        entry: the file.
        backend: the interpreter; by default the first that is installed.
        threads: number of threads; by default that of `open_backend`.

    Raises:
        InputError: the file is damaged, or the golden vectors are not of it or have impossible tolerances.
        MissingExtraError: the interpreter is not installed.
        VerificationError: the file answers with values that are not finite.
    """
    answers = opened.manifest.answers
    one = _Replay(golden, opened.folder, entry)
    check_limits(golden, entry, one.data, answers, str(opened.folder / (opened.manifest.golden or "")))
    return one.result(backend, threads, ranked=answers.meaning == "classes")


def replay_in_child(folder: str, file: str, backend: str | None, threads: int | None) -> dict[str, Any]:
    """Return the fields of what `replay` returns for a file of a bundle. Runs in a child process."""
    opened, golden = open_golden(folder)
    entry = next(each for each in opened.manifest.files if each.path == file)
    return asdict(replay(opened, golden, entry, backend=backend, threads=threads))


def result_from_fields(fields: dict[str, Any]) -> GoldenResult:
    """Return the result whose fields `replay_in_child` returned."""
    operations = fields["operations"]
    return GoldenResult(**fields | {"operations": None if operations is None else check_from_fields(operations)})


class _Replay:
    """The replay of one file's golden vectors."""

    def __init__(self, golden: Golden, folder: Path, entry: ModelFile) -> None:
        self.golden, self.entry, self.where = golden, entry, str(folder / entry.path)
        self.data = check_file(folder, entry)
        self._provenance = golden.provenance.get(entry.path)
        if golden.pixels.shape[1:] != entry.picture:
            raise InputError(
                f"{self.where}: takes images of {entry.picture}, but those in golden.npz are {golden.pixels.shape[1:]}"
            )

    def result(self, backend: str | None, threads: int | None, *, ranked: bool) -> GoldenResult:
        """Run the file and compare; `ranked` says whether outputs are classes, of which the first is compared.

        Raises `InputError` if the golden outputs are not of this file.
        """
        entry = self.entry
        opened = open_backend(self.data, entry.format, name=backend, threads=threads, where=self.where, vouched=True)
        try:
            runner = FileRunner(opened, entry.preprocess, entry.layout, entry.input, entry.output)
            outputs, kernels = runner.raw(self.golden.pixels), opened.kernels
        finally:
            opened.close()
        wanted = self.golden.outputs[entry.path]
        if wanted.shape != outputs.shape or wanted.dtype != outputs.dtype:
            raise InputError(f"{self.where}: its golden vectors are {wanted.dtype} {wanted.shape}: not of this file")
        if not np.isfinite(outputs).all():
            raise VerificationError(f"{self.where}: {opened.name} answers with values that are not finite")
        made_with = "" if self._provenance is None else self._provenance.kernels
        largest = float(np.abs(wanted.astype(np.float64) - outputs.astype(np.float64)).max())
        allowed = self._allowed(kernels)
        return GoldenResult(
            file=entry.path,
            backend=opened.name,
            version=version_of(opened.name),
            kernels=kernels,
            made_with=made_with,
            images=len(self.golden.pixels),
            largest=largest,
            tolerance=allowed,
            level=self._level(),
            same_top1=float((wanted.argmax(1) == outputs.argmax(1)).mean()) if ranked else None,
            operations=self._operations(opened, alone=largest > allowed),
        )

    def _allowed(self, kernels: str) -> float:
        # Kernels of dynamic-range files quantize activations while they run, in one way on each processor.
        origin = self._provenance
        if origin is None or (kernels == origin.kernels and self.entry.precision != "dynamic"):
            return self.golden.tolerances[self.entry.path]
        return origin.cross_kernel_tolerance

    def _level(self) -> float | None:
        """Return one quantization level of an integer file's output, in the unit of the tolerance; else None."""
        if not self.entry.precision.startswith("int"):
            return None
        levels = tolerated_levels(self.entry.output.dtype, self.entry.precision)
        return self.golden.tolerances[self.entry.path] / levels

    def _operations(self, opened: Backend, *, alone: bool) -> OperationCheck | None:
        """Compare every operation with its samples, see `check`; return None for a bundle that has none."""
        origin, entry = self._provenance, self.entry
        if origin is None or origin.operations == 0:
            return None
        subject = Subject(
            data=self.data,
            format=entry.format,
            precision=entry.precision,
            backend=opened.name,
            threads=opened.threads,
            where=self.where,
            count=origin.operations,
        )
        sources = operation_inputs(entry, self.golden.pixels)
        return check(subject, sources, origin.samples, self._relative(origin, opened.name), alone=alone)

    def _relative(self, origin: GoldenProvenance, backend: str) -> float:
        """Return how far floats inside may differ; see `OTHER_DYNAMIC`."""
        made_here = (origin.machine, origin.backend) == (platform.machine(), f"{backend} {version_of(backend)}")
        other = self.entry.precision == "dynamic" and not made_here
        return max(origin.relative_tolerance, OTHER_DYNAMIC if other else 0.0)
