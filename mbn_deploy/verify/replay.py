"""Replays the golden vectors of a bundle: does this machine compute what the export computed?"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from mbn_deploy.errors import InputError, UsageError, VerificationError
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends import BACKENDS, open_backend
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.backends.modules import installed
from mbn_deploy.runtime.bundle import check_file, open_bundle
from mbn_deploy.verify.golden import Golden, open_golden
from mbn_deploy.verify.golden_inputs import operation_inputs, version_of
from mbn_deploy.verify.operation_check import OperationCheck, Subject, check
from mbn_deploy.verify.runner import FileRunner
from mbn_deploy.verify.tolerance import tolerated_levels


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


def verify_golden(
    folder: str | PathLike[str], *, backend: str | None = None, threads: int | None = None
) -> list[GoldenResult]:
    """Replay the golden vectors of every file in the bundle `folder` that this machine has an interpreter for.

    Args:
        folder: the bundle.
        backend: replay only the files that this interpreter runs.
        threads: number of threads; by default that of `open_backend`.

    Raises:
        InputError: the bundle is damaged or has no golden vectors.
        UsageError: no file of the bundle can be replayed.
        MissingExtraError: the interpreter is not installed.
        VerificationError: a file answers with values that are not finite.
    """
    opened, golden = open_golden(folder)
    formats = _formats(backend)
    entries = [e for e in opened.manifest.files if e.format in formats and e.path in golden.outputs]
    if not entries:
        raise UsageError(f"{folder}: no file in it can be replayed{f' by {backend}' if backend else ''}")
    ranked = opened.manifest.answers.meaning == "classes"
    return [_Replay(golden, opened.folder, entry).result(backend, threads, ranked=ranked) for entry in entries]


def skipped(folder: str | PathLike[str], results: list[GoldenResult]) -> list[str]:
    """Return the names of the bundle's files that are not among `results`."""
    replayed = {result.file for result in results}
    return [e.path for e in open_bundle(folder, check_files=False).manifest.files if e.path not in replayed]


def _formats(backend: str | None) -> set[str]:
    if backend is None:
        return {f for f, names in BACKENDS.items() if any(map(installed, names))} or set(BACKENDS)
    return {f for f, names in BACKENDS.items() if backend in names} or set(BACKENDS)


class _Replay:
    """The replay of one file's golden vectors."""

    def __init__(self, golden: Golden, folder: Path, entry: ModelFile) -> None:
        self.golden, self.entry, self.where = golden, entry, str(folder / entry.path)
        self._data = check_file(folder, entry)
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
        opened = open_backend(self._data, entry.format, name=backend, threads=threads, where=self.where, vouched=True)
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
            data=self._data,
            format=entry.format,
            precision=entry.precision,
            backend=opened.name,
            threads=opened.threads,
            where=self.where,
            count=origin.operations,
        )
        sources = operation_inputs(entry, self.golden.pixels)
        return check(subject, sources, origin.samples, origin.relative_tolerance, alone=alone)
