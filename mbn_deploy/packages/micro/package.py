"""The int8 model for microcontrollers: a C array, the operators it needs, and the memory it needs.

DIR/                        and the same as DIR.tar.gz beside it
  NAME.h  NAME.c            the .tflite file as an array; sizes, quantization and arena as macros
  NAME_labels.h             the classes' names
  NAME_resolver.h           a MicroMutableOpResolver with the operators of the model, no more (C++)
  NAME_golden.h             one picture and what TensorFlow Lite Micro answered
  README.md  package.json
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.file_report import FileReport
from mbn_deploy.export.tflite.edit import TFLiteEdit
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import ModelFile, Preprocess
from mbn_deploy.packages.c_source import comment, identifier, identifier_of, numbers, string
from mbn_deploy.packages.micro.trial import MicroTrial, try_micro
from mbn_deploy.packages.package import check_package_target, write_package
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.tensors import PixelEncoder
from mbn_deploy.verify.golden import read_golden
from mbn_deploy.version import __version__

# Registration functions of MicroMutableOpResolver (tflite-micro, micro_mutable_op_resolver.h).
RESOLVERS: dict[str, str] = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "FULLY_CONNECTED": "AddFullyConnected",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "QUANTIZE": "AddQuantize",
    "REDUCE_MAX": "AddReduceMax",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SOFTMAX": "AddSoftmax",
}
PIXEL_OFFSET = 128  # int8 inputs of this project's files are pixels that are this much less
_TEMPLATES = (".h", ".c", "_labels.h", "_resolver.h", "_golden.h", "README.md")


@dataclass(frozen=True)
class MicroPackage:
    """What was made. `arena` is in bytes; the interpreter on this machine `differs` by so many levels at most."""

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


def package_c_array(
    bundle: str | Path, folder: str | Path, *, name: str | None = None, overwrite: bool = False
) -> MicroPackage:
    """Make the package `folder`, and its archive beside it, from the int8 .tflite file of a bundle.

    Conversions between uint8 and int8 at the ends are taken away: the picture goes in as pixel - 128.

    Args:
        bundle: a folder that `export` made.
        folder: where to; appears whole or not at all.
        name: what files, array and macros are called; by default the model's name, made a C identifier.
        overwrite: replace a package that stands there.

    Raises:
        InputError: a damaged bundle, or a file that TensorFlow Lite Micro cannot run.
        UsageError: no int8 .tflite file of batch 1 in the bundle, something in the way at `folder`, no C name.
        MissingExtraError: the `micro` or the `export` extra is not installed here.
    """
    target = Path(folder)
    check_package_target(target, overwrite=overwrite)
    opened = Bundle.read(bundle)
    entry = _int8_file(opened)
    called = identifier_of(opened.manifest.model) if name is None else identifier(name)
    where = str(opened.path(entry))
    data = lean(check_file(opened.folder, entry), where)
    pixels = _golden_pixels(opened)
    inputs = _encoded(data, entry.preprocess, pixels)
    if not np.array_equal(inputs, pixels.astype(np.int16) - PIXEL_OFFSET):
        raise InputError(f"{where}: its input is not pixels; was it exported by this program?")
    micro = try_micro(data, inputs, where)
    differs, same = _compared(data, inputs, micro)
    plan = _Plan(opened, called, entry, data, inputs, micro, report_tflite(data, where))
    files = plan.files()
    facts = {
        "kind": "mbn-deploy c-array", "name": called, "model": opened.manifest.model, "source": entry.path,
        "source_sha256": entry.sha256, "model_sha256": sha256(data), "arena_bytes": micro.arena,
        "operators": list(plan.operators), "levels_off": differs, "same_top1": same, "images": len(pixels),
    }  # fmt: skip
    archive = write_package(target, files, facts, overwrite=overwrite)
    return MicroPackage(
        target, archive, called, entry, len(data), micro.arena, plan.operators, differs, same, len(pixels),
        tuple(sorted(files)),
    )  # fmt: skip


def lean(data: bytes, where: str) -> bytes:
    """The file without metadata, and without a QUANTIZE at either end: int8 goes in and comes out."""
    edit = TFLiteEdit(data, where)
    edit.trim("QUANTIZE")
    return edit.finish({})


def _int8_file(bundle: Bundle) -> ModelFile:
    found = [entry for entry in bundle.files if (entry.format, entry.precision) == ("tflite", "int8")]
    if not found:
        has = ", ".join(f"{entry.format}/{entry.precision}" for entry in bundle.files)
        raise UsageError(f"{bundle.folder}: a microcontroller needs tflite/int8, the bundle has {has}")
    if found[0].input.dtype == "float32":
        raise UsageError(f"{bundle.folder}: export with --input int8 or uint8; a float32 input is not integer")
    if found[0].input.shape[0] != 1:
        count = found[0].input.shape[0]
        raise UsageError(f"{bundle.folder}: takes {count} pictures at once; export with --batch 1 for microcontrollers")
    return found[0]


def _golden_pixels(bundle: Bundle) -> Array:
    name = bundle.manifest.golden
    if name is None:
        raise InputError(f"{bundle.folder}: the bundle has no golden vectors")
    return read_golden(read_file(bundle.folder / name), str(bundle.folder / name)).pixels


def _encoded(data: bytes, preprocess: Preprocess, pixels: Array) -> Array:
    """Pixels (N, H, W, C) as the model's int8 input."""
    backend = open_backend(data, "tflite", threads=1)
    try:
        return PixelEncoder(backend.input, preprocess, "nhwc")(pixels)
    finally:
        backend.close()


def _compared(data: bytes, inputs: Array, micro: MicroTrial) -> tuple[int, float]:
    """(levels, share of equal top-1) between this machine's interpreter and TensorFlow Lite Micro."""
    backend = open_backend(data, "tflite", threads=1)
    try:
        here = np.stack([backend.run(image[None]).reshape(-1) for image in inputs])
    finally:
        backend.close()
    off = np.abs(here.astype(np.int32) - micro.outputs.astype(np.int32)).max()
    return int(off), float((here.argmax(1) == micro.outputs.argmax(1)).mean())


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the files are made of. `inputs` are the golden pictures as the model takes them."""

    bundle: Bundle
    name: str
    entry: ModelFile
    data: bytes
    inputs: Array
    micro: MicroTrial
    report: FileReport

    @property
    def operators(self) -> tuple[str, ...]:
        """The kinds of operators in the model; raises `InputError` for one that has no registration here."""
        kinds = tuple(sorted({op.kind for op in self.report.ops}))
        unknown = [kind for kind in kinds if kind not in RESOLVERS]
        if unknown:
            raise InputError(f"{self.entry.path}: no registration in TensorFlow Lite Micro is known for {unknown}")
        return kinds

    def files(self) -> dict[str, bytes]:
        values = self._values()
        named = {suffix: suffix if suffix == "README.md" else f"{self.name}{suffix}" for suffix in _TEMPLATES}
        return {path: Template(_template(suffix)).substitute(values).encode() for suffix, path in named.items()}

    def _values(self) -> dict[str, str]:
        manifest, labels = self.bundle.manifest, self.bundle.labels
        _, height, width, channels = self.inputs.shape
        resolved = [f"  TF_LITE_ENSURE_STATUS(resolver.{RESOLVERS[kind]}());" for kind in self.operators]
        names = labels or tuple(map(str, range(manifest.classes)))
        return {
            "version": __version__,
            "name": self.name,
            "macro": self.name.upper(),
            "title": comment([f"{manifest.model}, from {self.entry.path}"]),
            "source_sha256": self.entry.sha256,
            "sha256": sha256(self.data),
            "bytes": str(len(self.data)),
            "arena": str(self.micro.arena),
            "height": str(height),
            "width": str(width),
            "channels": str(channels),
            "classes": str(manifest.classes),
            "input_offset": str(PIXEL_OFFSET),
            "output_scale": f"{_scale(self.report.ops[-1].outputs[0].scale):.9g}",
            "output_zero_point": str(self.report.ops[-1].outputs[0].zero_point),
            "data": numbers(np.frombuffer(self.data, np.uint8)),
            "labels": ",\n".join(f"    {string(label)}" for label in names),
            "operator_count": str(len(self.operators)),
            "operators": "\n".join(resolved),
            "operator_list": ", ".join(self.operators),
            "golden_input": numbers(self.inputs[0]),
            "golden_output": numbers(self.micro.outputs[0]),
            "resize": self.entry.preprocess.resize,
        }


def _scale(scale: float | None) -> float:
    if scale is None:
        raise InputError("the output is not quantized with one scale")
    return scale


def _template(suffix: str) -> str:
    name = suffix if suffix == "README.md" else f"model{suffix}"
    return (resources.files("mbn_deploy.packages.micro") / "templates" / name).read_text("utf-8")
