"""Models for iOS: a folder of resources, and a class in Swift whose constants are the manifest's.

    NAMEModels/               the .tflite file, labels.txt, and its golden vectors
    NAME.swift                opens the model, prepares pictures, gives labels with probabilities
    NAMEGolden.swift          compares this phone with the export; not there for bundles without golden vectors
    README.md  package.json

The API is that of TensorFlowLiteSwift (tensorflow/lite/swift/Sources). Its `Tensor.DataType` has no int8: such a
tensor's data cannot be had in Swift, so that only files with uint8 or float32 ends are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import LABELS_NAME, ModelFile
from mbn_deploy.packages.android.golden import golden_assets
from mbn_deploy.packages.android.names import class_name_of
from mbn_deploy.packages.c_source import comment
from mbn_deploy.packages.ios.swift_source import floats, string, type_name
from mbn_deploy.packages.package import check_package_target, write_package
from mbn_deploy.runtime.bundle import check_file
from mbn_deploy.runtime.declaration import CHANNELS
from mbn_deploy.runtime.file_choice import preference
from mbn_deploy.runtime.tensors import PixelEncoder
from mbn_deploy.version import __version__

_ENDS = ("uint8", "float32")

# How a picture is scaled, by the manifest's `resize`.
_PLACES = {
    "squash": "        let scale = CGSize(width: across, height: down)",
    "crop": "        let factor = max(across, down) / §fraction\n"
    "        let scale = CGSize(width: factor, height: factor)",
    "letterbox": "        let factor = min(across, down)\n        let scale = CGSize(width: factor, height: factor)",
}
_PIXELS = {
    "rgb": "            pixels += rgba[at..<at + 3]",
    "bgr": "            pixels += [rgba[at + 2], rgba[at + 1], rgba[at]]",
    # ITU-R 601, with Pillow's integers.
    "grey": "            let red = Int(rgba[at]), green = Int(rgba[at + 1]), blue = Int(rgba[at + 2])\n"
    "            pixels.append(UInt8((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16))",
}
_INPUTS = {
    "uint8": """    /// Pixels are the model's input: its quantization is the normalization.
    private static func input(_ pixels: [UInt8]) -> Data {
        Data(pixels)
    }""",
    "float32": """    private static let mean: [Float] = §mean
    private static let deviation: [Float] = §deviation

    private static func input(_ pixels: [UInt8]) -> Data {
        let values = pixels.enumerated().map { at, pixel in
            (Float(pixel) - mean[at % channels]) / deviation[at % channels]
        }
        return values.withUnsafeBufferPointer { Data(buffer: $0) }
    }""",
}
_READ = {
    "uint8": "        let scores = data.map { level in Float(Int(level) - §zero_point) * §scale }",
    "float32": "        var scores = [Float](repeating: 0, count: data.count / 4)\n"
    "        _ = scores.withUnsafeMutableBytes { data.copyBytes(to: $0) }",
}
_SOFTMAX = """        if scores.count == 1 { return [1 / (1 + exp(-scores[0]))] }
        let largest = scores.max() ?? 0
        let powers = scores.map { logit in exp(logit - largest) }
        let sum = powers.reduce(0, +)
        return powers.map { power in power / sum }"""


class _Text(Template):
    delimiter = "§"  # `$0` is Swift's


@dataclass(frozen=True)
class IosPackage:
    """What was made: the package's folder and archive, the Swift class, the bundle's file, and all paths in it."""

    folder: Path
    archive: Path
    name: str
    source: ModelFile
    files: tuple[str, ...]


def package_ios(
    bundle: str | Path,
    folder: str | Path,
    *,
    name: str | None = None,
    precision: str | None = None,
    overwrite: bool = False,
) -> IosPackage:
    """Make the package `folder`, and its archive beside it, from one .tflite file of a bundle.

    Args:
        bundle: a folder that `export` made.
        folder: where to; appears whole or not at all.
        name: what the Swift class is called; by default the model's name, made one.
        precision: which file; by default the one that suits devices best and that Swift can feed.
        overwrite: replace a package that stands there.

    Raises:
        InputError: a damaged bundle, or a file that takes no pictures.
        UsageError: no file that Swift can feed, something in the way at `folder`, no name for a class.
    """
    target = Path(folder)
    check_package_target(target, overwrite=overwrite)
    opened = Bundle.read(bundle)
    entry = _chosen(opened, precision)
    called = type_name(class_name_of(opened.manifest.model) if name is None else name)
    golden = {f"{entry.path}.golden": data for data in golden_assets(opened, [entry]).values()}
    labels = opened.labels or tuple(map(str, range(opened.manifest.classes)))
    models = {entry.path: check_file(opened.folder, entry), LABELS_NAME: ("\n".join(labels) + "\n").encode(), **golden}
    files = {f"{called}Models/{path}": data for path, data in models.items()}
    values = _values(opened, entry, called, next(iter(golden), None))
    files[f"{called}.swift"] = _filled("Classifier.swift", values)
    if golden:
        files[f"{called}Golden.swift"] = _filled("Golden.swift", values)
    files["README.md"] = _filled("README.md", values)
    facts = {
        "kind": "mbn-deploy ios", "name": called, "model": opened.manifest.model, "source": entry.path,
        "source_sha256": entry.sha256, "compiled": False,
    }  # fmt: skip
    archive = write_package(target, files, facts, overwrite=overwrite)
    return IosPackage(target, archive, called, entry, tuple(sorted(files)))


def _chosen(bundle: Bundle, precision: str | None) -> ModelFile:
    found = [entry for entry in bundle.files if entry.format == "tflite"]
    if precision is not None:
        named = [entry for entry in found if entry.precision == precision]
        if not named:
            raise UnknownNameError("precision of .tflite files", precision, sorted({e.precision for e in found}))
        found = named
    usable = [entry for entry in found if entry.input.dtype in _ENDS and entry.output.dtype in _ENDS]
    if not usable:
        ends = (f"{e.format}/{e.precision} ({e.input.dtype} to {e.output.dtype})" for e in found or bundle.files)
        raise UsageError(
            f"{bundle.folder}: TensorFlowLiteSwift feeds .tflite files with uint8 or float32 ends, "
            f"the bundle has {', '.join(ends)}; export .tflite files, with --input uint8"
        )
    entry = min(usable, key=lambda e: preference(e.precision))
    _check(bundle, entry)
    return entry


def _check(bundle: Bundle, entry: ModelFile) -> None:
    where, shape = bundle.path(entry), entry.input.shape
    if len(shape) != 4 or entry.layout != "nhwc" or shape[3] not in CHANNELS:
        raise InputError(f"{where}: its input of shape {shape} takes no pictures")
    if shape[0] != 1:
        raise UsageError(f"{where}: takes {shape[0]} pictures at once; export with --batch 1 for phones")
    if entry.input.dtype == "uint8" and not PixelEncoder(entry.input, entry.preprocess, "nhwc").identity:
        raise UsageError(f"{where}: its uint8 input is not pixels; choose another --precision")


def _values(bundle: Bundle, entry: ModelFile, name: str, golden: str | None) -> dict[str, str]:
    preprocess, manifest = entry.preprocess, bundle.manifest
    _, height, width, channels = entry.input.shape
    order = "grey" if channels == 1 else preprocess.channels
    read = _READ[entry.output.dtype]
    result = _SOFTMAX if manifest.scores == "logits" else "        return scores"
    values = {
        "title": comment([f"{name}: {manifest.model}. Made by mbn-deploy {__version__}."]),
        "version": __version__,
        "name": name,
        "file": comment([entry.path]).removeprefix("// "),
        "sha256": entry.sha256,
        "models": f"{name}Models",
        "folder": string(f"{name}Models"),
        "model": string(entry.path),
        "labels": string(LABELS_NAME),
        "golden": string(golden or ""),
        "width": str(width),
        "height": str(height),
        "channels": str(channels),
        "classes": str(manifest.classes),
        "colours": {"rgb": "red, green, blue", "bgr": "blue, green, red", "grey": "grey"}[order],
        "resize": preprocess.resize + (f", {preprocess.crop_fraction:g}" if preprocess.resize == "crop" else ""),
        "filter": preprocess.filter,
        "quality": ".none" if preprocess.filter == "nearest" else ".high",
        "fraction": repr(float(preprocess.crop_fraction)),
        "mean": floats(_per_channel(preprocess.mean, channels)),
        "deviation": floats(_per_channel(preprocess.std, channels)),
        "scale": repr(float(entry.output.scale or 1.0)),
        "zero_point": str(entry.output.zero_point or 0),
        "input_type": entry.input.dtype,
        "output_type": entry.output.dtype,
        "scores": manifest.scores,
        "test": "" if golden is None else _Text(_TEST).substitute(name=name),
        "pixel": _PIXELS[order],
        "output": f"    private static func output(_ data: Data) -> [Float] {{\n{read}\n{result}\n    }}",
    }
    pieces = {"place": _PLACES[preprocess.resize], "input": _INPUTS[entry.input.dtype], "output": values["output"]}
    return values | {key: _Text(text).substitute(values) for key, text in pieces.items()}


_TEST = """
5. Compare the phone with the export, in a test of the app's target:

       XCTAssertTrue(try §name().golden().passed)
"""


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    return [float(value) for value in np.broadcast_to(values, channels)]


def _filled(name: str, values: dict[str, str]) -> bytes:
    text = (resources.files("mbn_deploy.packages.ios") / "templates" / name).read_text("utf-8")
    return _Text(text).substitute(values).encode()
