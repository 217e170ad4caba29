"""Open a bundle or a lone model file: choose the file, check it, start the interpreter, settle how it is fed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import FileFormat, ModelFile
from mbn_deploy.runtime.backends import Backend, choose_backend, open_backend
from mbn_deploy.runtime.bundle import check_file, open_bundle
from mbn_deploy.runtime.declaration import (
    Declaration,
    choose_labels,
    choose_layout,
    choose_preprocess,
    manifest_declaration,
    read_declaration,
)
from mbn_deploy.runtime.file_choice import choose_file
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER
from mbn_deploy.runtime.model_info import ModelInfo, OpenedModel, OpenOptions
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.threads import ThreadsFrom, choose_thread_count


def open_model(path: str | PathLike[str], options: OpenOptions) -> OpenedModel:
    """Open a bundle's folder, or a lone .tflite or .onnx file; raises the errors of `Classifier.open`."""
    where = Path(path)
    return _open_bundle(where, options) if where.is_dir() else _open_file(where, options)


def open_interpreter(
    data: bytes, file_format: FileFormat, *, name: str, threads: int, where: str, isolate: bool, vouched: bool
) -> Backend:
    """Open a model file's interpreter in this process, or with `isolate` in a child process.

    `vouched` leaves out the check of bytes that a manifest names or that were opened before. A child process checks
    them all the same: the manifest comes from where the file comes from.
    """
    if not isolate:
        return open_backend(data, file_format, name=name, threads=threads, where=where, vouched=vouched)
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


def _open_bundle(folder: Path, options: OpenOptions) -> OpenedModel:
    bundle = open_bundle(folder, check_files=False)  # only the file that will run is checked
    manifest = bundle.manifest
    entry = choose_file(manifest.files, options.precision, options.backend, str(folder))
    where = str(folder / entry.path)
    data = check_file(folder, entry)
    name = choose_backend(entry.format, options.backend)
    threads, threads_from = choose_thread_count(
        options.threads, data, name, sha256=entry.sha256, manifest_records=manifest.threads
    )
    backend = open_interpreter(
        data, entry.format, name=name, threads=threads, where=where, isolate=options.isolate, vouched=True
    )
    with close_on_error([backend]):
        _check_tensors(entry, backend, where)
        declaration = manifest_declaration(manifest, entry, bundle.labels)
        return _opened_model(
            backend,
            declaration,
            options,
            file_format=entry.format,
            data=data,
            threads_from=threads_from,
            where=where,
        )


def _check_tensors(entry: ModelFile, backend: Backend, where: str) -> None:
    """Raise `InputError` if the file's input or output is not as the manifest says."""
    for declared, actual in ((entry.input, backend.input), (entry.output, backend.output)):
        if (declared.shape, declared.dtype) != (actual.shape, actual.dtype):
            raise InputError(
                f"{where}: the manifest says {declared.dtype} {declared.shape}, "
                f"the file has {actual.dtype} {actual.shape}"
            )


def _open_file(path: Path, options: OpenOptions) -> OpenedModel:
    data, where = read_file(path), str(path)
    file_format = _file_format(data, path)
    name = choose_backend(file_format, options.backend)
    threads, threads_from = choose_thread_count(options.threads, data, name)
    backend = open_interpreter(
        data, file_format, name=name, threads=threads, where=where, isolate=options.isolate, vouched=False
    )
    with close_on_error([backend]):
        declaration = read_declaration(backend, data, path)
        if options.precision not in (None, declaration.precision):
            raise UsageError(
                f"{where} is a single file of precision {declaration.precision!r}; "
                f"precision {options.precision!r} cannot be chosen"
            )
        return _opened_model(
            backend,
            declaration,
            options,
            file_format=file_format,
            data=data,
            threads_from=threads_from,
            where=where,
        )


def _file_format(data: bytes, path: Path) -> FileFormat:
    if data[4:8] == IDENTIFIER or path.suffix == ".tflite":
        return "tflite"
    if path.suffix == ".onnx":
        return "onnx"
    raise InputError(f"{path}: not a bundle, a .tflite or an .onnx file; use `mbn-deploy export` on other models first")


def _opened_model(
    backend: Backend,
    declaration: Declaration,
    options: OpenOptions,
    *,
    file_format: FileFormat,
    data: bytes,
    threads_from: ThreadsFrom,
    where: str,
) -> OpenedModel:
    """Settle how the model is fed, and which labels it has; raises the errors of both."""
    outputs = max(declaration.output.shape[1:], default=0)
    info = ModelInfo(
        path=where,
        model=declaration.model,
        format=file_format,
        precision=declaration.precision,
        backend=backend.name,
        threads=backend.threads,
        input=declaration.input,
        output=declaration.output,
        layout=choose_layout(declaration.input, declaration.layout, where),
        scores=declaration.scores,
        preprocess=choose_preprocess(declaration, options, where),
        threads_from=threads_from,
        meaning=Answers.for_outputs(declaration.scores, outputs, declaration.meaning).meaning,
    )
    return OpenedModel(backend, info, choose_labels(declaration.labels, options, info.classes, where), data)
