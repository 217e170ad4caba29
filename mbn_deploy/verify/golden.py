"""Golden vectors: some inputs, and the outputs that each file must give for them on any machine.

On a device they answer whether this interpreter, on this processor, computes what the workstation computed. Inputs
are stored as pixels, so that no image decoder takes part. If the answer is no, samples of every operation's result
show where the difference begins (see `operation_check`).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from mbn_deploy.archives import OWNER_ONLY, zip_bytes
from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.errors import InputError, UsageError, VerificationError
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.backends.modules import backend_version
from mbn_deploy.runtime.bundle import OpenedBundle, check_file, open_bundle
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.tensors import PixelEncoder
from mbn_deploy.verify.operation_check import OperationCheck, Subject, check, record
from mbn_deploy.verify.runner import FileRunner

INNER = (0, -1)  # the images that operations are compared on: the first one, and the noise
LARGEST_EXPANSION = 2**26  # bytes that an archive may unpack to beyond its own size
COUNT = 4  # calibration images; one image of noise is added, which reaches values that photographs do not
# Names of arrays. A model file's outputs are stored under its own name, which never contains a colon.
_PIXELS, _TOLERANCE, _MADE, _LIMITS, _SAMPLES = "pixels", "tolerance:", "made:", "limits:", "operations:"
_RESCALED, _RESCALING = "rescaled:", "rescaling:"
# Levels that int16 outputs may differ by: half of one int8 level for logits, a whole one for probabilities.
WIDE_LEVELS = 128


@dataclass(frozen=True, eq=False)
class GoldenProvenance:
    """The origin of a file's golden outputs, and how far other kernels may differ from them.

    Attributes:
        backend: the interpreter and its version.
        kernels: see `Backend.kernels`.
        cross_kernel_tolerance: how far outputs of other kernels may differ, in the output's own unit.
        relative_tolerance: how far floats inside may differ, as a fraction of the largest value of their tensor.
        samples: values of every operation's result, see `operation_check.record`.
    """

    backend: str
    kernels: str
    cross_kernel_tolerance: float
    relative_tolerance: float
    samples: Array


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden inputs, uint8 (N, H, W, C), and for each file its raw outputs (N, classes) and their tolerance.

    `provenance` is empty for bundles of versions that did not store it. `rescalings` has, by precision of a quantized
    file and then by tensor, how its channels are rescaled compared with the float files; a bundle of a version that did
    not store them has none for a precision.
    """

    pixels: Pixels
    outputs: dict[str, Array]
    tolerances: dict[str, float]
    provenance: dict[str, GoldenProvenance] = field(default_factory=dict)
    rescalings: dict[str, dict[str, Rescaling]] = field(default_factory=dict)


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
        same_top1: share of inputs with the same first answer.
        operations: the comparison of all operations, None if `largest` is within the tolerance.
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
    same_top1: float
    operations: OperationCheck | None

    @property
    def other_kernels(self) -> bool:
        """Whether the kernels are not those of the export."""
        return self.made_with not in ("", self.kernels)

    @property
    def by_operations(self) -> bool:
        """Whether the comparison of operations decides: for integer files run by other kernels than at the export."""
        return self.level is not None and self.other_kernels and self.operations is not None

    @property
    def passed(self) -> bool:
        """Whether the outputs are within the tolerance, or all operations are, if these decide."""
        if self.by_operations and self.operations is not None:
            return self.operations.passed
        return self.largest <= self.tolerance


def golden_pixels(images: Pixels | None, size: tuple[int, int], channels: int, seed: int = 0) -> Pixels:
    """Return the first `COUNT` of `images`, uint8 (N, H, W, C), and one image of noise.

    Without images, smooth random ones take their place. `size` is (height, width).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    noise = rng.integers(0, 256, (1, *size, channels), np.uint8)
    if images is None:
        images = np.concatenate([_smooth(rng, size, channels) for _ in range(COUNT)])
    return np.concatenate([images[:COUNT], noise])


def _smooth(rng: np.random.Generator, size: tuple[int, int], channels: int) -> Pixels:
    """Return an image (1, H, W, C) of a few waves per channel, which is more like a photograph than noise is."""
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in size), indexing="ij")
    phase = rng.uniform(0, 2 * np.pi, (channels, 3))
    waves = rng.uniform(-12, 12, (channels, 3, 2))
    planes = [
        sum(np.sin(waves[c, i, 0] * y + waves[c, i, 1] * x + phase[c, i]) for i in range(3)) for c in range(channels)
    ]
    pixels: Pixels = np.rint(np.stack(planes, -1)[None] * 42 + 127).clip(0, 255).astype(np.uint8)
    return pixels


def tolerance(outputs: Array, precision: str, level: float | None, fan_ins: list[int], *, probabilities: bool) -> float:
    """Return how far the raw outputs of a file may differ on another machine, in their own unit.

    Integer files may differ by one quantization level, since requantization rounds at most one level differently.
    `level` is the size of a level in real numbers, for int8 files whose outputs are floats. In int16 files one level
    in an early layer becomes many in the last, so they are allowed what int8 is: `WIDE_LEVELS`. Dynamic-range files
    round activations to 8 bits too, and may differ by one such level. For float files see `float_tolerance`.
    """
    levels = _tolerated_levels(outputs.dtype.name, precision)
    if outputs.dtype.kind in "iu":
        return float(levels)
    if level is not None:
        return levels * level * (1 + 1e-6)  # the difference of two float32 multiples of it
    if precision == "dynamic":
        return (1.0 if probabilities else float(np.ptp(outputs))) / 256
    return float_tolerance(outputs, fan_ins, probabilities=probabilities)


def _tolerated_levels(output_type: str, precision: str) -> int:
    """Return how many quantization levels an integer model's output may differ."""
    return WIDE_LEVELS if "int16" in (output_type, precision.removesuffix("x8")) else 1


def float_tolerance(outputs: Array, fan_ins: list[int], *, probabilities: bool) -> float:
    """Return how far float32 outputs may differ where sums are added up in another order.

    The rounding error of a sum of n products is about eps * sqrt(n) of its size (errors of random sign). Errors of
    layers add in quadrature, so that of logits is eps * sqrt(sum of n). Four times that is allowed. A probability
    moves by at most 1/4 of the change between two logits; their range is derived from the outputs as
    ln(largest / smallest probability).

    Args:
        outputs: float32 (N, classes).
        fan_ins: number of products in one sum, for every layer.
        probabilities: whether the outputs are probabilities rather than logits.
    """
    relative = relative_tolerance(fan_ins)
    if not probabilities:
        return relative * float(np.abs(outputs).max())
    least = float(np.finfo(np.float32).tiny)
    spread = float(np.log(np.maximum(outputs, least).max() / np.maximum(outputs, least).min()))
    return relative * max(spread, 1.0) / 2


def relative_tolerance(fan_ins: list[int]) -> float:
    """Return how far float32 values may differ, as a fraction of the largest of them; see `float_tolerance`."""
    return 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(sum(fan_ins)))


def golden_provenance(
    subject: Subject, entry: ModelFile, pixels: Pixels, outputs: Array, *, kernels: str, allowed: float, relative: float
) -> GoldenProvenance:
    """Record how the golden outputs of a file were computed, with samples of its operations.

    Dynamic-range kernels quantize activations while they run, each family in its own way. Two of them may be twice as
    far apart as this one is from the reference kernels.

    Args:
        subject: the file and the interpreter that computed `outputs`.
        entry: the file's line in the manifest.
        pixels: the golden inputs, uint8 (N, H, W, C).
        outputs: raw outputs (N, classes).
        kernels: the kernels that computed them.
        allowed: how far outputs of the same kernels may differ.
        relative: how far floats inside may differ, as a fraction of the largest value of their tensor.
    """
    samples, reference_outputs = record(subject, _sources(entry, pixels))
    cross_kernel_tolerance = allowed
    if subject.precision == "dynamic":
        apart = float(np.abs(outputs[list(INNER)] - reference_outputs).max())
        relative, cross_kernel_tolerance = max(relative, 1 / 256), max(allowed, 2 * apart)
    return GoldenProvenance(
        backend=f"{subject.backend} {_version(subject.backend)}",
        kernels=kernels,
        cross_kernel_tolerance=cross_kernel_tolerance,
        relative_tolerance=relative,
        samples=samples,
    )


def _sources(entry: ModelFile, pixels: Pixels) -> list[Array]:
    """Return an input tensor for each image of `INNER`, repeated to fill the file's batch."""
    encode = PixelEncoder(entry.input, entry.preprocess, entry.layout)
    return [encode(np.repeat(pixels[[image]], entry.input.shape[0], 0)) for image in INNER]


def _version(backend: str) -> str:
    return backend_version(backend) or "of unknown version"


def golden_bytes(golden: Golden) -> bytes:
    """Return the .npz file: plain arrays, uncompressed, with a fixed time, so that equal vectors give equal bytes."""
    arrays: dict[str, Array] = {_PIXELS: golden.pixels, **golden.outputs}
    arrays |= {_TOLERANCE + name: np.array([value], np.float64) for name, value in golden.tolerances.items()}
    for name, origin in golden.provenance.items():
        arrays |= {_MADE + name: np.array([origin.backend, origin.kernels]), _SAMPLES + name: origin.samples}
        arrays[_LIMITS + name] = np.array([origin.cross_kernel_tolerance, origin.relative_tolerance], np.float64)
    for precision, by_tensor in golden.rescalings.items():
        arrays[_RESCALED + precision] = np.array([len(by_tensor)], np.int32)
        arrays |= {f"{_RESCALING}{precision}:{name}": value.to_array() for name, value in by_tensor.items()}
    return zip_bytes({f"{name}.npy": _npy(array) for name, array in sorted(arrays.items())}, mode=OWNER_ONLY)


def _npy(array: Array) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
    return content.getvalue()


def read_golden(data: bytes, where: str) -> Golden:
    """Read what `golden_bytes` wrote. Nothing is unpickled.

    Raises:
        InputError: names `where`, the file that the data are from.
    """
    try:
        arrays = _arrays(data)
        pixels = arrays.pop(_PIXELS)
        outputs = {name: array for name, array in arrays.items() if ":" not in name}
        tolerances = {name: float(arrays[_TOLERANCE + name].item()) for name in outputs}
        provenance = {name: _provenance(arrays, name) for name in outputs if _MADE + name in arrays}
        rescalings = _rescalings(arrays)
    except Exception as error:  # numpy parses headers as Python literals, which may raise almost anything
        raise InputError(f"{where}: not a file of golden vectors: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or not pixels.size:
        raise InputError(f"{where}: not a file of golden vectors: its pixels are {pixels.dtype} {pixels.shape}")
    return Golden(pixels, outputs, tolerances, provenance, rescalings)


def _arrays(data: bytes) -> dict[str, Array]:
    _check_sizes(data)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    # numpy returns a member with another magic number as plain bytes.
    if strangers := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise TypeError(f"{strangers[0]!r} is no array")
    return arrays


def _check_sizes(data: bytes) -> None:
    """Refuse an archive that unpacks to much more than its size: ours are not compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > len(data) + LARGEST_EXPANSION:
        raise ValueError(f"an archive of {len(data)} bytes that unpacks to {unpacked}")


def _provenance(arrays: dict[str, Array], name: str) -> GoldenProvenance:
    backend, kernels = (str(text) for text in arrays[_MADE + name])
    cross_kernel, relative = (float(limit) for limit in arrays[_LIMITS + name])
    return GoldenProvenance(
        backend=backend,
        kernels=kernels,
        cross_kernel_tolerance=cross_kernel,
        relative_tolerance=relative,
        samples=arrays[_SAMPLES + name],
    )


def _rescalings(arrays: dict[str, Array]) -> dict[str, dict[str, Rescaling]]:
    rescalings: dict[str, dict[str, Rescaling]] = {}
    for name, count in arrays.items():
        if name.startswith(_RESCALED):
            precision = name.removeprefix(_RESCALED)
            start = f"{_RESCALING}{precision}:"
            found = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
            if len(found) != int(count.item()):
                raise ValueError(f"{len(found)} of {int(count.item())} rescaled tensors of {precision}")
            rescalings[precision] = {tensor: Rescaling.from_array(array) for tensor, array in found.items()}
    return rescalings


def open_golden(folder: str | PathLike[str], *, check_files: bool = True) -> tuple[OpenedBundle, Golden]:
    """Open the bundle `folder` and read its golden vectors; `check_files` as for `open_bundle`.

    Raises:
        InputError: the bundle is damaged or has no golden vectors.
    """
    opened = open_bundle(folder, check_files=check_files)
    if opened.manifest.golden is None:
        raise InputError(f"{folder}: the bundle has no golden vectors")
    where = opened.folder / opened.manifest.golden
    data = read_file(where)
    if sha256(data) != opened.manifest.golden_sha256:
        raise InputError(f"{where}: sha256 is not what the manifest says: it was changed or damaged after the export")
    return opened, read_golden(data, str(where))


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
    return [_Replay(golden, opened.folder, entry).result(backend, threads) for entry in entries]


def skipped(folder: str | PathLike[str], results: list[GoldenResult]) -> list[str]:
    """Return the names of the bundle's files that are not among `results`."""
    replayed = {result.file for result in results}
    return [e.path for e in open_bundle(folder, check_files=False).manifest.files if e.path not in replayed]


def _formats(backend: str | None) -> set[str]:
    from mbn_deploy.runtime.backends import BACKENDS
    from mbn_deploy.runtime.backends.modules import installed

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

    def result(self, backend: str | None, threads: int | None) -> GoldenResult:
        """Run the file and compare. Raises `InputError` if the golden outputs are not of this file."""
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
            version=_version(opened.name),
            kernels=kernels,
            made_with=made_with,
            images=len(self.golden.pixels),
            largest=largest,
            tolerance=allowed,
            level=self._level(),
            same_top1=float((wanted.argmax(1) == outputs.argmax(1)).mean()),
            operations=None if largest <= allowed else self._operations(opened),
        )

    def _allowed(self, kernels: str) -> float:
        if self._provenance is None or kernels == self._provenance.kernels:
            return self.golden.tolerances[self.entry.path]
        return self._provenance.cross_kernel_tolerance

    def _level(self) -> float | None:
        """Return one quantization level of an integer file's output, in the unit of the tolerance; else None."""
        if not self.entry.precision.startswith("int"):
            return None
        levels = _tolerated_levels(self.entry.output.dtype, self.entry.precision)
        return self.golden.tolerances[self.entry.path] / levels

    def _operations(self, opened: Backend) -> OperationCheck | None:
        """Compare every operation with its samples; return None for a bundle that has none."""
        if self._provenance is None:
            return None
        entry = self.entry
        subject = Subject(self._data, entry.format, entry.precision, opened.name, opened.threads, self.where)
        origin = self._provenance
        return check(subject, _sources(entry, self.golden.pixels), origin.samples, origin.relative_tolerance)
