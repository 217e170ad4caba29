"""Golden vectors: some inputs, and for each file the outputs that it must give anywhere.

They answer one question on the device: does this interpreter, on this processor, compute what the
workstation computed? Images are stored as pixels, so that no decoder takes part. Where the answer is no,
samples of every operation's result say from where on (see `operations`).
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
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends import Backend, backend_version, open_backend
from mbn_deploy.runtime.bundle import check_file, open_bundle
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.tensors import PixelEncoder
from mbn_deploy.verify.operation_check import OperationCheck, Subject, check, record
from mbn_deploy.verify.runner import FileRunner

INNER = (0, -1)  # the images that operations are compared on: one of the set, and noise
LARGEST_EXPANSION = 2**26  # bytes
COUNT = 4  # images of the calibration set, and one of noise, which reaches values that photographs do not
# Names of arrays: a model file's own is its output's, and no file has a colon in its name.
_PIXELS, _TOLERANCE, _MADE, _LIMITS, _SAMPLES = "pixels", "tolerance:", "made:", "limits:", "operations:"
# Of 16 bits: half of what one level of 8 bits is worth to logits, and all of it to probabilities.
WIDE_LEVELS = 128


@dataclass(frozen=True, eq=False)
class Making:
    """How a file's vectors were made: `backend` with its version, `kernels` as `Backend.kernels` says.

    `elsewhere` is how far outputs of other kernels may be off; `relative` how far a float of an operation's
    result, of the largest one; `samples` are those of `operations.record`.
    """

    backend: str
    kernels: str
    elsewhere: float
    relative: float
    samples: Array


@dataclass(frozen=True, eq=False)
class Golden:
    """`pixels` uint8 (N, H, W, C); by file, raw `outputs` (N, classes) and how far another machine may be off."""

    pixels: Pixels
    outputs: dict[str, Array]
    tolerances: dict[str, float]
    made: dict[str, Making] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldenResult:
    """One file replayed. `largest` and `tolerance` are in the output's own unit; `level` is one level in it.

    `kernels` compute here, `made_with` did at the export ("" if the bundle does not say). Within one family
    int8 outputs are a level off at most; between families roundings differ, and add up to more. There every
    operation counts instead: `operations` is filled where the outputs are off by more than the tolerance.
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
        """Whether another implementation computes than at the export."""
        return self.made_with not in ("", self.kernels)

    @property
    def by_operations(self) -> bool:
        """Whether operations decide: levels, of other kernels than those of the export."""
        return self.level is not None and self.other_kernels and self.operations is not None

    @property
    def passed(self) -> bool:
        """Outputs within the tolerance; or every operation, where these decide."""
        if self.by_operations and self.operations is not None:
            return self.operations.passed
        return self.largest <= self.tolerance


def golden_pixels(images: Pixels | None, size: tuple[int, int], channels: int, seed: int = 0) -> Pixels:
    """`COUNT` of `images` (uint8 (N, H, W, C), or `None`: of smooth random pictures) and one of noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    noise = rng.integers(0, 256, (1, *size, channels), np.uint8)
    if images is None:
        images = np.concatenate([_smooth(rng, size, channels) for _ in range(COUNT)])
    return np.concatenate([images[:COUNT], noise])


def _smooth(rng: np.random.Generator, size: tuple[int, int], channels: int) -> Pixels:
    """(1, H, W, C): a few waves a channel; more like a photograph than noise is."""
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in size), indexing="ij")
    phase = rng.uniform(0, 2 * np.pi, (channels, 3))
    waves = rng.uniform(-12, 12, (channels, 3, 2))
    planes = [
        sum(np.sin(waves[c, i, 0] * y + waves[c, i, 1] * x + phase[c, i]) for i in range(3)) for c in range(channels)
    ]
    pixels: Pixels = np.rint(np.stack(planes, -1)[None] * 42 + 127).clip(0, 255).astype(np.uint8)
    return pixels


def tolerance(outputs: Array, precision: str, level: float | None, fan_ins: list[int], *, probabilities: bool) -> float:
    """How far a file's raw `outputs` may be off on another machine.

    One level where the file computes in integers: roundings of requantization differ by one, and one
    only. `level` is what that is in real numbers, for int8 files that end in floats. With 16 bits one
    level in an early layer is many in the last, and as much is allowed as to 8 bits: `WIDE_LEVELS`.
    Dynamic-range files round their activations to 8 bits as well. Else see `float_tolerance`.
    """
    levels = _levels(outputs.dtype.name, precision)
    if outputs.dtype.kind in "iu":
        return float(levels)
    if level is not None:
        return levels * level * (1 + 1e-6)  # the difference of two float32 multiples of it
    if precision == "dynamic":
        return (1.0 if probabilities else float(np.ptp(outputs))) / 256
    return float_tolerance(outputs, fan_ins, probabilities=probabilities)


def _levels(output_type: str, precision: str) -> int:
    """So many levels of its output may an integer file be off."""
    return WIDE_LEVELS if "int16" in (output_type, precision.removesuffix("x8")) else 1


def float_tolerance(outputs: Array, fan_ins: list[int], *, probabilities: bool) -> float:
    """How far float32 outputs may differ where sums are formed in another order.

    A sum of n products is off by about eps * sqrt(n) of its size (rounding errors of random sign);
    layers add in quadrature, so logits are off by eps * sqrt(sum of n) of theirs. Four times that is
    allowed. A probability moves by at most 1/4 of what two logits do against each other; how large
    logits are is read off the outputs: ln(largest / smallest probability).
    """
    relative = relative_tolerance(fan_ins)
    if not probabilities:
        return relative * float(np.abs(outputs).max())
    least = float(np.finfo(np.float32).tiny)
    spread = float(np.log(np.maximum(outputs, least).max() / np.maximum(outputs, least).min()))
    return relative * max(spread, 1.0) / 2


def relative_tolerance(fan_ins: list[int]) -> float:
    """How far float32 values may be off, of the largest of them: see `float_tolerance`."""
    return 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(sum(fan_ins)))


def making(
    subject: Subject, entry: ModelFile, pixels: Pixels, outputs: Array, *, kernels: str, allowed: float, relative: float
) -> Making:
    """How the vectors of a file were made, by `subject`'s backend with `kernels`.

    `allowed` and `relative` are how far the `outputs` on `pixels`, and floats inside, may be off elsewhere.
    Dynamic-range kernels choose 8 bits for activations while they run, every family in its own way: two of
    them may be twice as far apart as this one is from the reference kernels.
    """
    samples, by_reference = record(subject, _sources(entry, pixels))
    elsewhere = allowed
    if subject.precision == "dynamic":
        apart = float(np.abs(outputs[list(INNER)] - by_reference).max())
        relative, elsewhere = max(relative, 1 / 256), max(elsewhere, 2 * apart)
    return Making(f"{subject.backend} {_version(subject.backend)}", kernels, elsewhere, relative, samples)


def _sources(entry: ModelFile, pixels: Pixels) -> list[Array]:
    """Input tensors with one image each of `INNER`, as often as the file's batch has room."""
    encode = PixelEncoder(entry.input, entry.preprocess, entry.layout)
    return [encode(np.repeat(pixels[[image]], entry.input.shape[0], 0)) for image in INNER]


def _version(backend: str) -> str:
    return backend_version(backend) or "of unknown version"


def golden_bytes(golden: Golden) -> bytes:
    """The .npz file: plain arrays, stored, with fixed times: the same vectors give the same bytes."""
    arrays: dict[str, Array] = {_PIXELS: golden.pixels, **golden.outputs}
    arrays |= {_TOLERANCE + name: np.array([value], np.float64) for name, value in golden.tolerances.items()}
    for name, made in golden.made.items():
        arrays |= {_MADE + name: np.array([made.backend, made.kernels]), _SAMPLES + name: made.samples}
        arrays[_LIMITS + name] = np.array([made.elsewhere, made.relative], np.float64)
    return zip_bytes({f"{name}.npy": _npy(array) for name, array in sorted(arrays.items())}, mode=OWNER_ONLY)


def _npy(array: Array) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
    return content.getvalue()


def read_golden(data: bytes, where: str) -> Golden:
    """The inverse of `golden_bytes`; raises `InputError` that names `where`. Nothing is unpickled."""
    try:
        arrays = _arrays(data)
        pixels = arrays.pop(_PIXELS)
        outputs = {name: array for name, array in arrays.items() if ":" not in name}
        tolerances = {name: float(arrays[_TOLERANCE + name].item()) for name in outputs}
        made = {name: _making(arrays, name) for name in outputs if _MADE + name in arrays}
    except Exception as error:  # numpy reads headers as Python's literals: what that raises is no closed set
        raise InputError(f"{where}: not a file of golden vectors: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or not pixels.size:
        raise InputError(f"{where}: not a file of golden vectors: its pixels are {pixels.dtype} {pixels.shape}")
    return Golden(pixels, outputs, tolerances, made)


def _arrays(data: bytes) -> dict[str, Array]:
    _check_sizes(data)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    # Of a member with another magic number numpy hands out the bytes.
    if strangers := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise TypeError(f"{strangers[0]!r} is no array")
    return arrays


def _check_sizes(data: bytes) -> None:
    """Vectors are stored as they are: an archive that unpacks to more than it has is none of ours."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > len(data) + LARGEST_EXPANSION:
        raise ValueError(f"an archive of {len(data)} bytes that unpacks to {unpacked}")


def _making(arrays: dict[str, Array], name: str) -> Making:
    backend, kernels = (str(text) for text in arrays[_MADE + name])
    elsewhere, relative = (float(limit) for limit in arrays[_LIMITS + name])
    return Making(backend, kernels, elsewhere, relative, arrays[_SAMPLES + name])


def verify_golden(
    folder: str | PathLike[str], *, backend: str | None = None, threads: int | None = None
) -> list[GoldenResult]:
    """Replay the golden vectors of every file of the bundle `folder` that this machine has an interpreter for.

    With `backend`, only the files that it runs. Raises `InputError` for a bundle that is damaged or
    has no golden vectors, `UsageError` and `MissingExtraError` as `open_backend`, `VerificationError` for answers
    that are no numbers.
    """
    opened = open_bundle(folder)
    where = opened.folder / str(opened.manifest.golden)
    if opened.manifest.golden is None:
        raise InputError(f"{folder}: the bundle has no golden vectors")
    data = read_file(where)
    if sha256(data) != opened.manifest.golden_sha256:
        raise InputError(f"{where}: sha256 is not what the manifest says: it was changed or damaged after the export")
    golden = read_golden(data, str(where))
    formats = _formats(backend)
    entries = [e for e in opened.manifest.files if e.format in formats and e.path in golden.outputs]
    if not entries:
        raise UsageError(f"{folder}: nothing in it can be replayed{f' by {backend}' if backend else ''}")
    return [_Replay(golden, opened.folder, entry).result(backend, threads) for entry in entries]


def skipped(folder: str | PathLike[str], results: list[GoldenResult]) -> list[str]:
    """Files of the bundle that are not among `results`."""
    replayed = {result.file for result in results}
    return [e.path for e in open_bundle(folder, check_files=False).manifest.files if e.path not in replayed]


def _formats(backend: str | None) -> set[str]:
    from mbn_deploy.runtime.backends import BACKENDS, installed

    if backend is None:
        return {f for f, names in BACKENDS.items() if any(map(installed, names))} or set(BACKENDS)
    return {f for f, names in BACKENDS.items() if backend in names} or set(BACKENDS)


class _Replay:
    """One file and its golden vectors."""

    def __init__(self, golden: Golden, folder: Path, entry: ModelFile) -> None:
        self.golden, self.entry, self.where = golden, entry, str(folder / entry.path)
        self._data = check_file(folder, entry)
        self._made = golden.made.get(entry.path)
        if golden.pixels.shape[1:] != entry.picture:
            raise InputError(
                f"{self.where}: the pictures of golden.npz are {golden.pixels.shape[1:]}: not for this file"
            )

    def result(self, backend: str | None, threads: int | None) -> GoldenResult:
        """Raises `InputError` for outputs that are not of this file."""
        entry = self.entry
        opened = open_backend(self._data, entry.format, name=backend, threads=threads, where=self.where, vouched=True)
        try:
            runner = FileRunner(opened, entry.preprocess, entry.layout, entry.input, entry.output)
            found, kernels = runner.raw(self.golden.pixels), opened.kernels
        finally:
            opened.close()
        wanted = self.golden.outputs[entry.path]
        if wanted.shape != found.shape or wanted.dtype != found.dtype:
            raise InputError(f"{self.where}: its golden vectors are {wanted.dtype} {wanted.shape}: not of this file")
        if not np.isfinite(found).all():
            raise VerificationError(f"{self.where}: {opened.name} answers with values that are not finite")
        made_with = "" if self._made is None else self._made.kernels
        largest = float(np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max())
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
            same_top1=float((wanted.argmax(1) == found.argmax(1)).mean()),
            operations=None if largest <= allowed else self._operations(opened),
        )

    def _allowed(self, kernels: str) -> float:
        if self._made is None or kernels == self._made.kernels:
            return self.golden.tolerances[self.entry.path]
        return self._made.elsewhere

    def _level(self) -> float | None:
        """A level of an integer file's output, in the unit of the tolerance."""
        if not self.entry.precision.startswith("int"):
            return None
        levels = _levels(self.entry.output.dtype, self.entry.precision)
        return self.golden.tolerances[self.entry.path] / levels

    def _operations(self, opened: Backend) -> OperationCheck | None:
        """`None` for a bundle that was made without samples."""
        if self._made is None:
            return None
        entry = self.entry
        subject = Subject(self._data, entry.format, entry.precision, opened.name, opened.threads, self.where)
        return check(subject, _sources(entry, self.golden.pixels), self._made.samples, self._made.relative)
