"""The files that `quantization.py` compares: ours and the plain converters', from one model and one set of images."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from accuracy import Case

from mbn_deploy.data.dataset import Dataset, load_dataset
from mbn_deploy.export.encode import EncodedModel, encode_float, encode_int8
from mbn_deploy.export.tflite.delegate import probe_delegate
from mbn_deploy.graph.graph import Graph
from mbn_deploy.manifest import FileFormat, Preprocess
from mbn_deploy.models.api import build
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import Source, open_source
from mbn_deploy.quantize.calibration import CalibrationSet, load_calibration
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8, INT16, RECIPES, Recipe
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.backend import Backend
from mbn_deploy.runtime.backends.modules import load_part
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.verify.runner import FileRunner

# A test utility, which no package holds.
sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from scramble import scramble

FORMATS: tuple[FileFormat, ...] = ("tflite", "onnx")
TITLES = {"tflite": "TFLite", "onnx": "ONNX"}
KNOWN = RECIPES | {INT16.name: INT16}
PER_TENSOR = replace(INT8, name="int8 per-tensor", granularity="per-tensor")
SCRAMBLED = "scrambled"
THREADS = 2  # of evaluations: what they answer does not depend on it


@dataclass(eq=False)
class Bench:
    """One model with its images; files are made when they are asked for, once."""

    case: Case
    data: Path
    images: int = 200
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    _made: dict[str, EncodedModel] = field(default_factory=dict)

    @cached_property
    def source(self) -> Source:
        """The Keras model and its folded graph."""
        model = build(self.case.network, alpha=self.case.alpha, weights=self.data / "models" / "float" / self.case.file)
        return open_source(model, ExportOptions(precisions=("float32",), resize="crop"))

    @cached_property
    def dataset(self) -> Dataset:
        """The validation photographs."""
        lines = (self.data / "imagenet" / "synsets.txt").read_text("utf-8").split("\n")
        synsets = [line.split()[0] for line in lines if line.strip()]
        return load_dataset(self.data / "imagenet" / "validation", self.source.classes, synsets=synsets)

    @property
    def squashed(self) -> Preprocess:
        """The validation photographs, resized without cropping."""
        return replace(self.source.description.preprocess, resize="squash")

    @cached_property
    def calibration(self) -> CalibrationSet:
        """The images that every quantizer sees, ours and theirs."""
        return self.calibrating(self.images)

    def calibrating(self, count: int) -> CalibrationSet:
        """`count` photographs of the training set."""
        folder = self.data / "imagenet" / "calibration"
        return load_calibration(folder, self.source.size, self.source.description.preprocess, count=count)

    @property
    def swishes(self) -> bool:
        """Return whether the recipes' forms of h-swish make a difference."""
        return any(op.kind == "hard_swish" for op in self.source.graph.ops)

    def float_file(self, file_format: FileFormat) -> EncodedModel:
        """Our float32 file."""
        return self._once(
            f"float32 {TITLES[file_format]}",
            lambda: encode_float(self.source.graph, self.source.description, file_format, "float32"),
        )

    def ours(self, recipe: Recipe, *, scrambled: bool = False) -> dict[str, EncodedModel]:
        """Our int8 files by label, both formats of one calibration; int16x8 in the one that has it."""
        name = f"{recipe.name} {SCRAMBLED}" if scrambled else recipe.name
        labels = {f"{name} {TITLES[f]}": f for f in (FORMATS if recipe.requested_precision == "int8" else ("tflite",))}
        if not all(label in self._made for label in labels):
            graph = scramble(self.source.graph) if scrambled else self.source.graph
            calibration = self.calibration
            start = perf_counter()
            found = quantize(graph, self.source.description.preprocess, calibration, recipe)
            self.seconds[name] = perf_counter() - start
            self.facts[name] = {"recipe": found.record["recipe"], "float_layers": found.record["float_layers"]}
            for label, file_format in labels.items():
                self._made[label] = encode_int8(found.graph, found.preprocess, self.source.description, file_format)
        return {label: self._made[label] for label in labels}

    def plain(self, *, per_tensor: bool = False) -> dict[str, EncodedModel]:
        """Files of the plain converters by label."""
        tail = " per-tensor" if per_tensor else ""
        return {
            f"plain{tail} TFLite": self._once(f"plain{tail} TFLite", lambda: self._plain_tflite(per_tensor=per_tensor)),
            f"plain{tail} ONNX": self._once(
                f"plain{tail} ONNX", lambda: self._plain_onnx(self.source.graph, per_tensor=per_tensor)
            ),
        }

    def plain_wide(self) -> dict[str, EncodedModel]:
        """Convert to int16x8 with the plain converter."""
        label = f"plain {INT16.name} TFLite"
        return {label: self._once(label, lambda: self._plain_tflite(wide=True))}

    def plain_scrambled(self) -> dict[str, EncodedModel]:
        """Quantize the scrambled graph with the plain ONNX quantizer; the TFLite converter needs a Keras model."""
        label = f"plain {SCRAMBLED} ONNX"
        return {label: self._once(label, lambda: self._plain_onnx(scramble(self.source.graph), per_tensor=False))}

    def _once(self, label: str, make: Callable[[], EncodedModel]) -> EncodedModel:
        if label not in self._made:
            start = perf_counter()
            self._made[label] = make()
            self.seconds[label] = perf_counter() - start
        return self._made[label]

    def _plain_tflite(self, *, per_tensor: bool = False, wide: bool = False) -> EncodedModel:
        """Full integer as TensorFlow's documentation says, min-max, uint8 at both ends; `wide`: 16x8, int16 at both."""
        import tensorflow as tf

        preprocess = self.source.keras_preprocess

        def representative() -> Iterator[list[Any]]:
            for image in self.calibration.pixels:
                yield [normalize(image, preprocess)[None]]

        converter = tf.lite.TFLiteConverter.from_keras_model(self.source.model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        sets = tf.lite.OpsSet
        kinds = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 if wide else sets.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [kinds]
        converter.inference_input_type = converter.inference_output_type = tf.int16 if wide else tf.uint8
        converter._experimental_disable_per_channel = per_tensor  # noqa: SLF001 - there is no public way
        with redirect_stdout(sys.stderr):  # Keras lists every variable
            data = bytes(converter.convert())
        return EncodedModel("plain.tflite", data, "tflite", INT16.name if wide else "int8", preprocess, "nhwc")

    def _plain_onnx(self, graph: Graph, *, per_tensor: bool) -> EncodedModel:
        """`quantize_static` on our float file: per-channel QDQ U8S8, min-max."""
        quantization = load_part("onnx", "quantization")
        preprocess = self.source.description.preprocess
        images = (normalize(image, preprocess).transpose(2, 0, 1)[None] for image in self.calibration.pixels)
        name = graph.input

        class Reader:
            def get_next(self) -> dict[str, Any] | None:
                image = next(images, None)
                return None if image is None else {name: np.ascontiguousarray(image)}

        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            before.write_bytes(encode_float(graph, self.source.description, "onnx", "float32").data)
            quantization.quantize_static(
                before,
                after,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=not per_tensor,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return EncodedModel("plain.onnx", after.read_bytes(), "onnx", "int8", preprocess, "nchw")


def delegate(file: EncodedModel) -> dict[str, Any]:
    """Return how XNNPACK partitions a .tflite file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file.name
        path.write_bytes(file.data)
        report = probe_delegate(path)
    return {"partitions": report.partitions, "outside": len(report.outside), "error": report.error}


def runner(file: EncodedModel, *, refused: bool) -> FileRunner:
    """Open the file as a device does; one that XNNPACK refuses runs on the interpreter's own kernels."""
    backend = _without_delegate(file) if refused else open_backend(file.data, file.format, threads=THREADS)
    return FileRunner(backend, file.preprocess, file.layout, file.described(backend.input))


def _without_delegate(file: EncodedModel) -> Backend:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from mbn_deploy.runtime.backends.interpreter import InterpreterBackend

    plain = partial(Interpreter, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return InterpreterBackend(plain, "litert", file.data, THREADS, file.name)


def recipes(names: list[str]) -> list[Recipe]:
    """By name, as the package knows them."""
    return [KNOWN[name] for name in names]
