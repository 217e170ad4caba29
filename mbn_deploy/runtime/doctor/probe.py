"""Check whether an interpreter really runs on this machine, with a tiny model that ships with the package.

It runs in a child process: an interpreter built for another processor ends with a signal, not with an exception.
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
_SECONDS = 120  # on an emulated processor the slowest import takes ten
_TOLERANCE = 0.03  # of probabilities: int8 files have 256 levels, and kernels round differently
# The outputs of the models of `scripts/make_probes.py` for a ramp of pixels.
EXPECTED = (0.135, 0.356, 0.310, 0.200)


@dataclass(frozen=True)
class Probe:
    """The result of running one precision: the `kernels` that computed (see `Backend.kernels`), or the `error`."""

    backend: str
    precision: str
    kernels: str | None = None
    error: str | None = None

    @property
    def works(self) -> bool:
        """Whether it ran and its output is right."""
        return self.error is None


def probe(backend: str, precision: str) -> Probe:
    """Open and run the tiny model in a child process, or in this one if none can be started; never raises."""
    try:
        return Probe(**call_in_child(run_tiny_model, backend, precision, seconds=_SECONDS))
    except ChildError as error:
        if error.reason == "not started":  # sandboxes, and emulated userlands, whose programs the kernel cannot start
            return Probe(**run_tiny_model(backend, precision))
        return Probe(backend, precision, error=f"the interpreter {error}")


def run_tiny_model(backend: str, precision: str) -> dict[str, Any]:
    """Open and run the tiny model in this process; return the fields of its `Probe`."""
    return asdict(_run(backend, precision))


def _run(backend: str, precision: str) -> Probe:
    file_format: FileFormat = next(kind for kind, names in BACKENDS.items() if backend in names)
    data = (resources.files("mbn_deploy.runtime.doctor") / "probes" / f"{precision}.{file_format}").read_bytes()
    try:
        model = open_backend(data, file_format, name=backend, threads=1, where="the tiny model", vouched=True)
        pixels = np.linspace(0, 255, int(np.prod(model.input.shape))).astype(np.uint8).reshape(model.input.shape)
        values = pixels if model.input.dtype == "uint8" else (pixels.astype(np.float32) - 128) / 128
        output = to_real(model.run(values), model.output).reshape(-1)
        kernels = model.kernels
        model.close()
    except MbnError as error:
        return Probe(backend, precision, error=str(error))
    except Exception as error:  # noqa: BLE001 (an incomplete installation can raise anything when it is imported)
        return Probe(backend, precision, error=f"{type(error).__name__}: {error}")
    if not np.allclose(output, EXPECTED, atol=_TOLERANCE):
        return Probe(backend, precision, kernels, f"its output is {np.round(output, 3).tolist()}, not {list(EXPECTED)}")
    return Probe(backend, precision, kernels)
