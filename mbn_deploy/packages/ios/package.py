"""Write a package for iOS apps from a bundle: a folder of resources, and a class in Swift.

    NAMEModels/               the .tflite file, labels.txt, and its golden vectors
    NAME.swift                opens the model, prepares pictures, returns labels with probabilities
    NAMEGolden.swift          compares the phone with the export; only for bundles with golden vectors
    README.md  package.json

The class uses the API of TensorFlowLiteSwift (tensorflow/lite/swift/Sources). Its `Tensor.DataType` has no int8, so
only files with uint8 or float32 inputs and outputs can be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import LABELS_NAME, ModelFile
from mbn_deploy.packages.contents import answer_names
from mbn_deploy.packages.ios.code import USABLE_TYPES, swift_files
from mbn_deploy.packages.ios.swift_source import type_name
from mbn_deploy.packages.package import check_package_target, write_package
from mbn_deploy.packages.phone import check_takes_one_picture, class_name_of, golden_files
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.declaration import CHANNELS
from mbn_deploy.runtime.file_choice import preference
from mbn_deploy.runtime.tensors import PixelEncoder


@dataclass(frozen=True)
class IosPackage:
    """A package that was written: its folder and archive, the Swift class, the bundle's file, and its own files."""

    folder: Path
    archive: Path
    name: str
    source: ModelFile
    files: tuple[str, ...]


def write_ios_package(
    bundle: str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    precision: str | None = None,
    overwrite: bool = False,
) -> IosPackage:
    """Write a package with one .tflite file to `folder`, and its archive beside it.

    Args:
        bundle: a folder that `export` made.
        folder: the package's folder; it appears complete or not at all.
        name: the name of the Swift class; by default made from the model's name.
        precision: the precision of the file; by default the one that suits devices best and that Swift can use.
        overwrite: replace a package that is there.

    Raises:
        InputError: a damaged bundle, or a file that does not take pictures.
        UsageError: no file that Swift can use, something in the way at `folder`, an impossible class name.
    """
    target = Path(folder)
    check_package_target(target, overwrite=overwrite)
    source = Bundle.read(bundle)
    entry = _choose_file(source, precision)
    class_name = type_name(class_name_of(source.manifest.model) if name is None else name)
    golden = {f"{path}.golden": data for path, data in golden_files(source, [entry]).items()}
    resources = {
        entry.path: check_file(source.folder, entry),
        LABELS_NAME: "".join(f"{label}\n" for label in answer_names(source)).encode(),
        **golden,
    }
    files = {f"{class_name}Models/{path}": data for path, data in resources.items()}
    files |= swift_files(source.manifest, entry, class_name, next(iter(golden), None))
    description = {
        "kind": "mbn-deploy ios",
        "name": class_name,
        "model": source.manifest.model,
        "source": entry.path,
        "source_sha256": entry.sha256,
        "compiled": False,
    }
    archive = write_package(target, files, description, overwrite=overwrite)
    return IosPackage(folder=target, archive=archive, name=class_name, source=entry, files=tuple(sorted(files)))


def _choose_file(bundle: Bundle, precision: str | None) -> ModelFile:
    files = [entry for entry in bundle.files if entry.format == "tflite"]
    if precision is not None and precision not in {entry.precision for entry in files}:
        raise UnknownNameError("precision of .tflite files", precision, sorted({e.precision for e in files}))
    files = [entry for entry in files if precision in (None, entry.precision)]
    usable = [entry for entry in files if entry.input.dtype in USABLE_TYPES and entry.output.dtype in USABLE_TYPES]
    if not usable:
        types = (f"{e.format}/{e.precision} ({e.input.dtype} to {e.output.dtype})" for e in files or bundle.files)
        raise UsageError(
            f"{bundle.folder}: TensorFlowLiteSwift runs .tflite files with {' or '.join(USABLE_TYPES)} inputs and "
            f"outputs; the bundle has {', '.join(types)}; export .tflite files with --input uint8"
        )
    entry = min(usable, key=lambda e: preference(e.precision))
    _check(bundle, entry)
    return entry


def _check(bundle: Bundle, entry: ModelFile) -> None:
    check_takes_one_picture(bundle, entry)
    if entry.layout != "nhwc" or entry.picture[2] not in CHANNELS:
        raise InputError(f"{bundle.path(entry)}: its input of shape {entry.input.shape} does not take pictures")
    if entry.input.dtype == "uint8" and not PixelEncoder(entry.input, entry.preprocess, "nhwc").identity:
        raise UsageError(f"{bundle.path(entry)}: its uint8 input is not pixels; choose another --precision")
