"""From a bundle or a lone file to an opened interpreter and all that is needed to feed it.

What is given by option wins over what the file says; what neither says is an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import (
    DESCRIPTION_KEY,
    Description,
    FileFormat,
    Layout,
    ModelFile,
    Preprocess,
    Scores,
    TensorInfo,
)
from mbn_deploy.runtime.backends import BACKENDS, Backend, choose_backend, installed, open_backend
from mbn_deploy.runtime.bundle import check_file, open_bundle
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, GoogleMetadata, google_metadata
from mbn_deploy.runtime.labels import mismatch, parse_labels
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.threads import ThreadsFrom, thread_count

# Which file of a bundle runs if nobody says: the fastest and smallest first. That int8 answers well
# enough is the export's accuracy guard's business. Precisions not listed come last.
PREFERENCE = ("int8", "int8-mixed", "float16", "dynamic", "float32", "int16x8")
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Options:
    """What `Classifier.open` was told; None where nothing was said."""

    precision: str | None = None
    backend: str | None = None
    threads: int | None = None
    labels: str | PathLike[str] | Sequence[str] | None = None
    resize: str | None = None
    preprocess: str | Preprocess | None = None
    isolate: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """What runs: the file, the interpreter, and how pictures become its input.

    `precision` is "unknown" for a file that does not say it; `input` and `output` shapes have the batch axis;
    `threads_from` is why there are so many threads: told by option, tuned on this kind of machine, or default.
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
    scores: Scores
    preprocess: Preprocess
    threads_from: ThreadsFrom = "default"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        first = 2 if self.layout == "nchw" else 1
        return self.input.shape[first], self.input.shape[first + 1]

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.input.shape[1 if self.layout == "nchw" else 3]

    @property
    def classes(self) -> int:
        """How many scores there are for one picture: axes of length 1 beside them don't count."""
        return max(self.output.shape[1:], default=0)


@dataclass(frozen=True)
class OpenedModel:
    """An interpreter, what it runs, the labels, and the file's bytes, for more interpreters on the same."""

    backend: Backend
    info: ModelInfo
    labels: tuple[str, ...] | None
    data: bytes = field(repr=False)


def open_model(path: str | PathLike[str], options: Options) -> OpenedModel:
    """Open a bundle's folder, or a lone .tflite or .onnx file; errors as `Classifier.open`."""
    where = Path(path)
    return _open_bundle(where, options) if where.is_dir() else _open_file(where, options)


def _open_bundle(folder: Path, options: Options) -> OpenedModel:
    bundle = open_bundle(folder, check_files=False)  # only the file that will run
    entry = choose_file(bundle.manifest.files, options, str(folder))
    where = str(folder / entry.path)
    data = check_file(folder, entry)
    name = choose_backend(entry.format, options.backend)
    threads, reason = thread_count(options.threads, data, name, sha256=entry.sha256, stated=bundle.manifest.threads)
    backend = open_interpreter(
        data, entry.format, name=name, threads=threads, where=where, isolate=options.isolate, vouched=True
    )
    with closed_on_failure([backend]):
        for said, found in ((entry.input, backend.input), (entry.output, backend.output)):
            if (said.shape, said.dtype) != (found.shape, found.dtype):
                raise InputError(
                    f"{where}: the manifest says {said.dtype} {said.shape}, the file has {found.dtype} {found.shape}"
                )
        info = ModelInfo(
            where, bundle.manifest.model, entry.format, entry.precision, backend.name, backend.threads,
            entry.input, entry.output, _layout(entry.input, entry.layout, where), bundle.manifest.scores,
            _overridden(entry.preprocess, options), reason,
        )  # fmt: skip
        return OpenedModel(backend, info, _labels(options, bundle.labels, info), data)


@contextmanager
def closed_on_failure(backends: Sequence[Backend]) -> Iterator[None]:
    """Whatever the block raises closes them first, also those that were put into a list meanwhile."""
    try:
        yield
    except BaseException:
        for backend in backends:
            backend.close()
        raise


def open_interpreter(
    data: bytes, file_format: FileFormat, *, name: str, threads: int, where: str, isolate: bool, vouched: bool
) -> Backend:
    """In this process, or in one of its own. There a manifest counts for nothing: it has the file's origin."""
    if not isolate:
        return open_backend(data, file_format, name=name, threads=threads, where=where, vouched=vouched)
    from mbn_deploy.runtime.backends.isolated import open_isolated

    return open_isolated(data, file_format, name=name, threads=threads, where=where)


def choose_file(files: Sequence[ModelFile], options: Options, where: str) -> ModelFile:
    """The file to run: of the precision asked for, that can be run here, best by `PREFERENCE`, then .tflite first."""
    if not files:
        raise InputError(f"{where}: the bundle has no model files")
    if options.backend is not None and not any(options.backend in names for names in BACKENDS.values()):
        raise UnknownNameError("backend", options.backend, [name for names in BACKENDS.values() for name in names])
    asked = [entry for entry in files if options.precision in (None, entry.precision)]
    if not asked:
        raise UnknownNameError("precision", str(options.precision), sorted({entry.precision for entry in files}))
    formats = _formats(options.backend)
    runnable = [entry for entry in asked if entry.format in formats]
    if runnable:
        return min(runnable, key=lambda entry: (preference(entry.precision), list(BACKENDS).index(entry.format)))
    if options.backend is not None:
        has = ", ".join(sorted({f"{entry.format}/{entry.precision}" for entry in files}))
        raise UsageError(f"{where}: nothing in it for backend {options.backend!r} as asked; it has {has}")
    choose_backend(asked[0].format)  # says what to install
    raise InputError(f"{where}: no file in it can be run here")


def _formats(backend: str | None) -> list[FileFormat]:
    """Formats that can be run: by the backend asked for, or by what is installed."""
    return [
        known
        for known, names in BACKENDS.items()
        if any(installed(n) if backend is None else n == backend for n in names)
    ]


def preference(precision: str) -> int:
    """The place of a precision in `PREFERENCE`: what comes first runs if nobody says."""
    return PREFERENCE.index(precision) if precision in PREFERENCE else len(PREFERENCE)


def _open_file(path: Path, options: Options) -> OpenedModel:
    data, where = read_file(path), str(path)
    file_format = _format_of(data, path)
    name = choose_backend(file_format, options.backend)
    threads, reason = thread_count(options.threads, data, name)
    backend = open_interpreter(
        data, file_format, name=name, threads=threads, where=where, isolate=options.isolate, vouched=False
    )
    with closed_on_failure([backend]):
        own = backend.metadata.get(DESCRIPTION_KEY)
        described = None if own is None else Description.from_json(own, where)
        google = GoogleMetadata()
        if described is None and GOOGLE_KEY in backend.metadata:
            google = google_metadata(backend.metadata[GOOGLE_KEY], data, where)
        precision = "unknown" if described is None else described.precision
        if options.precision not in (None, precision):
            raise UsageError(f"{where} is one file, of precision {precision!r}; {options.precision!r} cannot be chosen")
        layout = _layout(backend.input, None if described is None else described.layout, where)
        info = ModelInfo(
            where, path.stem if described is None else described.model, file_format, precision,
            backend.name, backend.threads, backend.input, backend.output, layout,
            "softmax" if described is None else described.scores,
            _preprocess(described, google, backend.input, options, where), reason,
        )  # fmt: skip
        labels = _labels(options, google.labels if described is None else described.labels, info)
        return OpenedModel(backend, info, labels, data)


def _format_of(data: bytes, path: Path) -> FileFormat:
    if data[4:8] == IDENTIFIER or path.suffix == ".tflite":
        return "tflite"
    if path.suffix == ".onnx":
        return "onnx"
    raise InputError(f"{path}: the runtime opens bundles, .tflite and .onnx files; export other models first")


def _layout(info: TensorInfo, told: Layout | None, where: str) -> Layout:
    """Where the channels lie: as told, else where the shape has 1 or 3; last if both could be."""
    if len(info.shape) != 4:
        raise InputError(f"{where}: its input has shape {info.shape}; one of four axes is a picture's")
    layout: Layout = told or ("nhwc" if info.shape[3] in CHANNELS else "nchw")
    channels = info.shape[1 if layout == "nchw" else 3]
    if channels not in CHANNELS:
        raise InputError(f"{where}: its input of shape {info.shape} is not a picture with 1 or 3 channels")
    return layout


def _overridden(preprocess: Preprocess, options: Options) -> Preprocess:
    """A file's complete preprocessing with what was given by option in place of its own."""
    if isinstance(options.preprocess, Preprocess):
        preprocess = options.preprocess
    elif options.preprocess is not None:
        told = Preprocess.parse(options.preprocess)
        preprocess = replace(preprocess, mean=told.mean, std=told.std, channels=told.channels)
    return preprocess if options.resize is None else replace(preprocess, resize=options.resize)  # type: ignore[arg-type]


def _preprocess(
    described: Description | None, google: GoogleMetadata, info: TensorInfo, options: Options, where: str
) -> Preprocess:
    """Of a lone file. Raises `UsageError` that names what nobody says."""
    if described is not None or isinstance(options.preprocess, Preprocess):
        return _overridden(described.preprocess if described is not None else Preprocess(), options)
    numbers = _numbers(google, info, where)
    missing = []
    if numbers is None and options.preprocess is None:
        missing.append("preprocess (--preprocess raw|unit|tf|torch|caffe|MEAN/STD)")
    if options.resize is None:
        missing.append("resize (--resize squash|crop|letterbox)")
    if missing:
        raise UsageError(f"{where} does not say how a picture becomes its input; give {' and '.join(missing)}")
    return _overridden(numbers or Preprocess(), options)


def _numbers(google: GoogleMetadata, info: TensorInfo, where: str) -> Preprocess | None:
    """Mean and std that the file itself implies.

    A uint8 input is pixels: its own scale and zero point say which real number each pixel is, which is
    how Google's quantized models are made. int8 and float inputs imply nothing.
    """
    if info.dtype == "uint8":
        zero, scale = float(info.zero_point or 0), info.scale or 1.0
        return Preprocess(mean=(zero,), std=(1 / scale,))
    if google.mean is None or google.std is None:
        return None
    try:
        return Preprocess(mean=google.mean, std=google.std)
    except UsageError as error:
        raise InputError(f"{where}: {GOOGLE_KEY}: {error}") from None


def _labels(options: Options, own: tuple[str, ...] | None, info: ModelInfo) -> tuple[str, ...] | None:
    if options.labels is None:
        problem = None if own is None else mismatch(own, info.classes, info.path)
        if problem is not None:
            raise InputError(problem)
        return own
    if isinstance(options.labels, (str, PathLike)):
        given = parse_labels(read_file(Path(options.labels)), str(options.labels))
        where = str(options.labels)
    else:
        given, where = tuple(options.labels), "labels"
    problem = mismatch(given, info.classes, where)
    if problem is not None:
        raise InputError(problem)
    return given
