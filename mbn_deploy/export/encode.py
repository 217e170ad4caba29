"""Encoding graphs as the files of a bundle: their names, bytes, and the description inside each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mbn_deploy.answers import Answers, usual_meaning
from mbn_deploy.errors import InputError
from mbn_deploy.export.file_types import NO_INT16, NOTHING_SAID, About, InputType, OnnxActivationType
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.onnx.writer import write_onnx
from mbn_deploy.export.tflite.metadata import (
    METADATA_KEY,
    ClassifierMetadata,
    append_files,
    encode_metadata,
)
from mbn_deploy.export.tflite.writer import FloatPrecision, write_tflite, write_tflite_int8
from mbn_deploy.graph.graph import Graph
from mbn_deploy.graph.input_normalization import is_uniform, uniform_input
from mbn_deploy.graph.quantized import UNSIGNED_SHIFT, QuantizedGraph
from mbn_deploy.manifest import DESCRIPTION_KEY, LABELS_NAME, Description, FileFormat, Layout, Preprocess, TensorInfo


@dataclass(frozen=True)
class ModelDescription:
    """The description that all files of an export share; `preprocess` is that of the float graph."""

    model: str
    answers: Answers
    preprocess: Preprocess
    labels: tuple[str, ...] | None = None
    layout: Layout = "nchw"  # of ONNX inputs; TFLite knows NHWC only
    about: About = NOTHING_SAID


@dataclass(frozen=True, eq=False)
class EncodedModel:
    """A file's name, bytes and description.

    `quantized_input` is (scale, zero point) of an integer input, which ONNX Runtime does not report.
    """

    name: str
    data: bytes
    format: FileFormat
    precision: str
    preprocess: Preprocess
    layout: Layout
    quantized_input: tuple[float, int] | None = None

    def described(self, info: TensorInfo) -> TensorInfo:
        """Return the input as the interpreter describes it, with scale and zero point where it leaves them out."""
        if self.quantized_input is None or info.scale is not None:
            return info
        return replace(info, scale=self.quantized_input[0], zero_point=self.quantized_input[1])


def file_stem(name: str, size: tuple[int, int]) -> str:
    """Return `name` made safe for file names; it ends in the input's size, (height, width)."""
    height, width = size
    side = str(height) if height == width else f"{height}x{width}"
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("._") or "model"
    return plain if plain.endswith(f"_{side}") else f"{plain}_{side}"


def with_batch(graph: Graph, batch: int) -> Graph:
    """Return the graph for `batch` images at once: every shape with another first axis."""
    return replace(graph, shapes={name: (batch, *shape[1:]) for name, shape in graph.shapes.items()})


def encode_float(graph: Graph, description: ModelDescription, file_format: FileFormat, precision: str) -> EncodedModel:
    """Encode a file with float32 input and output, whose input is normalized by one mean and one deviation."""
    graph, preprocess = uniform_input(graph, description.preprocess)
    layout = _layout(description, file_format)
    text = _file_description(description, graph, precision, preprocess, layout)
    if file_format == "onnx":
        data = write_onnx(graph, metadata={DESCRIPTION_KEY: text}, layout=layout)
    else:
        kinds: dict[str, FloatPrecision] = {"float32": "float32", "float16": "float16", "dynamic": "dynamic"}
        metadata, files = _tflite_metadata(description, graph, preprocess, text)
        data = append_files(write_tflite(graph, kinds[precision], metadata=metadata), files)
    return _encoded(description, data, file_format, precision, preprocess)


def encode_int8(
    quantized: QuantizedGraph,
    preprocess: Preprocess,
    description: ModelDescription,
    file_format: FileFormat,
    *,
    input_dtype: InputType = "uint8",
    activation_dtype: OnnxActivationType = "uint8",
) -> EncodedModel:
    """Encode an int8, int8-mixed or int16x8 file.

    `preprocess` is that of the quantized graph, whose integers are pixels.

    Raises:
        InputError: an ONNX file would have activations of 16 bits, or a writer refuses the graph.
    """
    precision = quantized.precision
    layout = _layout(description, file_format)
    text = _file_description(description, quantized.graph, precision, preprocess, layout)
    if file_format == "onnx":
        if input_dtype == "int16":
            raise InputError(f"{description.model}: {NO_INT16}")
        data = write_onnx_int8(
            quantized,
            activation_dtype=activation_dtype,
            input_dtype=input_dtype,
            layout=layout,
            metadata={DESCRIPTION_KEY: text},
        )
    else:
        metadata, files = _tflite_metadata(description, quantized.graph, preprocess, text)
        data = append_files(write_tflite_int8(quantized, input_dtype=input_dtype, metadata=metadata), files)
    quantized_input = _input_quantization(quantized, input_dtype)
    return _encoded(description, data, file_format, precision, preprocess, quantized_input=quantized_input)


def _input_quantization(quantized: QuantizedGraph, dtype: InputType) -> tuple[float, int] | None:
    """Return scale and zero point of an input of the type `dtype`, None for float32."""
    if dtype == "float32":
        return None
    params = (quantized.int16_params if dtype == "int16" else quantized.activations)[quantized.graph.input]
    return params.scale, params.zero_point + (UNSIGNED_SHIFT if dtype == "uint8" else 0)


def _layout(description: ModelDescription, file_format: FileFormat) -> Layout:
    return description.layout if file_format == "onnx" else "nhwc"


def _encoded(
    description: ModelDescription,
    data: bytes,
    file_format: FileFormat,
    precision: str,
    preprocess: Preprocess,
    *,
    quantized_input: tuple[float, int] | None = None,
) -> EncodedModel:
    return EncodedModel(
        name=f"{description.model}_{precision}.{file_format}",
        data=data,
        format=file_format,
        precision=precision,
        preprocess=preprocess,
        layout=_layout(description, file_format),
        quantized_input=quantized_input,
    )


def _tflite_metadata(
    description: ModelDescription, graph: Graph, preprocess: Preprocess, text: str
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return a .tflite file's metadata by key, and its associated files by name."""
    ours = {DESCRIPTION_KEY: text.encode()}
    if not is_uniform(preprocess):
        return ours, {}
    _, height, width, channels = graph.shapes[graph.input]
    outputs = graph.shapes[graph.output][-1]
    # Readers of Google's metadata expect one label an output: of a binary model the positive one.
    labels = {} if description.labels is None else {LABELS_NAME: labels_text(description.labels[-outputs:])}
    model = ClassifierMetadata(
        name=description.model,
        about=description.about,
        size=(height, width),
        channels=channels,
        preprocess=preprocess,
        answers=description.answers,
        labels=bool(labels),
    )
    return {**ours, METADATA_KEY: encode_metadata(model)}, labels


def labels_text(labels: Sequence[str]) -> bytes:
    """Return the content of the labels file: line i is class i."""
    return ("\n".join(labels) + "\n").encode()


def _file_description(
    description: ModelDescription, graph: Graph, precision: str, preprocess: Preprocess, layout: Layout
) -> str:
    answers = description.answers
    usual = usual_meaning(answers.scores, graph.shapes[graph.output][-1])
    return Description(
        model=description.model,
        precision=precision,
        scores=answers.scores,
        meaning=None if answers.meaning == usual else answers.meaning,
        preprocess=preprocess,
        layout=layout,
        labels=description.labels,
    ).to_json()
