"""From graphs to the files that were requested: quantized ones by a recipe, float ones directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mbn_deploy.export.encode import EncodedModel, encode_float, encode_int8, with_batch
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import Source
from mbn_deploy.pipeline.steps import StepTimer
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.quantize import Quantization, quantize
from mbn_deploy.quantize.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Attempt:
    """A recipe, the graph that it gave, and the files of that graph, one per format."""

    recipe: Recipe
    quantization: Quantization
    files: tuple[EncodedModel, ...]


def encode_quantized(
    recipe: Recipe, source: Source, calibration: CalibrationSet, options: ExportOptions, timer: StepTimer
) -> Attempt:
    """Quantize the source by a recipe and encode the files that were requested in its precision."""
    with timer.step("quantize"):
        quantization = quantize(source.graph, source.description.preprocess, calibration, recipe, timer.progress)
    quantized = replace(quantization.graph, graph=with_batch(quantization.graph.graph, options.batch))
    files = []
    for file_format, precision in options.files():
        if precision == recipe.requested_precision:
            with timer.step(f"write {file_format} {precision}"):
                encoded = encode_int8(
                    quantized,
                    quantization.preprocess,
                    source.description,
                    file_format,
                    input_dtype=options.input,
                    activation_dtype=options.onnx_activations,
                )
                files.append(encoded)
    return Attempt(recipe=recipe, quantization=quantization, files=tuple(files))


def encode_files(
    source: Source, quantized: Mapping[str, Sequence[EncodedModel]], options: ExportOptions, timer: StepTimer
) -> tuple[EncodedModel, ...]:
    """Encode the float files, and return them with the quantized ones in the order of the options.

    Args:
        source: the model.
        quantized: files by the precision that was requested; none for one whose accuracy was not accepted.
        options: say which files are requested.
        timer: measures the steps.
    """
    graph = with_batch(source.graph, options.batch)
    files = []
    for file_format, precision in options.files():
        if precision in options.quantized:
            files += [file for file in quantized.get(precision, ()) if file.format == file_format]
        else:
            with timer.step(f"write {file_format} {precision}"):
                files.append(encode_float(graph, source.description, file_format, precision))
    return tuple(files)
