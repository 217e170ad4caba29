"""The contents of a bundle as bytes by file name: models, golden vectors, labels and the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbn_deploy.arrays import Pixels
from mbn_deploy.export.encode import EncodedModel, labels_text
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import GOLDEN_NAME, LABELS_NAME, MANIFEST_NAME, Manifest, ModelFile
from mbn_deploy.pipeline.manifest_record import model_source, tool_versions
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import SearchResult
from mbn_deploy.pipeline.source import Source
from mbn_deploy.verify.golden import Golden, GoldenProvenance, golden_bytes
from mbn_deploy.verify.golden_inputs import golden_provenance
from mbn_deploy.verify.interpreter_process import RunResult
from mbn_deploy.verify.operation_record import OperationSamples
from mbn_deploy.verify.tolerance import relative_tolerance, tolerance


@dataclass(frozen=True, eq=False)
class ExportedModels:
    """The files of an export, each of which an interpreter has run.

    Attributes:
        source: the model that they came from.
        searches: the recipes that were tried for the quantized ones.
        files: in the order of the bundle.
        runs: how an interpreter describes each file, and its outputs for `pixels`, by name.
        samples: samples of each file's operations, by name.
        pixels: the golden inputs, uint8 (N, H, W, C).
    """

    source: Source
    searches: tuple[SearchResult, ...]
    files: tuple[EncodedModel, ...]
    runs: dict[str, RunResult]
    samples: dict[str, OperationSamples]
    pixels: Pixels


def bundle_files(
    models: ExportedModels, metrics: dict[str, Any], options: ExportOptions
) -> tuple[dict[str, bytes], Manifest]:
    """Return every file of the bundle by name, and its manifest with these `metrics`."""
    source, description = models.source, models.source.description
    contents = {file.name: file.data for file in models.files}
    contents[GOLDEN_NAME] = golden_bytes(golden_vectors(models))
    if description.labels is not None:
        contents[LABELS_NAME] = labels_text(description.labels)
    records = {search.precision: search.record() for search in models.searches}
    manifest = Manifest(
        model=description.model,
        classes=source.classes,
        scores=description.answers.scores,
        meaning=description.answers.meaning,
        files=tuple(manifest_entry(file, models.runs[file.name]) for file in models.files),
        labels=None if description.labels is None else LABELS_NAME,
        labels_sha256=None if description.labels is None else sha256(contents[LABELS_NAME]),
        golden=GOLDEN_NAME,
        golden_sha256=sha256(contents[GOLDEN_NAME]),
        source=model_source(source, options),
        quantization=records.pop("int8", {}) | records,
        metrics=metrics,
        tools=tool_versions(),
    )
    contents[MANIFEST_NAME] = manifest.to_json().encode()
    return contents, Manifest.from_json(contents[MANIFEST_NAME])  # as every reader will see it


def manifest_entry(file: EncodedModel, run: RunResult) -> ModelFile:
    """Return the entry of a file in the manifest, with its tensors as the interpreter describes them."""
    return ModelFile(
        path=file.name,
        format=file.format,
        precision=file.precision,
        sha256=sha256(file.data),
        size=len(file.data),
        input=file.described(run.input),
        output=run.output,
        preprocess=file.preprocess,
        layout=file.layout,
    )


def golden_vectors(models: ExportedModels) -> Golden:
    """Return the golden inputs and outputs, with how far the outputs of another machine may differ."""
    quantizations = [search.accepted.quantization for search in models.searches if search.accepted is not None]
    return Golden(
        pixels=models.pixels,
        outputs={name: run.outputs for name, run in models.runs.items()},
        tolerances={file.name: _tolerance(file, models) for file in models.files},
        provenance={file.name: _provenance(file, models) for file in models.files},
        rescalings={quantization.graph.precision: quantization.rescalings for quantization in quantizations},
    )


def _provenance(file: EncodedModel, models: ExportedModels) -> GoldenProvenance:
    return golden_provenance(
        file.precision,
        models.runs[file.name],
        models.samples[file.name],
        allowed=_tolerance(file, models),
        relative=relative_tolerance(models.source.fan_ins()),
    )


def _tolerance(file: EncodedModel, models: ExportedModels) -> float:
    accepted = [search.accepted for search in models.searches if search.accepted is not None]
    scales = [attempt.quantization.graph.output_params.scale for attempt in accepted if file in attempt.files]
    return tolerance(
        models.runs[file.name].outputs,
        file.precision,
        scales[0] if scales else None,
        models.source.fan_ins(),
        probabilities=models.source.description.answers.are_probabilities,
    )
