"""Values that describe an opened model: how it was asked for, and what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike

from mbn_deploy.answers import Answers
from mbn_deploy.arguments import check_types
from mbn_deploy.manifest import FileFormat, Layout, Preprocess, TensorInfo
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.label_files import Labels
from mbn_deploy.runtime.threads import ThreadsFrom

_OPTION_TYPES = {
    "precision": (str,),
    "backend": (str,),
    "labels": (str, PathLike, Sequence, Mapping),
    "resize": (str,),
    "preprocess": (str, Preprocess),
    "scores": (str,),
    "isolate": (bool,),
}


@dataclass(frozen=True)
class OpenOptions:
    """The options of `Classifier.open`; None where the caller leaves the choice to the file or the defaults."""

    precision: str | None = None
    backend: str | None = None
    threads: int | None = None
    labels: Labels | None = None
    resize: str | None = None
    preprocess: str | Preprocess | None = None
    scores: str | None = None
    isolate: bool | None = None

    def __post_init__(self) -> None:
        check_types(vars(self), _OPTION_TYPES)


@dataclass(frozen=True)
class ModelInfo:
    """An opened model: its file, its interpreter, and how images become its input.

    Attributes:
        path: the model file.
        model: the model's name.
        format: `tflite` or `onnx`.
        precision: such as `int8`; "unknown" if the file does not say it.
        backend: the interpreter.
        threads: threads of one inference.
        input: the input tensor; its shape includes the batch axis.
        output: the output tensor; its shape includes the batch axis.
        layout: whether the channels come last (`nhwc`) or first (`nchw`).
        answers: what the outputs mean, and what the file computes last.
        preprocess: how an image becomes the input.
        threads_from: why there are so many threads: `option`, `tuned` on this kind of machine, or `default`.
        assumptions: sentences about what was assumed, since neither the file nor an option says it.
    """

    path: str
    model: str
    format: FileFormat
    precision: str
    backend: str
    threads: int
    input: TensorInfo
    output: TensorInfo
    layout: Layout
    answers: Answers
    preprocess: Preprocess
    threads_from: ThreadsFrom = "default"
    assumptions: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        first = 2 if self.layout == "nchw" else 1
        return self.input.shape[first], self.input.shape[first + 1]

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return self.input.shape[1 if self.layout == "nchw" else 3]

    @property
    def classes(self) -> int:
        """Number of scores for one image; axes of length 1 are ignored."""
        return max(self.output.shape[1:], default=0)


@dataclass(frozen=True)
class OpenedModel:
    """An interpreter with the model's description, its labels and the file's bytes.

    A `ClassifierPool` opens its other interpreters from `data`.
    """

    backend: Backend
    info: ModelInfo
    labels: tuple[str, ...] | None
    data: bytes = field(repr=False)
