"""A model file and a JSON for the stage `object_classify_tf` of rpicam-apps.

What the stage does was read in its source (raspberrypi/rpicam-apps, post_processing_stages/tf_stage.cpp
and object_classify_tf_stage.cpp):

- the input must be uint8 or float32 of 224 x 224 x 3 values; it gets RGB pixels from the middle of the
  low-resolution stream, into a float input (pixel - normalisation_offset) / normalisation_scale;
- the first output is read as uint8 without asking for its type, value / 255 is the confidence;
- the labels file must have as many lines as the last axis of the output is long.

So most files need something in front or behind. Nothing inside of the network is touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mbn_deploy.answers import Scores
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.edit import TFLiteEdit
from mbn_deploy.manifest import DESCRIPTION_KEY, LABELS_NAME, Description, ModelFile, TensorInfo
from mbn_deploy.runtime.tensors import PixelEncoder

SIDE = 224  # compiled into the stage
STAGE = "object_classify_tf"
MODEL_NAME, JSON_NAME = f"{STAGE}.tflite", f"{STAGE}.json"

# Exact for an int8 softmax, whose scale is 1/256 in every TFLite file: level for level. Read as /255 a score
# comes out larger by a 255th of itself.
_LEVELS_OF_INT8 = 1 / 256
# Scores that were floats are given the levels that the stage reads.
_LEVELS_OF_FLOAT = 1 / 255
_UINT8_SHIFT = 128


@dataclass(frozen=True)
class StageFiles:
    """The files of the stage by name, which model file they were made from, and what was put around it."""

    files: Mapping[str, bytes]
    source: str
    added: tuple[str, ...]


def stage_files(data: bytes, entry: ModelFile, scores: Scores, labels: tuple[str, ...] | None) -> StageFiles:
    """The model file, labels and JSON for the stage, made from the bundle's file `entry` with bytes `data`.

    Raises `InputError` that says why the stage cannot use this file.
    """
    _check(entry)
    edit = TFLiteEdit(data, entry.path)
    source = _with_uint8(edit, entry)
    _with_side(edit, source)
    _with_scores(edit, scores)
    settings = _normalisation(entry)
    own = edit.metadata.get(DESCRIPTION_KEY)
    described = {} if own is None else {DESCRIPTION_KEY: _description(own, scores)}
    classes = entry.output.shape[-1]
    files = {
        MODEL_NAME: edit.finish(described),
        LABELS_NAME: "".join(f"{label}\n" for label in labels or map(str, range(classes))).encode(),
        JSON_NAME: (json.dumps(_json(settings), indent=4) + "\n").encode(),
    }
    return StageFiles(files, entry.path, tuple(edit.added))


def lores_size(entry: ModelFile) -> tuple[int, int]:
    """(width, height) of the low-resolution stream, out of whose middle the stage takes 224 x 224, of a 4:3 picture.

    With `squash` the stream is the square itself; with `crop` its middle is the model's share of the
    shorter side. Even numbers, as YUV 4:2:0 needs.
    """
    if entry.preprocess.resize != "crop":
        return SIDE, SIDE
    height = SIDE / entry.preprocess.crop_fraction
    return _even(height * 4 / 3), _even(height)


def _even(value: float) -> int:
    return max(SIDE, 2 * round(value / 2))


def _check(entry: ModelFile) -> None:
    shape, out = entry.input.shape, entry.output.shape
    if entry.format != "tflite":
        raise InputError(f"{entry.path}: the stage runs .tflite files")
    if shape[0] != 1 or shape[3] != 3:
        raise InputError(f"{entry.path}: the stage gives one RGB picture, the file wants {shape}")
    if out[-1] != max(out[1:]):
        raise InputError(f"{entry.path}: the stage takes the last axis of the output for the classes; it has {out}")
    if entry.preprocess.channels != "rgb":
        raise InputError(f"{entry.path}: the stage gives RGB, the file wants {entry.preprocess.channels.upper()}")
    mean, std = entry.preprocess.mean, entry.preprocess.std
    if entry.input.dtype == "float32":
        if len(set(mean)) > 1 or len(set(std)) > 1:
            raise InputError(
                f"{entry.path}: the stage has one mean and one deviation for all channels, not {mean}, {std}"
            )
        return
    if not PixelEncoder(_unsigned(entry.input), entry.preprocess, "nhwc").identity:
        raise InputError(f"{entry.path}: its {entry.input.dtype} input is not pixels, which is what the stage gives")


def _unsigned(info: TensorInfo) -> TensorInfo:
    """The uint8 tensor that says the same as an int8 one."""
    if info.dtype != "int8":
        return info
    return replace(info, dtype="uint8", zero_point=(info.zero_point or 0) + _UINT8_SHIFT)


def _with_uint8(edit: TFLiteEdit, entry: ModelFile) -> TensorInfo:
    """Makes an int8 input uint8; returns the input as it is then."""
    info = _unsigned(entry.input)
    if info != entry.input:
        edit.prepend("QUANTIZE", info, options_type="QuantizeOptions")
    return info


def _with_side(edit: TFLiteEdit, source: TensorInfo) -> None:
    """Puts a resizing in front where the model's input is not 224 x 224.

    Down it goes by means of blocks, which use every pixel, as far as their side divides 224; what is left,
    at most a factor of two, is bilinear.
    """
    height, width = source.shape[1:3]
    blocks = _block(height), _block(width)
    pooled = replace(source, shape=(1, SIDE // blocks[0], SIDE // blocks[1], 3))
    if pooled.shape != source.shape:
        edit.prepend(
            "RESIZE_BILINEAR", pooled, [(height, width)], version=3, options_type="ResizeBilinearOptions",
            alignCorners=False, halfPixelCenters=True,
        )  # fmt: skip
    if blocks != (1, 1):
        edit.prepend(
            "AVERAGE_POOL_2D", replace(source, shape=(1, SIDE, SIDE, 3)), options_type="Pool2DOptions",
            version=1 if source.dtype == "float32" else 2, padding=1, strideH=blocks[0], strideW=blocks[1],
            filterHeight=blocks[0], filterWidth=blocks[1], fusedActivationFunction=0,
        )  # fmt: skip


def _block(length: int) -> int:
    """Side of the largest blocks that divide 224 into at least `length` of them."""
    return max(
        divisor for divisor in range(1, SIDE + 1) if SIDE % divisor == 0 and SIDE // divisor >= min(length, SIDE)
    )


def _with_scores(edit: TFLiteEdit, scores: Scores) -> None:
    """Makes the output probabilities in uint8."""
    if scores == "logits":
        levels = {"int8": (_LEVELS_OF_INT8, -_UINT8_SHIFT), "uint8": (_LEVELS_OF_INT8, 0)}.get(edit.output.dtype)
        scale, zero = levels or (None, None)
        info = replace(edit.output, scale=scale, zero_point=zero)
        version = 1 if levels is None else 2
        if info.shape[-1] > 1:
            edit.append("SOFTMAX", info, version, options_type="SoftmaxOptions", beta=1.0)
        else:
            edit.append("LOGISTIC", info, version)
    scale = _LEVELS_OF_FLOAT if edit.output.dtype == "float32" else _LEVELS_OF_INT8
    wanted = replace(edit.output, dtype="uint8", scale=scale, zero_point=0)
    if edit.output != wanted:
        edit.append("QUANTIZE", wanted, 1, options_type="QuantizeOptions")


def _normalisation(entry: ModelFile) -> dict[str, float]:
    if entry.input.dtype != "float32":
        return {}
    return {"normalisation_offset": entry.preprocess.mean[0], "normalisation_scale": entry.preprocess.std[0]}


def _description(text: bytes, scores: Scores) -> bytes:
    """What the file says about itself, true for the new output."""
    described = Description.from_json(text, MODEL_NAME)
    return replace(described, scores="softmax" if scores == "logits" else scores).to_json().encode()


def _json(settings: Mapping[str, float]) -> dict[str, Any]:
    """The stage, and the one that writes its result onto the picture."""
    stage = {
        "number_of_results": 3,
        "number_of_threads": 2,
        "refresh_rate": 15,  # every so many frames
        "threshold_high": 0.2,
        "threshold_low": 0.1,
        "model_file": MODEL_NAME,
        "labels_file": LABELS_NAME,
        "display_labels": 1,
        "verbose": 1,
        **settings,
    }
    annotate = {"text": "", "fg": 255, "bg": 0, "scale": 1.0, "thickness": 2, "alpha": 0.3}
    return {STAGE: stage, "annotate_cv": annotate}
