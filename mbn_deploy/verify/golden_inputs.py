"""Chooses the inputs of golden vectors, and records how their outputs were computed."""

from __future__ import annotations

import platform

import numpy as np

from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.manifest import ModelFile
from mbn_deploy.runtime.backends.modules import backend_version
from mbn_deploy.runtime.tensors import PixelEncoder
from mbn_deploy.verify.golden import GoldenProvenance
from mbn_deploy.verify.interpreter_process import RunResult
from mbn_deploy.verify.operation_record import OperationSamples

COUNT = 4  # calibration images; one image of noise is added, which reaches values that photographs do not
INNER = (0, -1)  # the images that operations are compared on: the first one, and the noise


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


def golden_provenance(
    precision: str, run: RunResult, samples: OperationSamples, *, allowed: float, relative: float
) -> GoldenProvenance:
    """Say how the golden outputs of a file were computed, with samples of its operations.

    Dynamic-range kernels quantize activations while they run, each family in its own way. Two of them may be twice as
    far apart as this one is from the reference kernels.

    Args:
        precision: the file's precision.
        run: its outputs for the golden inputs, and the interpreter that computed them.
        samples: those of its operations.
        allowed: how far outputs of the same kernels may differ.
        relative: how far floats inside may differ, as a fraction of the largest value of their tensor.
    """
    cross_kernel_tolerance = allowed
    if precision == "dynamic" and samples.outputs is not None:
        apart = float(np.abs(run.outputs[list(INNER)] - samples.outputs).max())
        relative, cross_kernel_tolerance = max(relative, 1 / 256), max(allowed, 2 * apart)
    return GoldenProvenance(
        backend=f"{run.backend} {version_of(run.backend)}",
        kernels=run.kernels,
        cross_kernel_tolerance=cross_kernel_tolerance,
        relative_tolerance=relative,
        samples=samples.values,
        operations=samples.count,
        machine=platform.machine() if precision == "dynamic" else "",
    )


def operation_inputs(entry: ModelFile, pixels: Pixels) -> list[Array]:
    """Return an input tensor for each image of `INNER`, repeated to fill the file's batch."""
    encode = PixelEncoder(entry.input, entry.preprocess, entry.layout)
    return [encode(np.repeat(pixels[[image]], entry.input.shape[0], 0)) for image in INNER]


def version_of(backend: str) -> str:
    """Return the installed version of an interpreter, in words."""
    return backend_version(backend) or "of unknown version"
