"""Golden vectors: some inputs, and the outputs that each file must give for them on any machine.

On a device they answer whether this interpreter, on this processor, computes what the workstation computed (see
`replay`). Inputs are stored as pixels, so that no image decoder takes part. If the answer is no, samples of every
operation's result show where the difference begins (see `operation_check`).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from mbn_deploy.archives import OWNER_ONLY, zip_bytes
from mbn_deploy.arrays import Array, Pixels
from mbn_deploy.errors import InputError
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.hashing import sha256
from mbn_deploy.runtime.bundle import OpenedBundle, open_bundle
from mbn_deploy.runtime.system.files import read_file

LARGEST_EXPANSION = 2**26  # bytes that an archive may unpack to beyond its own size
# Names of arrays. A model file's outputs are stored under its own name, which never contains a colon.
_PIXELS, _TOLERANCE, _MADE, _LIMITS, _SAMPLES = "pixels", "tolerance:", "made:", "limits:", "operations:"
_COUNT, _MACHINE, _RESCALED, _RESCALING = "recorded:", "machine:", "rescaled:", "rescaling:"


@dataclass(frozen=True, eq=False)
class GoldenProvenance:
    """The origin of a file's golden outputs, and how far other kernels may differ from them.

    Attributes:
        backend: the interpreter and its version.
        kernels: see `Backend.kernels`.
        cross_kernel_tolerance: how far outputs of other kernels may differ, in the output's own unit.
        relative_tolerance: how far floats inside may differ, as a fraction of the largest value of their tensor.
        samples: values of every operation's result, see `operation_check.record`.
        operations: how many operations the samples are of, the first ones; None for all.
        machine: the processor's architecture, for dynamic-range files, whose reference kernels round otherwise on
            others; "" for other files.
    """

    backend: str
    kernels: str
    cross_kernel_tolerance: float
    relative_tolerance: float
    samples: Array
    operations: int | None = None
    machine: str = ""


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


def golden_bytes(golden: Golden) -> bytes:
    """Return the .npz file: plain arrays, uncompressed, with a fixed time, so that equal vectors give equal bytes."""
    arrays: dict[str, Array] = {_PIXELS: golden.pixels, **golden.outputs}
    arrays |= {_TOLERANCE + name: np.array([value], np.float64) for name, value in golden.tolerances.items()}
    for name, origin in golden.provenance.items():
        arrays |= {_MADE + name: np.array([origin.backend, origin.kernels]), _SAMPLES + name: origin.samples}
        arrays[_LIMITS + name] = np.array([origin.cross_kernel_tolerance, origin.relative_tolerance], np.float64)
        if origin.operations is not None:
            arrays[_COUNT + name] = np.array([origin.operations], np.int32)
        if origin.machine:
            arrays[_MACHINE + name] = np.array([origin.machine])
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
        operations=int(arrays[_COUNT + name].item()) if _COUNT + name in arrays else None,
        machine=str(arrays[_MACHINE + name].item()) if _MACHINE + name in arrays else "",
    )


def _rescalings(arrays: dict[str, Array]) -> dict[str, dict[str, Rescaling]]:
    rescalings: dict[str, dict[str, Rescaling]] = {}
    for name, count in arrays.items():
        if name.startswith(_RESCALED):
            precision = name.removeprefix(_RESCALED)
            start = f"{_RESCALING}{precision}:"
            tensors = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
            if len(tensors) != int(count.item()):
                raise ValueError(f"{len(tensors)} of {int(count.item())} rescaled tensors of {precision}")
            rescalings[precision] = {tensor: Rescaling.from_array(array) for tensor, array in tensors.items()}
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
