"""Make a model file and a JSON file for the stage `object_classify_tf` of rpicam-apps.

The source of the stage (raspberrypi/rpicam-apps, post_processing_stages/tf_stage.cpp and object_classify_tf_stage.cpp)
shows what it does:

- The input must be uint8 or float32 of 224 x 224 x 3 values. It is filled with RGB pixels from the middle of the
  low-resolution stream, a float input with (pixel - normalisation_offset) / normalisation_scale.
- The first output is read as uint8, whatever its type is; value / 255 is the confidence.
- The labels file must have as many lines as the last axis of the output is long.

So most files need operators in front or behind. Nothing inside the network is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mbn_deploy.answers import Answers, Scores
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.edit import TFLiteEdit
from mbn_deploy.manifest import DESCRIPTION_KEY, LABELS_NAME, Description, ModelFile, TensorInfo
from mbn_deploy.runtime.tensors import PixelEncoder

SIDE = 224  # pixels, compiled into the stage
STAGE = "object_classify_tf"
MODEL_NAME, JSON_NAME = f"{STAGE}.tflite", f"{STAGE}.json"

# The uint8 scale of scores that were int8: a softmax has the scale 1/256 in every TFLite file, so that its levels stay
# as they are. Read as value / 255, a score comes out 1/255 larger than it is.
_SCALE_OF_INT8 = 1 / 256
# The uint8 scale of scores that were floats: the one that the stage assumes.
_SCALE_OF_FLOAT = 1 / 255
_UINT8_SHIFT = 128


@dataclass(frozen=True)
class StageFiles:
    """The files for the stage by name, the model file that they were made from, and the operators put around it."""

    files: Mapping[str, bytes]
    source: str
    added: tuple[str, ...]


def stage_files(data: bytes, entry: ModelFile, answers: Answers, labels: tuple[str, ...] | None) -> StageFiles:
    """Make the model file, labels and JSON for the stage from the bundle's file `entry`, whose bytes are `data`.

    Raises `InputError` that says why the stage cannot use the file.
    """
    if not answers.are_scores:
        raise InputError(f"{entry.path}: the stage shows names, and this model answers with {answers.meaning}")
    _check(entry)
    edit = TFLiteEdit(data, entry.path)
    source = _convert_input_to_uint8(edit, entry)
    _resize_input(edit, source)
    _convert_output_to_uint8_scores(edit, answers)
    settings = _normalisation(entry)
    own = edit.metadata.get(DESCRIPTION_KEY)
    described = {} if own is None else {DESCRIPTION_KEY: _description(own, answers)}
    names = answers.names(labels, entry.output.shape[-1])
    shown = names[1:] if answers.meaning == "binary" else names  # of yes and no, the output is the probability of yes
    files = {
        MODEL_NAME: edit.finish(described),
        LABELS_NAME: "".join(f"{label}\n" for label in shown).encode(),
        JSON_NAME: (json.dumps(_json(settings), indent=4) + "\n").encode(),
    }
    return StageFiles(files, entry.path, tuple(edit.added))


def lores_size(entry: ModelFile) -> tuple[int, int]:
    """Return (width, height) of the low-resolution stream, from whose middle the stage takes 224 x 224 pixels.

    Where the model sees the whole picture, the stream is the square itself. Where it sees the centre, the stream has
    the proportions 4:3, and the square is the model's share of its height. The numbers are even, as YUV 4:2:0 needs.
    """
    if entry.preprocess.kept_centre is None:
        return SIDE, SIDE
    height = SIDE / entry.preprocess.kept_centre
    return _even(height * 4 / 3), _even(height)


def _even(value: float) -> int:
    return max(SIDE, 2 * round(value / 2))


def _check(entry: ModelFile) -> None:
    shape, out = entry.input.shape, entry.output.shape
    if entry.format != "tflite":
        raise InputError(f"{entry.path}: the stage runs .tflite files")
    if shape[0] != 1 or shape[3] != 3:
        raise InputError(f"{entry.path}: the stage gives one RGB picture, the file needs {shape}")
    if out[-1] != max(out[1:]):
        raise InputError(f"{entry.path}: the stage takes the output's last axis for the classes; its shape is {out}")
    if entry.preprocess.channels != "rgb":
        raise InputError(f"{entry.path}: the stage gives RGB, the file needs {entry.preprocess.channels.upper()}")
    mean, std = entry.preprocess.mean, entry.preprocess.std
    if entry.input.dtype == "float32":
        if len(set(mean)) > 1 or len(set(std)) > 1:
            raise InputError(
                f"{entry.path}: the stage has one mean and one deviation for all channels; the file needs {mean}, {std}"
            )
        return
    if not PixelEncoder(_unsigned(entry.input), entry.preprocess, "nhwc").identity:
        raise InputError(f"{entry.path}: the stage gives pixels, but its {entry.input.dtype} input is not pixels")


def _unsigned(info: TensorInfo) -> TensorInfo:
    """Return the uint8 tensor that represents the same values as an int8 one."""
    if info.dtype != "int8":
        return info
    return replace(info, dtype="uint8", zero_point=(info.zero_point or 0) + _UINT8_SHIFT)


def _convert_input_to_uint8(edit: TFLiteEdit, entry: ModelFile) -> TensorInfo:
    """Make an int8 input uint8; return the new input."""
    info = _unsigned(entry.input)
    if info != entry.input:
        edit.prepend("QUANTIZE", info, options_type="QuantizeOptions")
    return info


def _resize_input(edit: TFLiteEdit, source: TensorInfo) -> None:
    """Put operators in front that resize 224 x 224 pixels to the model's input.

    Averages of blocks, which use every pixel, shrink the picture as far as the block's side divides 224; the rest, a
    factor of two at most, is bilinear.
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
    """Return the side of the largest blocks that divide 224 into at least `length` of them."""
    return max(
        divisor for divisor in range(1, SIDE + 1) if SIDE % divisor == 0 and SIDE // divisor >= min(length, SIDE)
    )


def _convert_output_to_uint8_scores(edit: TFLiteEdit, answers: Answers) -> None:
    """Put operators behind that make the output uint8 probabilities."""
    if answers.scores == "logits":
        levels = {"int8": (_SCALE_OF_INT8, -_UINT8_SHIFT), "uint8": (_SCALE_OF_INT8, 0)}.get(edit.output.dtype)
        scale, zero = levels or (None, None)
        info = replace(edit.output, scale=scale, zero_point=zero)
        version = 1 if levels is None else 2
        if answers.meaning == "classes":
            edit.append("SOFTMAX", info, version, options_type="SoftmaxOptions", beta=1.0)
        else:
            edit.append("LOGISTIC", info, version)
    scale = _SCALE_OF_FLOAT if edit.output.dtype == "float32" else _SCALE_OF_INT8
    wanted = replace(edit.output, dtype="uint8", scale=scale, zero_point=0)
    if edit.output != wanted:
        edit.append("QUANTIZE", wanted, 1, options_type="QuantizeOptions")


def _normalisation(entry: ModelFile) -> dict[str, float]:
    if entry.input.dtype != "float32":
        return {}
    return {"normalisation_offset": entry.preprocess.mean[0], "normalisation_scale": entry.preprocess.std[0]}


def _description(text: bytes, answers: Answers) -> bytes:
    """Return the description inside the file, corrected for the new output."""
    described = Description.from_json(text, MODEL_NAME)
    ends: Scores = "softmax" if answers.meaning == "classes" else "sigmoid"
    return replace(described, scores=ends if answers.scores == "logits" else answers.scores).to_json().encode()


def _json(settings: Mapping[str, float]) -> dict[str, Any]:
    """Return the settings of the stage, and of the one that writes its result onto the picture."""
    stage = {
        "number_of_results": 3,
        "number_of_threads": 2,
        "refresh_rate": 15,  # frames from one inference to the next
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
