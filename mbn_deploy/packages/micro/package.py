"""Write a package for microcontrollers from a bundle's int8 model: a C array, the operators and the memory it needs.

DIR/                        and the same as DIR.tar.gz beside it
  NAME.h  NAME.c            the .tflite file as an array; sizes, quantization and arena as macros
  NAME_labels.h             the classes' names
  NAME_resolver.h           a MicroMutableOpResolver with exactly the model's operators (C++)
  NAME_golden.h             one picture and the answer of TensorFlow Lite Micro
  README.md  package.json
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.file_report import TensorReport
from mbn_deploy.export.tflite.edit import TFLiteEdit
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import ModelFile, Preprocess
from mbn_deploy.packages.contents import answer_names, listed_files
from mbn_deploy.packages.micro.c_source import identifier, identifier_of
from mbn_deploy.packages.micro.code import PIXEL_OFFSET, c_files, check_operators
from mbn_deploy.packages.micro.trial import MicroTrial, try_micro
from mbn_deploy.packages.package import check_package_target, write_package
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.tensors import PixelEncoder
from mbn_deploy.verify.golden import read_golden


@dataclass(frozen=True)
class MicroPackage:
    """A package that was written.

    Attributes:
        folder: the package.
        archive: the same as a .tar.gz file.
        name: the C identifier that files, array and macros begin with.
        source: the bundle's file.
        model_bytes: the size of the array, in flash.
        arena: the least memory with which TensorFlow Lite Micro ran the model, in bytes of RAM.
        operators: the model's kinds of operators.
        differs: how many quantization levels its outputs differ at most from those of this machine's interpreter.
        same_top1: on what share of the golden pictures both give the same top-1 class.
        images: the number of golden pictures.
        files: the paths in the package.
    """

    folder: Path
    archive: Path
    name: str
    source: ModelFile
    model_bytes: int
    arena: int
    operators: tuple[str, ...]
    differs: int
    same_top1: float
    images: int
    files: tuple[str, ...] = field(repr=False, default=())


def write_c_array_package(
    bundle: str | Path, folder: str | Path, *, name: str | None = None, overwrite: bool = False
) -> MicroPackage:
    """Write a package with the int8 .tflite file of a bundle to `folder`, and its archive beside it.

    Conversions between uint8 and int8 at the model's ends are removed: its input is pixel - 128.

    Args:
        bundle: a folder that `export` made.
        folder: the package's folder; it appears complete or not at all.
        name: the C identifier for files, array and macros; by default made from the model's name.
        overwrite: replace a package that is there.

    Raises:
        InputError: a damaged bundle, or a file that TensorFlow Lite Micro cannot run.
        UsageError: no int8 .tflite file of batch 1 in the bundle, something in the way at `folder`, not a C name.
        MissingExtraError: the `micro` or the `export` extra is not installed here.
    """
    target = Path(folder)
    check_package_target(target, overwrite=overwrite)
    source = Bundle.read(bundle)
    entry = _int8_file(source)
    name = identifier_of(source.manifest.model) if name is None else identifier(name)
    where = str(source.path(entry))
    data = without_conversions(check_file(source.folder, entry), where)
    operators, output = _operators_and_output(data, where)
    pixels = _golden_pixels(source)
    inputs = _encoded(data, entry.preprocess, pixels)
    if not np.array_equal(inputs, pixels.astype(np.int16) - PIXEL_OFFSET):
        raise InputError(f"{where}: its input is not pixels; was it exported by this program?")
    trial = try_micro(data, inputs, where)
    levels_off, same_top1 = _compare_with_interpreter(data, inputs, trial)
    files = c_files(
        name=name,
        manifest=source.manifest,
        labels=answer_names(source),
        entry=entry,
        data=data,
        operators=operators,
        output=output,
        inputs=inputs,
        trial=trial,
    )
    description = {
        "kind": "mbn-deploy c-array",
        "name": name,
        "model": source.manifest.model,
        "source": entry.path,
        "source_sha256": entry.sha256,
        "model_sha256": sha256(data),
        "arena_bytes": trial.arena,
        "operators": list(operators),
        "levels_off": levels_off,
        "same_top1": same_top1,
        "images": len(pixels),
    }
    archive = write_package(target, files, description, overwrite=overwrite)
    return MicroPackage(
        folder=target,
        archive=archive,
        name=name,
        source=entry,
        model_bytes=len(data),
        arena=trial.arena,
        operators=operators,
        differs=levels_off,
        same_top1=same_top1,
        images=len(pixels),
        files=tuple(sorted(files)),
    )


def without_conversions(data: bytes, where: str) -> bytes:
    """Remove the metadata of a .tflite file, and the QUANTIZE at either end, so that input and output are int8."""
    edit = TFLiteEdit(data, where)
    edit.trim("QUANTIZE")
    return edit.finish({})


def _int8_file(bundle: Bundle) -> ModelFile:
    entry = next((e for e in bundle.files if (e.format, e.precision) == ("tflite", "int8")), None)
    if entry is None:
        raise UsageError(f"{bundle.folder}: a microcontroller needs tflite/int8; the bundle has {listed_files(bundle)}")
    if entry.input.dtype == "float32":
        raise UsageError(f"{bundle.folder}: its int8 file has float32 input; export with --input int8 or uint8")
    if entry.input.shape[0] != 1:
        raise UsageError(f"{bundle.folder}: takes {entry.input.shape[0]} pictures at once; export with --batch 1")
    return entry


def _operators_and_output(data: bytes, where: str) -> tuple[tuple[str, ...], TensorReport]:
    """Return the model's kinds of operators and its output; raises `InputError` for what cannot be written as C."""
    report = report_tflite(data, where)
    operators = tuple(sorted({op.kind for op in report.ops}))
    check_operators(operators, where)
    output = report.outputs[0]
    if output.scale is None:
        raise InputError(f"{where}: its output is not quantized with one scale")
    return operators, output


def _golden_pixels(bundle: Bundle) -> Array:
    name = bundle.manifest.golden
    if name is None:
        raise InputError(f"{bundle.folder}: the bundle has no golden vectors")
    return read_golden(read_file(bundle.folder / name), str(bundle.folder / name)).pixels


def _encoded(data: bytes, preprocess: Preprocess, pixels: Array) -> Array:
    """Return pixels (N, H, W, C) as the model's int8 input."""
    backend = open_backend(data, "tflite", threads=1)
    try:
        return PixelEncoder(backend.input, preprocess, "nhwc")(pixels)
    finally:
        backend.close()


def _compare_with_interpreter(data: bytes, inputs: Array, trial: MicroTrial) -> tuple[int, float]:
    """Return the largest difference in levels and the share of equal top-1 classes, against this machine's LiteRT."""
    backend = open_backend(data, "tflite", threads=1)
    try:
        outputs = np.stack([backend.run(image[None]).reshape(-1) for image in inputs])
    finally:
        backend.close()
    levels_off = np.abs(outputs.astype(np.int32) - trial.outputs.astype(np.int32)).max()
    return int(levels_off), float((outputs.argmax(1) == trial.outputs.argmax(1)).mean())
