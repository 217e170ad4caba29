"""Open a bundle or a lone model file: choose the file, check it, start the interpreter, settle how it is fed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mbn_deploy.arguments import check_path
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import FileFormat, TensorInfo
from mbn_deploy.runtime.backends import check_model, choose_backend, open_backend
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.bundle import check_file, open_bundle
from mbn_deploy.runtime.declaration import (
    Declaration,
    assumed_resize,
    check_complete,
    choose_answers,
    choose_labels,
    choose_layout,
    choose_preprocess,
    manifest_declaration,
    read_declaration,
)
from mbn_deploy.runtime.file_choice import choose_file
from mbn_deploy.runtime.formats.external_data import with_external_data
from mbn_deploy.runtime.formats.purpose import check_purpose
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER
from mbn_deploy.runtime.input_range import check_fits
from mbn_deploy.runtime.model_info import ModelInfo, OpenedModel, OpenOptions
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.threads import ThreadsFrom, choose_thread_count


@dataclass(frozen=True)
class ModelSource:
    """A model file that was chosen to run.

    Attributes:
        path: the file.
        format: its format.
        data: its bytes.
        sha256: of `data`.
        declaration: what a bundle's manifest says about it; None for a lone file, which no manifest vouches for.
        thread_records: the manifest's records of the best number of threads, unchecked.
    """

    path: Path
    format: FileFormat
    data: bytes
    sha256: str
    declaration: Declaration | None = None
    thread_records: Sequence[Any] = ()


def open_model(path: str | PathLike[str], options: OpenOptions) -> OpenedModel:
    """Open a bundle's folder, or a lone .tflite or .onnx file; raises the errors of `Classifier.open`."""
    place = check_path("path", path)
    source = _bundle_source(place, options) if place.is_dir() else _file_source(place)
    where, data = str(source.path), source.data
    name = choose_backend(source.format, options.backend)
    threads, threads_from = choose_thread_count(
        options.threads, data, name, sha256=source.sha256, manifest_records=source.thread_records
    )
    if options.isolate is None and source.declaration is None:
        from mbn_deploy.runtime.backends.trial import try_model

        try_model(data, source.format, name=name, where=where, digest=source.sha256)
    backend = open_interpreter(
        data, source.format, name=name, threads=threads, where=where, isolate=bool(options.isolate)
    )
    with close_on_error([backend]):
        declaration = source.declaration
        if declaration is None:
            declaration = read_declaration(backend, data, source.format, source.path)
        _check(declaration, backend, options, where)
        info = _model_info(source, declaration, backend, options, threads_from)
        labels = choose_labels(declaration.labels, options, info.answers, info.classes, where)
        return OpenedModel(backend, info, labels, data)


def open_interpreter(
    data: bytes, file_format: FileFormat, *, name: str, threads: int, where: str, isolate: bool
) -> Backend:
    """Open an interpreter on bytes that were checked, or that a manifest names.

    With `isolate` it is opened in a child process, which checks them all the same: the manifest comes from where the
    file comes from.
    """
    if not isolate:
        return open_backend(data, file_format, name=name, threads=threads, where=where, vouched=True)
    from mbn_deploy.runtime.backends.isolated import open_isolated

    return open_isolated(data, file_format, name=name, threads=threads, where=where)


@contextmanager
def close_on_error(backends: Sequence[Backend]) -> Iterator[None]:
    """Close the interpreters if the block raises, including those that it added to the list."""
    try:
        yield
    except BaseException:
        for backend in backends:
            backend.close()
        raise


def _bundle_source(folder: Path, options: OpenOptions) -> ModelSource:
    """Choose and check the file of a bundle; the other files are not read."""
    bundle = open_bundle(folder, check_files=False)
    entry = choose_file(bundle.manifest.files, options.precision, options.backend, str(folder))
    return ModelSource(
        path=folder / entry.path,
        format=entry.format,
        data=check_file(folder, entry),
        sha256=entry.sha256,
        declaration=manifest_declaration(bundle.manifest, entry, bundle.labels),
        thread_records=bundle.manifest.threads,
    )


def _file_source(path: Path) -> ModelSource:
    data = read_file(path)
    if data[4:8] == IDENTIFIER or path.suffix == ".tflite":
        file_format: FileFormat = "tflite"
    elif path.suffix == ".onnx":
        file_format, data = "onnx", with_external_data(data, path)
    else:
        raise InputError(
            f"{path}: not a bundle, a .tflite or an .onnx file; use `mbn-deploy export` on other models first"
        )
    check_model(data, file_format, str(path))
    check_purpose(data, file_format, str(path))
    return ModelSource(path, file_format, data, sha256(data))


def _check(declaration: Declaration, backend: Backend, options: OpenOptions, where: str) -> None:
    """Raise an error if the file is not as its manifest says, or not of the precision that was asked for."""
    for declared, actual in ((declaration.input, backend.input), (declaration.output, backend.output)):
        if (declared.shape, declared.dtype) != (actual.shape, actual.dtype):
            raise InputError(
                f"{where}: the manifest says {declared.dtype} {declared.shape}, "
                f"the file has {actual.dtype} {actual.shape}"
            )
        if actual.scale is not None and not _same_quantization(declared, actual):
            raise InputError(
                f"{where}: the manifest says scale {declared.scale} and zero point {declared.zero_point} for "
                f"{declared.name!r}, the file has {actual.scale} and {actual.zero_point}: one was changed after the "
                "export"
            )
    if options.precision not in (None, declaration.precision):
        raise UsageError(
            f"{where} is a single file of precision {declaration.precision!r}; "
            f"precision {options.precision!r} cannot be chosen"
        )


def _same_quantization(declared: TensorInfo, actual: TensorInfo) -> bool:
    """Return whether two tensors have one zero point, and one scale to the precision of float32."""
    scales = (declared.scale or 0.0, actual.scale or 0.0)
    return math.isclose(*scales, rel_tol=1e-6) and declared.zero_point == actual.zero_point


def _model_info(
    source: ModelSource,
    declaration: Declaration,
    backend: Backend,
    options: OpenOptions,
    threads_from: ThreadsFrom,
) -> ModelInfo:
    where = str(source.path)
    layout = choose_layout(declaration.input, declaration.layout, where)
    check_complete(declaration, options, where)
    answers, assumption = choose_answers(declaration, options, where)
    preprocess = choose_preprocess(declaration, options)
    if options.preprocess is not None:
        check_fits(preprocess, declaration.input, where)
    return ModelInfo(
        path=where,
        model=declaration.model,
        format=source.format,
        precision=declaration.precision,
        backend=backend.name,
        threads=backend.threads,
        input=declaration.input,
        output=declaration.output,
        layout=layout,
        answers=answers,
        preprocess=preprocess,
        threads_from=threads_from,
        assumptions=tuple(filter(None, (assumption, assumed_resize(declaration, options)))),
    )
