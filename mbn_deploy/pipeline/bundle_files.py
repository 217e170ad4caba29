"""What lies in a bundle: the files that were made, golden vectors, labels and the manifest, as bytes by name."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.arrays import Pixels
from mbn_deploy.export.encode import EncodedModel, labels_text
from mbn_deploy.graph.quantized import INT16X8
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import GOLDEN_NAME, LABELS_NAME, MANIFEST_NAME, Manifest, ModelFile, Preprocess
from mbn_deploy.pipeline.manifest_record import evaluation_metrics, model_source, tool_versions
from mbn_deploy.pipeline.recipe_search import Climb
from mbn_deploy.pipeline.source import Source
from mbn_deploy.runtime.backends import default_threads
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.golden import (
    Golden,
    GoldenProvenance,
    golden_bytes,
    golden_provenance,
    relative_tolerance,
    tolerance,
)
from mbn_deploy.verify.interpreter_process import FileToRun, RunResult
from mbn_deploy.verify.operation_check import Subject

REFERENCE = "keras"  # the float model's name while files are compared with it


def candidate(file: EncodedModel) -> FileToRun:
    """The file as it is handed to the trial."""
    return FileToRun(file.data, file.format, file.preprocess, file.layout, file.precision in ("int8", INT16X8))


@dataclass(frozen=True, eq=False)
class Made:
    """All that goes into the bundle."""

    source: Source
    climbs: tuple[Climb, ...]
    files: list[EncodedModel]
    trials: dict[str, RunResult]
    pixels: Pixels

    def golden(self) -> Golden:
        """The trial's outputs, with how far another machine's may be off."""
        outputs = {name: trial.outputs for name, trial in self.trials.items()}
        made = {file.name: self._provenance(file) for file in self.files}
        return Golden(self.pixels, outputs, {file.name: self._tolerance(file) for file in self.files}, made)

    def _provenance(self, file: EncodedModel) -> GoldenProvenance:
        trial = self.trials[file.name]
        subject = Subject(file.data, file.format, file.precision, trial.backend, default_threads(), file.name)
        return golden_provenance(
            subject, self.entry(file), self.pixels, trial.outputs, kernels=trial.kernels,
            allowed=self._tolerance(file), relative=relative_tolerance(self.source.fan_ins()),
        )  # fmt: skip

    def _tolerance(self, file: EncodedModel) -> float:
        held = [found.held for found in self.climbs if found.held is not None and file in found.held.files]
        level = held[0].quantization.graph.output_params.scale if held else None
        facts = self.source.description
        return tolerance(
            self.trials[file.name].outputs, file.precision, level,
            self.source.fan_ins(), probabilities=facts.scores != "logits",
        )  # fmt: skip

    def entry(self, file: EncodedModel) -> ModelFile:
        """The manifest's line: tensors as the interpreter described them."""
        trial = self.trials[file.name]
        return ModelFile(
            file.name, file.format, file.precision, sha256(file.data), len(file.data),
            file.described(trial.input), trial.output, file.preprocess, file.layout,
        )  # fmt: skip


def contents(made: Made, evaluation: Evaluation | None, geometry: Preprocess) -> tuple[dict[str, bytes], Manifest]:
    """Every file of the bundle by name, and its manifest."""
    labels = made.source.description.labels
    found = {file.name: file.data for file in made.files}
    found[GOLDEN_NAME] = golden_bytes(made.golden())
    if labels is not None:
        found[LABELS_NAME] = labels_text(labels)
    facts = {climb.last.recipe.asked: climb.facts() for climb in made.climbs}
    manifest = Manifest(
        model=made.source.description.model,
        classes=made.source.classes,
        scores=made.source.description.scores,
        files=tuple(made.entry(file) for file in made.files),
        labels=None if labels is None else LABELS_NAME,
        labels_sha256=None if labels is None else sha256(found[LABELS_NAME]),
        golden=GOLDEN_NAME,
        golden_sha256=sha256(found[GOLDEN_NAME]),
        source=model_source(made.source),
        quantization=facts.pop("int8", {}) | facts,
        metrics={} if evaluation is None else evaluation_metrics(evaluation, REFERENCE, geometry),
        tools=tool_versions(),
    )
    found[MANIFEST_NAME] = manifest.to_json().encode()
    return found, Manifest.from_json(found[MANIFEST_NAME])  # as anybody will read it
