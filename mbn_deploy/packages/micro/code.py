"""The C and C++ files of a package for microcontrollers, filled in from templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mbn_deploy.answers import Answers, Meaning
from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError
from mbn_deploy.export.file_report import TensorReport
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Manifest, ModelFile
from mbn_deploy.packages.micro.c_source import numbers, string
from mbn_deploy.packages.micro.trial import MicroTrial
from mbn_deploy.packages.templates import fill, fill_template
from mbn_deploy.text import plain_words
from mbn_deploy.version import __version__

PIXEL_OFFSET = 128  # the int8 input of exported files is pixel - 128

# The method of MicroMutableOpResolver that registers each operator (tflite-micro, micro_mutable_op_resolver.h).
RESOLVERS: dict[str, str] = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "ELU": "AddElu",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "LOG_SOFTMAX": "AddLogSoftmax",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "REDUCE_MAX": "AddReduceMax",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SQUEEZE": "AddSqueeze",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
}
_TEMPLATES = ("model.h", "model.c", "model_labels.h", "model_resolver.h", "model_golden.h", "README.md")


def check_operators(operators: Sequence[str], where: str) -> None:
    """Raise `InputError` for an operator that is not in `RESOLVERS`."""
    unknown = [kind for kind in operators if kind not in RESOLVERS]
    if unknown:
        raise InputError(f"{where}: TensorFlow Lite Micro is not known to have {', '.join(unknown)}")


# The C++ function of the README's example: its head, and what it does with the int8 `outputs`.
_BEST = (
    "int classify(const uint8_t* rgb)",
    "-1",
    """  int best = 0;
  for (int i = 1; i < §{macro}_CLASSES; ++i) {
    if (outputs[i] > outputs[best]) best = i;
  }
  return best;  // §{name}_labels[best]""",
)
_ALL = (
    "bool §{function}(const uint8_t* rgb, float* answers)",
    "false",
    """  for (int i = 0; i < §{macro}_CLASSES; ++i) {
    const float real = (outputs[i] - §{macro}_OUTPUT_ZERO_POINT) * §{macro}_OUTPUT_SCALE;
    answers[i] = §{real};  // §{answer}
  }
  return true;""",
)
_ANSWERS: Mapping[Meaning, tuple[str, str]] = {
    "labels": ("classify", "the probability of §{name}_labels[i], whatever the others are"),
    "binary": ("classify", "the probability of §{name}_labels[1]; that of §{name}_labels[0] is 1 minus it"),
    "values": ("predict", "the number that §{name}_labels[i] names"),
    "embedding": ("embed", "one feature of the vector"),
}


def _example(answers: Answers, values: Mapping[str, object]) -> dict[str, object]:
    """Return the parts of the README's example that depend on what the answers mean."""
    if answers.meaning == "classes":
        head, failed, body = _BEST
        return {"include": "", "head": head, "failed": failed, "body": fill(body, values)}
    function, answer = _ANSWERS[answers.meaning]
    real = "1 / (1 + std::exp(-real))" if answers.scores == "logits" else "real"
    parts = {**values, "function": function, "answer": fill(answer, values), "real": real}
    head, failed, body = _ALL
    include = "#include <cmath>\n\n" if answers.scores == "logits" else ""
    return {"include": include, "head": fill(head, parts), "failed": failed, "body": fill(body, parts)}


def c_files(
    *,
    name: str,
    manifest: Manifest,
    labels: Sequence[str],
    entry: ModelFile,
    data: bytes,
    operators: Sequence[str],
    output: TensorReport,
    inputs: Array,
    trial: MicroTrial,
) -> dict[str, bytes]:
    """Return the source files and the README.

    Args:
        name: the C identifier that files, array and macros begin with.
        manifest: the bundle's manifest.
        labels: the name of each class.
        entry: the bundle's file that the model was made from.
        data: the model as TensorFlow Lite Micro runs it.
        operators: its kinds of operators, all of them in `RESOLVERS`.
        output: its output tensor.
        inputs: golden pictures (N, H, W, C) as int8 input.
        trial: what TensorFlow Lite Micro needed and answered to `inputs`.
    """
    _, height, width, channels = inputs.shape
    values: dict[str, object] = {
        "version": __version__,
        "name": name,
        "macro": name.upper(),
        "title": f"// {plain_words(manifest.model)}, from {plain_words(entry.path)}",
        "source_sha256": entry.sha256,
        "sha256": sha256(data),
        "bytes": len(data),
        "arena": trial.arena,
        "height": height,
        "width": width,
        "channels": channels,
        "classes": manifest.classes,
        "input_offset": PIXEL_OFFSET,
        "output_scale": f"{output.scale:.9g}",
        "output_zero_point": output.zero_point,
        "data": numbers(np.frombuffer(data, np.uint8)),
        "labels": ",\n".join(f"    {string(label)}" for label in labels),
        "operator_count": len(operators),
        "operators": "\n".join(f"  TF_LITE_ENSURE_STATUS(resolver.{RESOLVERS[kind]}());" for kind in operators),
        "operator_list": ", ".join(operators),
        "golden_input": numbers(inputs[0]),
        "golden_output": numbers(trial.outputs[0]),
        "resize": f"{entry.preprocess.resize}: {entry.preprocess.resize_about}",
        "answers": manifest.answers.described(manifest.classes),
        "names": "2" if manifest.answers.meaning == "binary" else f"{name.upper()}_CLASSES",
    }
    values = {**values, **_example(manifest.answers, values)}
    return {
        template.replace("model", name, 1): fill_template("micro", template, values).encode() for template in _TEMPLATES
    }
