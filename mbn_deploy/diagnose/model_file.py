"""A model file for a diagnosis: its network, how pictures become its input, and its interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.data.images import find_images, in_parallel, load_image
from mbn_deploy.diagnose.file_graph import StoredNetwork
from mbn_deploy.diagnose.read_graph import read_network
from mbn_deploy.diagnose.tensor_runner import open_runner
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.file_report import FileReport
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Layout, Preprocess, Resize, Scores, TensorInfo
from mbn_deploy.progress import Progress
from mbn_deploy.runtime.ranking import logits_to_probabilities
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.tensors import PixelEncoder

_LOAD = "load images"
_CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class Opened:
    """A file that was read. `scores` says what its output is; `layout` where the channels of its input lie."""

    where: str
    data: bytes
    network: StoredNetwork
    info: TensorInfo
    layout: Layout
    preprocess: Preprocess
    scores: Scores

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        first = 1 if self.layout == "nhwc" else 2
        return self.info.shape[first], self.info.shape[first + 1]

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.info.shape[3 if self.layout == "nhwc" else 1]

    def real_input(self, pixels: Pixels) -> Floats:
        """What the input tensor stands for, NHWC."""
        made = PixelEncoder(replace(self.info, shape=(1, *self.size, self.channels)), self.preprocess, "nhwc")(pixels)
        levels = self.network.levels.get(self.network.input)
        return made.astype(np.float32) if levels is None else levels.real(made)

    def runner(self, names: Sequence[str]) -> Callable[[Pixels], dict[str, Floats]]:
        """Pixels (N, H, W, C) to the real values (N, ...) of tensors, in the interpreter."""
        opened = open_runner(self.data, self.network, list(dict.fromkeys(names)))
        encode = PixelEncoder(self.info, self.preprocess, self.layout)

        def run(pixels: Pixels) -> dict[str, Floats]:
            parts = []
            for start in range(0, len(pixels), opened.batch):
                part = pixels[start : start + opened.batch]
                missing = opened.batch - len(part)
                full = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
                parts.append({n: v[: len(part)].copy() for n, v in opened.run(encode(full)).items()})
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        return run

    def probabilities(self, values: Floats) -> Floats:
        """Rows of scores as probabilities."""
        return logits_to_probabilities(values) if self.scores == "logits" else values

    def named(self, values: Floats) -> npt.NDArray[np.int64]:
        """The class of each row of scores, (N, classes); of a lone score, whether it says yes."""
        if values.shape[1] == 1:
            return (self.probabilities(values)[:, 0] > 0.5).astype(np.int64)
        classes: npt.NDArray[np.int64] = values.argmax(1)
        return classes


def open_file(path: Path, resize: str | None, preprocess: str | Preprocess | None) -> Opened:
    """Read a .tflite or .onnx file; errors as `diagnose`."""
    report = inspect_file(path)
    data = read_file(path)
    source = report.inputs[0] if report.inputs else None
    if source is None or len(source.shape) != 4 or any(n < 1 for n in source.shape[1:]):
        raise InputError(f"{path}: its input is no picture of one size")
    shape = tuple(max(n, 1) for n in source.shape)
    info = TensorInfo(source.name, shape, source.dtype, source.scale, source.zero_point)
    described = report.description
    return Opened(
        where=str(path),
        data=data,
        network=read_network(data, report.format, str(path)),
        info=info,
        layout=_layout(shape, str(path)) if described is None else described.layout,
        preprocess=_preprocess(report, info, resize, preprocess),
        scores="softmax" if described is None else described.scores,
    )


def _layout(shape: tuple[int, ...], where: str) -> Layout:
    if shape[3] in _CHANNELS:
        return "nhwc"
    if shape[1] not in _CHANNELS:
        raise InputError(f"{where}: its input of shape {shape} is not a picture with 1 or 3 channels")
    return "nchw"


def _preprocess(
    report: FileReport, info: TensorInfo, resize: str | None, preprocess: str | Preprocess | None
) -> Preprocess:
    """As described in the file; options win. A uint8 input of another maker is pixels."""
    made = None if report.description is None else report.description.preprocess
    if isinstance(preprocess, Preprocess):
        made = preprocess
    elif preprocess is not None and (made is None or info.dtype != "uint8"):
        made = Preprocess.parse(preprocess)
    elif made is None and info.dtype == "uint8":
        made = Preprocess(mean=(float(info.zero_point or 0),) * 3, std=(1 / (info.scale or 1.0),) * 3)
    if made is None or (report.description is None and resize is None and not isinstance(preprocess, Preprocess)):
        raise UsageError(
            f"{report.path} does not say how a picture becomes its input; give --resize, and --preprocess "
            "unless the input is uint8"
        )
    return made if resize is None else replace(made, resize=cast("Resize", resize))


def load_images(folder: Path, files: tuple[Opened, Opened], count: int, seed: int, progress: Progress) -> Pixels:
    """uint8 (N, H, W, C) of `count` images, chosen by a hash of seed and name; both files must see the same ones."""
    if count < 1:
        raise UsageError(f"at least 1 image is needed, not {count}")
    first, second = files
    geometry = [_geometry(opened.preprocess) for opened in files]
    if geometry[0] != geometry[1]:
        raise InputError(
            f"{first.where} and {second.where} want pictures resized in different ways; say which: --resize"
        )
    paths = find_images(folder)
    chosen = sorted(paths, key=lambda p: sha256(f"{seed}/{p.relative_to(folder).as_posix()}".encode()))[:count]
    found = []
    for image in in_parallel(lambda p: load_image(p, first.size, first.preprocess), chosen):
        found.append(image.pixels)
        progress(_LOAD, len(found), len(chosen))
    return np.stack(found)


def _geometry(preprocess: Preprocess) -> tuple[Any, ...]:
    p = preprocess
    return p.resize, p.crop_fraction, p.filter, p.channels, len(p.mean)
