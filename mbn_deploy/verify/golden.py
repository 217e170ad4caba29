"""Golden vectors: some inputs, and for each file the outputs that it must give anywhere.

They answer one question on the device: does this interpreter, on this processor, compute what the
workstation computed? Images are stored as pixels, so that no decoder takes part.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.errors import InputError
from mbn_deploy.images import Pixels, sha256
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.bundle import check_file, open_bundle, read_file
from mbn_deploy.verify.runner import FileRunner

Array = npt.NDArray[Any]

GOLDEN_NAME = "golden.npz"
COUNT = 4  # images of the calibration set, and one of noise, which reaches values that photographs do not
_PIXELS, _TOLERANCE = "pixels", "tolerance:"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip archive can name: the same bytes every time


@dataclass(frozen=True, eq=False)
class Golden:
    """`pixels` uint8 (N, H, W, C); by file, raw `outputs` (N, classes) and how far another machine may be off."""

    pixels: Pixels
    outputs: dict[str, Array]
    tolerances: dict[str, float]


@dataclass(frozen=True)
class GoldenResult:
    """One file replayed. `largest` and `tolerance` are in the output's own unit: levels for integers.

    `kernels` says which implementation computed: the delegate or execution provider behind the backend.
    """

    file: str
    backend: str
    kernels: str
    images: int
    largest: float
    tolerance: float
    same_top1: float

    @property
    def passed(self) -> bool:
        """Within the tolerance."""
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
    only. `level` is what that is in real numbers, for int8 files that end in floats. Dynamic-range
    files round their activations to 8 bits as well. Else see `float_tolerance`.
    """
    if outputs.dtype.kind in "iu":
        return 1.0
    if level is not None:
        return level * (1 + 1e-6)  # the difference of two float32 multiples of it
    if precision == "dynamic":
        return (1.0 if probabilities else float(np.ptp(outputs))) / 256
    return float_tolerance(outputs, fan_ins, probabilities=probabilities)


def float_tolerance(outputs: Array, fan_ins: list[int], *, probabilities: bool) -> float:
    """How far float32 outputs may differ where sums are formed in another order.

    A sum of n products is off by about eps * sqrt(n) of its size (rounding errors of random sign);
    layers add in quadrature, so logits are off by eps * sqrt(sum of n) of theirs. Four times that is
    allowed. A probability moves by at most 1/4 of what two logits do against each other; how large
    logits are is read off the outputs: ln(largest / smallest probability).
    """
    relative = 4 * float(np.finfo(np.float32).eps) * float(np.sqrt(sum(fan_ins)))
    if not probabilities:
        return relative * float(np.abs(outputs).max())
    least = float(np.finfo(np.float32).tiny)
    spread = float(np.log(np.maximum(outputs, least).max() / np.maximum(outputs, least).min()))
    return relative * max(spread, 1.0) / 2


def golden_bytes(golden: Golden) -> bytes:
    """The .npz file: plain arrays, stored, with fixed times: the same vectors give the same bytes."""
    arrays: dict[str, Array] = {_PIXELS: golden.pixels, **golden.outputs}
    arrays |= {_TOLERANCE + name: np.array([value], np.float64) for name, value in golden.tolerances.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), content.getvalue())
    return buffer.getvalue()


def read_golden(data: bytes, where: str) -> Golden:
    """The inverse of `golden_bytes`; raises `InputError` that names `where`. Nothing is unpickled."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        pixels = arrays.pop(_PIXELS)
        outputs = {name: array for name, array in arrays.items() if not name.startswith(_TOLERANCE)}
        tolerances = {name: float(arrays[_TOLERANCE + name].item()) for name in outputs}
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{where}: not a file of golden vectors: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise InputError(f"{where}: not a file of golden vectors: its pixels are {pixels.dtype} {pixels.shape}")
    return Golden(pixels, outputs, tolerances)


def verify_golden(
    folder: str | PathLike[str], *, backend: str | None = None, threads: int | None = None
) -> list[GoldenResult]:
    """Replay the golden vectors of every file of the bundle `folder` that this machine has an interpreter for.

    With `backend`, only the files that it runs. Raises `InputError` for a bundle that is damaged or
    has no golden vectors, `UsageError` and `MissingExtraError` as `open_backend`.
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
    return [
        _replay(golden, opened.folder, entry, backend, threads)
        for entry in opened.manifest.files
        if entry.format in formats and entry.path in golden.outputs
    ]


def _formats(backend: str | None) -> set[str]:
    from mbn_deploy.runtime.backends import BACKENDS, installed

    if backend is None:
        return {f for f, names in BACKENDS.items() if any(map(installed, names))} or set(BACKENDS)
    return {f for f, names in BACKENDS.items() if backend in names} or set(BACKENDS)


def _replay(golden: Golden, folder: Path, entry: ModelFile, backend: str | None, threads: int | None) -> GoldenResult:
    data = check_file(folder, entry)
    opened = open_backend(data, entry.format, name=backend, threads=threads, where=str(folder / entry.path))
    try:
        found = FileRunner(opened, entry.preprocess, entry.layout, entry.input, entry.output).raw(golden.pixels)
    finally:
        opened.close()
    wanted = golden.outputs[entry.path]
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        raise InputError(
            f"{folder}: golden vectors of {entry.path} are {wanted.dtype} {wanted.shape}: not of this file"
        )
    return GoldenResult(
        file=entry.path,
        backend=opened.name,
        kernels=KERNELS[opened.name],
        images=len(golden.pixels),
        largest=float(np.abs(wanted.astype(np.float64) - found.astype(np.float64)).max()),
        tolerance=golden.tolerances[entry.path],
        same_top1=float((wanted.argmax(1) == found.argmax(1)).mean()),
    )


# tflite-runtime 2.14 runs float models with XNNPACK and int8 ones with the reference and optimized kernels.
KERNELS: Mapping[str, str] = {"litert": "XNNPACK", "tflite": "TensorFlow Lite 2.14", "onnx": "ONNX Runtime MLAS"}
