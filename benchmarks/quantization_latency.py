"""Milliseconds of one inference on one thread, files interleaved; a program of its own that `quantization.py` starts.

    python benchmarks/quantization_latency.py [--without-amx] FILE...

prints JSON, {file: median}. Interleaved, a few runs of each file in turn, since the speed of a machine changes
while it is measured; the first run of each turn finds the caches full of another file and does not count.
With one thread the work is done by the thread that asks for it, so its processor time is the latency on a
machine that does nothing else, and other programs on this one do not count.

`--without-amx`: x86-64 servers have tile registers (AMX), and XNNPACK takes them for every int8 matrix
product where it finds them. They pay on many channels only: on a MobileNet's few, most of a tile is empty,
and int8 is slower than it is on the same machine without them. Phones and ARM boards have no such thing. A
program must ask the kernel before it may use tiles; here a seccomp filter has the kernel say no, as it
does on a machine without them, and the libraries take their other kernels. The filter lasts as long as
the process.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.backend import Backend

TURNS, RUNS, WARM_UP = 25, 11, 2

# Linux, x86-64: <linux/seccomp.h>, <linux/filter.h>, <asm/prctl.h>
_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _SECCOMP_FILTER = 38, 22, 2
_ARCH_PRCTL, _REQUEST_PERMISSION = 158, 0x1023  # arch_prctl(ARCH_REQ_XCOMP_PERM, ...)
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
_ALLOW, _INVALID = 0x7FFF0000, 0x00050000 | 22  # the answer EINVAL


def refuse_tiles() -> None:
    """From now on the kernel answers this process that there is no AMX. Raises `OSError` where that fails."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return
    program = [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 3, _ARCH_PRCTL),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, _REQUEST_PERMISSION),
        (_RETURN, 0, 0, _INVALID),
        (_RETURN, 0, 0, _ALLOW),
    ]

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    libc = ctypes.CDLL(None, use_errno=True)
    given = Program(len(program), ctypes.cast(code, ctypes.c_void_p))
    libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(given), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def latencies(paths: list[Path]) -> dict[str, float]:
    """Median milliseconds by file name."""
    formats: dict[str, FileFormat] = {".tflite": "tflite", ".onnx": "onnx"}
    backends = {path.name: open_backend(path, formats[path.suffix], threads=1) for path in paths}
    images = {name: np.zeros(b.input.shape, b.input.dtype) for name, b in backends.items()}
    found: dict[str, list[float]] = {name: [] for name in backends}
    for turn in range(WARM_UP + TURNS):
        for name, backend in backends.items():
            times = [_milliseconds(backend, images[name]) for _ in range(RUNS)]
            found[name] += times[1:] if turn >= WARM_UP else []
    return {name: statistics.median(times) for name, times in found.items()}


def _milliseconds(backend: Backend, image: npt.NDArray[Any]) -> float:
    start = time.thread_time()
    backend.run(image)
    return 1e3 * (time.thread_time() - start)


def main() -> None:
    """Measure the files and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--without-amx", action="store_true")
    arguments = parser.parse_args()
    if arguments.without_amx:
        refuse_tiles()
    print(json.dumps(latencies(arguments.files)))


if __name__ == "__main__":
    main()
