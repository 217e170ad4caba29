"""Whether an interpreter really opens and runs a model here: a tiny one that ships with the package.

In a process of its own, since an interpreter built for another processor ends with a signal and not with an error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np

from mbn_deploy.errors import MbnError
from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.backends import BACKENDS, open_backend
from mbn_deploy.runtime.system.child import ChildError, call_in_child
from mbn_deploy.runtime.tensors import to_real

PRECISIONS = ("int8", "float32")
_SECONDS = 120  # an emulated processor takes ten for the slowest import
_CLOSE = 0.03  # of probabilities: int8 files of 256 levels, by kernels that round differently
# What `scripts/make_probes.py` made answers for a ramp of pixels.
EXPECTED = (0.135, 0.356, 0.310, 0.200)


@dataclass(frozen=True)
class Probe:
    """What came of it: `kernels` that computed (see `Backend.kernels`), or the `error`."""

    backend: str
    precision: str
    kernels: str | None = None
    error: str | None = None

    @property
    def works(self) -> bool:
        """It ran, and answered right."""
        return self.error is None


def probe(backend: str, precision: str) -> Probe:
    """Open and run the tiny model; never raises."""
    try:
        return Probe(**call_in_child(run_tiny_model, backend, precision, seconds=_SECONDS))
    except ChildError as error:
        if error.reason == "not started":  # sandboxes, and emulated userlands, whose programs the kernel cannot start
            return Probe(**run_tiny_model(backend, precision))
        return Probe(backend, precision, error=f"the interpreter {error}")


def run_tiny_model(backend: str, precision: str) -> dict[str, Any]:
    """Open and run the tiny model in this process; return the fields of its `Probe`."""
    return asdict(_probed(backend, precision))


def _probed(backend: str, precision: str) -> Probe:
    file_format: FileFormat = next(kind for kind, names in BACKENDS.items() if backend in names)
    data = (resources.files("mbn_deploy.runtime.doctor") / "probes" / f"{precision}.{file_format}").read_bytes()
    try:
        opened = open_backend(data, file_format, name=backend, threads=1, where="the tiny model", vouched=True)
        pixels = np.linspace(0, 255, int(np.prod(opened.input.shape))).astype(np.uint8).reshape(opened.input.shape)
        values = pixels if opened.input.dtype == "uint8" else (pixels.astype(np.float32) - 128) / 128
        found = to_real(opened.run(values), opened.output).reshape(-1)
        kernels = opened.kernels
        opened.close()
    except MbnError as error:
        return Probe(backend, precision, error=str(error))
    except Exception as error:  # noqa: BLE001 (half an installation can raise anything on being imported)
        return Probe(backend, precision, error=f"{type(error).__name__}: {error}")
    if not np.allclose(found, EXPECTED, atol=_CLOSE):
        return Probe(backend, precision, kernels, f"it answers {np.round(found, 3).tolist()}, not {list(EXPECTED)}")
    return Probe(backend, precision, kernels)
