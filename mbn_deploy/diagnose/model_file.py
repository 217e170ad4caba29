"""A model file that a diagnosis works on: its graph, how pictures become its input, and its interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.data.images import find_images, in_parallel, load_image
from mbn_deploy.diagnose.file_graph import FileGraph
from mbn_deploy.diagnose.read_graph import read_file_graph
from mbn_deploy.diagnose.tensor_runner import open_runner
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.file_report import FileReport
from mbn_deploy.export.inspect import inspect_file, read_model
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Layout, Preprocess, Resize, TensorInfo
from mbn_deploy.progress import Progress
from mbn_deploy.runtime.backends import choose_backend
from mbn_deploy.runtime.backends.trial import try_model
from mbn_deploy.runtime.tensors import PixelEncoder

_LOAD = "load images"
_CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class DiagnosedModel:
    """A model file in memory.

    `info` describes the input tensor, `layout` the order of its axes; `answers` says what the outputs mean;
    `described` is whether the file has a description by this program.
    """

    where: str
    data: bytes
    graph: FileGraph
    info: TensorInfo
    layout: Layout
    preprocess: Preprocess
    answers: Answers
    described: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        first = 1 if self.layout == "nhwc" else 2
        return self.info.shape[first], self.info.shape[first + 1]

    @property
    def channels(self) -> int:
        """The number of channels of the input."""
        return self.info.shape[3 if self.layout == "nhwc" else 1]

    def real_input(self, pixels: Pixels) -> Floats:
        """Return the real values that the input tensor gets for `pixels` (N, H, W, C), in NHWC."""
        encode = PixelEncoder(replace(self.info, shape=(1, *self.size, self.channels)), self.preprocess, "nhwc")
        source = encode(pixels)
        params = self.graph.params.get(self.graph.input)
        return source.astype(np.float32) if params is None else params.dequantize(source)

    def runner(self, names: Sequence[str]) -> Callable[[Pixels], dict[str, Floats]]:
        """Return a function from pixels (N, H, W, C) to the real values (N, ...) of the tensors `names`.

        The file runs in its interpreter, with as many images at once as its batch axis has.
        """
        interpreter = open_runner(self.data, self.graph, list(dict.fromkeys(names)))
        encode = PixelEncoder(self.info, self.preprocess, self.layout)

        def run(pixels: Pixels) -> dict[str, Floats]:
            parts = []
            for start in range(0, len(pixels), interpreter.batch):
                part = pixels[start : start + interpreter.batch]
                missing = interpreter.batch - len(part)
                full = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
                parts.append({n: v[: len(part)].copy() for n, v in interpreter.run(encode(full)).items()})
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        return run


def open_model(path: Path, resize: str | None, preprocess: str | Preprocess | None) -> DiagnosedModel:
    """Read a .tflite or .onnx file. `resize` and `preprocess` are those of `diagnose`, and so are the errors."""
    report = inspect_file(path)
    data = read_model(path)
    source = report.inputs[0] if report.inputs else None
    if source is None or len(source.shape) != 4 or any(n < 1 for n in source.shape[1:]):
        raise InputError(f"{path}: its input is not an image of a fixed size")
    try_model(data, report.format, name=choose_backend(report.format), where=str(path))
    shape = tuple(max(n, 1) for n in source.shape)
    info = TensorInfo(source.name, shape, source.dtype, source.scale, source.zero_point)
    description = report.description
    return DiagnosedModel(
        where=str(path),
        data=data,
        graph=read_file_graph(data, report.format, str(path)),
        info=info,
        layout=input_layout(shape, str(path)) if description is None else description.layout,
        preprocess=input_preprocess(report, info, resize, preprocess),
        answers=_answers(report),
        described=description is not None,
    )


def _answers(report: FileReport) -> Answers:
    """Return what the file says of its outputs; without a description probabilities are assumed."""
    shape = report.outputs[0].shape if report.outputs else ()
    outputs = shape[-1] if shape else 0
    if report.description is not None:
        return report.description.answers(outputs)
    return Answers("binary", "sigmoid") if outputs == 1 else Answers()


def input_layout(shape: tuple[int, ...], where: str) -> Layout:
    """Return the layout of an input of this shape, by the axis that has 1 or 3 channels; else raise `InputError`."""
    if shape[3] in _CHANNELS:
        return "nhwc"
    if shape[1] not in _CHANNELS:
        raise InputError(f"{where}: its input of shape {shape} is not an image with 1 or 3 channels")
    return "nchw"


def input_preprocess(
    report: FileReport, info: TensorInfo, resize: str | None, preprocess: str | Preprocess | None
) -> Preprocess:
    """Return the preprocessing by option, else by the file's description; a uint8 input takes the pixels themselves."""
    chosen = None if report.description is None else report.description.preprocess
    if isinstance(preprocess, Preprocess):
        chosen = preprocess
    elif preprocess is not None and (chosen is None or info.dtype != "uint8"):
        chosen = Preprocess.parse(preprocess)
    elif chosen is None and info.dtype == "uint8":
        chosen = Preprocess(mean=(float(info.zero_point or 0),) * 3, std=(1 / (info.scale or 1.0),) * 3)
    if chosen is None or (report.description is None and resize is None and not isinstance(preprocess, Preprocess)):
        raise UsageError(
            f"{report.path} does not say how a picture becomes its input; give --resize, and --preprocess "
            "unless the input is uint8"
        )
    return chosen if resize is None else replace(chosen, resize=cast("Resize", resize))


def load_images(
    folder: Path, models: tuple[DiagnosedModel, DiagnosedModel], count: int, seed: int, progress: Progress
) -> Pixels:
    """Load `count` images below `folder`, chosen by a hash of seed and name, as uint8 (N, H, W, C).

    Raises:
        UsageError: less than one image is asked for.
        InputError: an image cannot be read, or the two models want pictures resized in different ways.
    """
    if count < 1:
        raise UsageError(f"at least 1 image is needed, not {count}")
    first, second = models
    if _geometry(first.preprocess) != _geometry(second.preprocess):
        raise InputError(
            f"{first.where} and {second.where} expect pictures that are resized in different ways; "
            "choose one with --resize"
        )
    paths = find_images(folder)
    chosen = sorted(paths, key=lambda p: sha256(f"{seed}/{p.relative_to(folder).as_posix()}".encode()))[:count]
    pixels = []
    for image in in_parallel(lambda p: load_image(p, first.size, first.preprocess), chosen):
        pixels.append(image.pixels)
        progress(_LOAD, len(pixels), len(chosen))
    return np.stack(pixels)


def _geometry(preprocess: Preprocess) -> tuple[Any, ...]:
    p = preprocess
    return p.resize, p.crop_fraction, p.filter, p.channels, len(p.mean)
