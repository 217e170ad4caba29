"""The Swift class of an iOS package and its README, filled in from templates and from pieces of code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbn_deploy.answers import Answers
from mbn_deploy.manifest import LABELS_NAME, Manifest, ModelFile
from mbn_deploy.packages.ios.answers import answer_code
from mbn_deploy.packages.ios.swift_source import floats, string
from mbn_deploy.packages.templates import fill, fill_template
from mbn_deploy.text import plain_words
from mbn_deploy.version import __version__

# The pixels of a picture, by the order of the model's channels.
_PIXELS = {
    "rgb": "pixels",
    "grey": "pixels",
    "bgr": "stride(from: 0, to: pixels.count, by: 3).flatMap { [pixels[$0 + 2], pixels[$0 + 1], pixels[$0]] }",
}
# How pixels become the input tensor, by its type.
_INPUTS = {
    "uint8": """    /// The pixels are the model's input: its quantization parameters do the normalization.
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
# How the output tensor is read, by its type.
_OUTPUTS = {
    "uint8": "        let scores = data.map { level in Float(Int(level) - §zero_point) * §scale }",
    "float32": "        var scores = [Float](repeating: 0, count: data.count / 4)\n"
    "        _ = scores.withUnsafeMutableBytes { data.copyBytes(to: $0) }",
}
# What turns the outputs into answers, by the last function that the file leaves out.
_SOFTMAX = """        let largest = scores.max() ?? 0
        let powers = scores.map { logit in exp(logit - largest) }
        let sum = powers.reduce(0, +)
        return powers.map { power in power / sum }"""
_SIGMOID = "        return scores.map { logit in 1 / (1 + exp(-logit)) }"
_AS_THEY_ARE = "        return scores"


def _results(answers: Answers) -> str:
    if answers.scores != "logits":
        return _AS_THEY_ARE
    return _SOFTMAX if answers.meaning == "classes" else _SIGMOID


_GOLDEN_STEP = """
5. Compare the phone with the export, in a test of the app's target:

       XCTAssertTrue(try §name().golden().passed)
"""
USABLE_TYPES = tuple(_INPUTS)


def swift_files(manifest: Manifest, entry: ModelFile, name: str, golden: str | None) -> dict[str, bytes]:
    """Return the source files and the README for class `name`; `golden` is the file of golden vectors, if any."""
    values = _values(manifest, entry, name, golden)
    templates = {f"{name}.swift": "Classifier.swift", f"{name}Resize.swift": "Resize.swift", "README.md": "README.md"}
    if golden is not None:
        templates[f"{name}Golden.swift"] = "Golden.swift"
    return {path: fill_template("ios", template, values).encode() for path, template in templates.items()}


def _values(manifest: Manifest, entry: ModelFile, name: str, golden: str | None) -> dict[str, str]:
    preprocess = entry.preprocess
    height, width, channels = entry.picture
    order = "grey" if channels == 1 else preprocess.channels
    values = {
        "title": f"// {name}: {plain_words(manifest.model)}. Made by mbn-deploy {__version__}.",
        "version": __version__,
        "name": name,
        "file": plain_words(entry.path),
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
        "resize": f"{preprocess.resize}: {preprocess.resize_about}",
        "way": _camel_case(preprocess.resize),
        "filter": preprocess.filter,
        "fraction": repr(float(preprocess.crop_fraction)),
        "mean": floats(_per_channel(preprocess.mean, channels)),
        "deviation": floats(_per_channel(preprocess.std, channels)),
        "scale": repr(float(entry.output.scale or 1.0)),
        "zero_point": str(entry.output.zero_point or 0),
        "input_type": entry.input.dtype,
        "output_type": entry.output.dtype,
        "answers": manifest.answers.described(manifest.classes),
        "names": str(manifest.answers.name_count(manifest.classes)),
    }
    code = answer_code(manifest.answers)
    pieces = {
        "purpose": code.purpose,
        "result": code.result,
        "method": code.method,
        "usage": code.usage,
        "pixels": _PIXELS[order],
        "input": _INPUTS[entry.input.dtype],
        "output": f"{_OUTPUTS[entry.output.dtype]}\n{_results(manifest.answers)}",
        "test": "" if golden is None else _GOLDEN_STEP,
    }
    return values | {key: fill(text, values) for key, text in pieces.items()}


def _camel_case(words: str) -> str:
    """Return `keras-crop` as `kerasCrop`."""
    first, *others = words.split("-")
    return first + "".join(map(str.capitalize, others))


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    return [float(value) for value in np.broadcast_to(values, channels)]
