"""Whether an interpreter really opens and runs a model here: a tiny one that ships with the package.

In a process of its own, since an interpreter built for another processor ends with a signal and not with an error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import resources

import numpy as np

from mbn_deploy.errors import MbnError
from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.backends import BACKENDS, open_backend
from mbn_deploy.runtime.system.child import child_command
from mbn_deploy.runtime.tensors import to_real

PRECISIONS = ("int8", "float32")
_TIMEOUT = 120  # seconds; an emulated processor takes ten for the slowest import
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
    command = child_command(__name__, backend, precision)
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)  # noqa: S603 (own program)
    except subprocess.TimeoutExpired:
        return Probe(backend, precision, error=f"no answer within {_TIMEOUT} seconds")
    except OSError:  # no processes: sandboxes, and emulated userlands, whose programs the kernel cannot start
        return tried(backend, precision)
    if done.returncode < 0:
        return Probe(backend, precision, error=f"the interpreter crashed (signal {-done.returncode})")
    try:
        return Probe(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Probe(backend, precision, error=f"it ended without an answer: {last}")


def tried(backend: str, precision: str) -> Probe:
    """The same in this process."""
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


def main() -> None:
    """The child: backend and precision come as arguments, the answer is the last line printed."""
    sys.stdout.write(json.dumps(asdict(tried(*sys.argv[1:]))) + "\n")
