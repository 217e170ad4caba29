"""The main job: a Keras model goes in, a verified bundle comes out.

    model ──► float graph ──► files ──► each opened and run ──► evaluated ──► bundle

Every step is a function that returns a value; nothing is written before all of them succeeded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mbn_deploy.arrays import Floats, Pixels
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.bundle.write import check_target, write_bundle
from mbn_deploy.data.dataset import Dataset, all_images, load_dataset
from mbn_deploy.errors import VerificationError
from mbn_deploy.export.encode import DEFAULT_PRECISIONS, EncodedModel, encode_float, encode_int8, with_batch
from mbn_deploy.export.tflite.metadata import NOTHING_SAID, About
from mbn_deploy.manifest import REPORT_NAME, Manifest, Preprocess, Resize
from mbn_deploy.pipeline.bundle_files import REFERENCE, Made, candidate, contents
from mbn_deploy.pipeline.options import FORMATS, Names, Request
from mbn_deploy.pipeline.recipe_search import Attempt, Climb, climb, failure, ladder_of, latency
from mbn_deploy.pipeline.report_data import Sources, report_html
from mbn_deploy.pipeline.source import Source, lines, open_source
from mbn_deploy.progress import Progress, silent
from mbn_deploy.quantize.calibration import CalibrationSet, load_calibration
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import Recipe
from mbn_deploy.report.examples import preferred
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.verify.chance import chance_level_warning
from mbn_deploy.verify.evaluate import Evaluation, Predictor, keras_predictor, predict_all
from mbn_deploy.verify.evaluate import evaluate as measure
from mbn_deploy.verify.golden import golden_pixels
from mbn_deploy.verify.guard import RecipeResult, judge, sentence
from mbn_deploy.verify.interpreter_process import RunResult, run_files
from mbn_deploy.verify.runner import FileRunner
from mbn_deploy.verify.scores import TopAnswers, top_answers

if TYPE_CHECKING:
    import keras

__all__ = ["DEFAULT_PRECISIONS", "FORMATS", "ExportResult", "Request", "export_model"]

CALIBRATION = 16  # calibration images that are compared where nothing is evaluated


@dataclass(frozen=True, eq=False)
class ExportResult:
    """The bundle that an export wrote, and what is known of the export but not part of the bundle.

    Attributes:
        bundle: The bundle, as `Bundle.read` would open it.
        seconds: How long each step took, by the step's name.
        warnings: What the user should know: about the calibration images, the accuracy limit and the labels.
        searches: The recipes that were tried for each quantized precision.
    """

    bundle: Bundle
    seconds: dict[str, float]
    warnings: tuple[str, ...]
    searches: tuple[Climb, ...]


def export_model(
    model: keras.Model | str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    preprocess: Preprocess | None = None,
    resize: str | None = None,
    crop_fraction: float | None = None,
    filter: str | None = None,  # noqa: A002 - the manifest's own word
    formats: Sequence[str] = FORMATS,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
    calibration: str | Path | None = None,
    calibration_count: int = 200,
    seed: int = 0,
    evaluate: str | Path | None = None,
    evaluate_resize: str | None = None,
    exclude: str | Path | None = None,
    labels: Names | None = None,
    synsets: Names | None = None,
    input_dtype: str = "uint8",
    layout: str = "nchw",
    onnx_activations: str = "uint8",
    batch: int = 1,
    overwrite: bool = False,
    recipe: str | None = None,
    granularity: str = "per-channel",
    float_layers: Sequence[str] = (),
    int16_layers: Sequence[str] = (),
    max_drop: float | None = None,
    about: About = NOTHING_SAID,
    report: bool = True,
    report_images: bool = True,
    progress: Progress = silent,
) -> ExportResult:
    """Export `model` to the bundle `out`, all or nothing.

    Args:
        model: a Keras model, or a user's .keras or .h5 file.
        out: the folder that becomes the bundle.
        name: how the files' names begin; by default the model's own name. The input size is put behind it.
        size: input size (one number, or (height, width)) of a model that leaves it open.
        preprocess: how pixels become the input of the Keras model. A model of `build` knows its own,
            and one that rescales inside takes [0, 255] if nothing is said.
        resize: `squash`, `crop` or `letterbox`; wins over `preprocess`, as the next two do.
        crop_fraction: the share of the picture that a centre crop keeps.
        filter: how pictures are resampled.
        formats: out of `tflite`, `onnx`.
        precisions: out of `float32`, `float16`, `dynamic`, `int8` (all of these if nothing is said) and `int16x8`
            (activations of 16 bits); ONNX is written as float32 and int8.
        calibration: a folder of images or an .npz; int8 and int16x8 need it.
        calibration_count: how many of them are used.
        seed: which of them.
        evaluate: a folder with one sub-folder a class: every file's accuracy goes into the manifest.
            A folder of images alone gives agreement with the float model only.
        evaluate_resize: how those images are resized, where it differs from `preprocess.resize`.
        exclude: a folder of images that must not be calibrated on: those of an evaluation that comes later. Those of
            `evaluate` are left out anyway.
        labels: line i is the name of class i.
        synsets: line i is the name that sub-folders of `evaluate` have for class i.
        input_dtype: of int8 and int16x8 files, `uint8` (raw pixels), `int8` or `float32`; of int16x8 `int16`, too.
        layout: of the input of ONNX files, `nchw` or `nhwc`.
        onnx_activations: of int8 ONNX files, `uint8` (integers on every processor) or `int8` (worth a trial
            on ARM64, float in part on x86-64; see `export.onnx.qdq.write_onnx_int8`).
        batch: images at once, fixed in the files.
        overwrite: replace a bundle that stands at `out`.
        recipe: how int8 is made (`quantize.recipe.RECIPES`); by default the first rung of the ladder.
        granularity: of int8 weights, `per-channel` or `per-tensor`.
        float_layers: layers that stay in float in int8 files, by name; the files are then `int8-mixed`.
        int16_layers: layers with activations of 16 bits in int8 files (TFLite only), which then are `int8-mixed`.
        max_drop: points of top-1 that int8 and int16x8 may lose against the Keras model on `evaluate`. Recipes are
            tried, cheapest on the device first, until one keeps to it; a given `recipe` is the only one tried.
        about: description, version, author and licence of the model, for the files' metadata and the manifest.
        report: write `report.html`, the page for people. It holds measured times and so is the only file of the
            bundle that is not the same for the same input.
        report_images: show some pictures of `evaluate` in it, small.
        progress: is told of every step.

    Returns:
        The bundle that was written, the seconds of each step, warnings, and the recipes that were tried.

    Raises:
        UsageError: an option that makes no sense, or something that must be said is not.
        InputError: model, images or labels that cannot be used; a full disk or a missing permission.
        VerificationError: a file was made that the default interpreter refuses; or no int8 or no int16x8 file
            keeps to `max_drop`: then the bundle has all files but those, if there are any.
    """
    request = Request(
        name=name, size=size, preprocess=preprocess, resize=resize, crop_fraction=crop_fraction, filter=filter,
        formats=tuple(formats), precisions=tuple(precisions), calibration=calibration,
        calibration_count=calibration_count, seed=seed, evaluate=evaluate, evaluate_resize=evaluate_resize,
        exclude=exclude, labels=labels, synsets=synsets, input_dtype=input_dtype, layout=layout, batch=batch,
        overwrite=overwrite, onnx_activations=onnx_activations, recipe=recipe,
        granularity=granularity, float_layers=tuple(float_layers), int16_layers=tuple(int16_layers),
        max_drop=max_drop, about=about,
    )  # fmt: skip
    check_target(Path(out), overwrite=overwrite)
    clock = _Clock(progress)
    with clock.step("read the model"):
        source = open_source(model, request)
    with clock.step("load images"):
        images = _images(request, source, progress)
    work = _Work(request, source, images, clock)
    climbs = work.climbed()
    files = work.files(climbs)
    failed = [found for found in climbs if found.held is None]
    if not files and failed:
        raise VerificationError(work.failure(failed, files))
    with clock.step("try the files"):
        pixels = golden_pixels(images.calibrating(), source.size, source.channels, seed)
        trials = run_files({file.name: candidate(file) for file in files}, pixels)
    with clock.step("evaluate the files"):
        evaluation = work.evaluated(files, trials)
    with clock.step("write the bundle"):
        made = Made(source, climbs, files, trials, pixels)
        written, manifest = contents(made, evaluation, images.geometry)
    warnings = work.warnings(climbs, evaluation)
    if report:
        with clock.step("write the report"):
            answers = evaluation.answers if evaluation is not None else work.calibration_answers(files, trials)
            written[REPORT_NAME] = work.report(Path(out), manifest, made, warnings, answers, pictures=report_images)
    with clock.step("write the bundle"):
        write_bundle(Path(out), written, overwrite=overwrite)
    if failed:
        raise VerificationError(f"{work.failure(failed, files)}. {Path(out)} has the other files")
    bundle = Bundle(folder=Path(out), manifest=manifest, labels=source.description.labels)
    return ExportResult(bundle=bundle, seconds=clock.seconds, warnings=warnings, searches=climbs)


class _Clock:
    """Seconds by step, and the same steps for `progress`."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self.progress = progress

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.progress(name, 0, 1)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.progress(name, 1, 1)


@dataclass(frozen=True, eq=False)
class _Images:
    """What is calibrated on and what is measured on; `geometry` says how the latter are resized."""

    calibration: CalibrationSet | None
    dataset: Dataset | None
    geometry: Preprocess

    def calibrating(self) -> Pixels | None:
        return None if self.calibration is None else self.calibration.pixels


def _images(request: Request, source: Source, progress: Progress) -> _Images:
    own = source.description.preprocess
    geometry = replace(own, resize=cast("Resize", request.evaluate_resize or own.resize))
    dataset, exclude = None, frozenset[str]()
    if request.evaluate is not None:
        folders = synset_names(request.synsets)
        dataset = load_dataset(
            request.evaluate, source.classes, labels=source.description.labels, synsets=folders, unlabelled=True
        )
        exclude = dataset.hashes(source.size, geometry, progress)
    if request.exclude is not None and request.quantized:
        exclude |= all_images(request.exclude).hashes(source.size, geometry, progress)
    calibration = None
    if request.quantized and request.calibration is not None:
        calibration = load_calibration(
            request.calibration, source.size, own,
            count=request.calibration_count, seed=request.seed, exclude=exclude, progress=progress,
        )  # fmt: skip
    return _Images(calibration, dataset, geometry)


def synset_names(names: Names | None) -> list[str] | None:
    """The first word of each line: files that list synsets often have their meaning behind it."""
    return None if names is None else [line.split()[0] for line in lines(names) if line.strip()]


class _Work:
    """The steps between the model and the bundle, and what they share: the float answers, worked out once."""

    def __init__(self, request: Request, source: Source, images: _Images, clock: _Clock) -> None:
        self.request, self.source, self.images, self.clock = request, source, images, clock
        self._keras = keras_predictor(source.model, source.keras_preprocess)
        self._keras_scores: Floats | None = None

    def climbed(self) -> tuple[Climb, ...]:
        """The quantized files, by the first recipe that keeps the accuracy; one climb a precision asked for."""
        request = self.request
        if self.images.calibration is None:
            return ()
        ladders = [ladder_of(precision, self.source.graph, request) for precision in request.quantized]
        return tuple(climb(tried, self._attempt, None if request.max_drop is None else self._rung) for tried in ladders)

    def _attempt(self, recipe: Recipe) -> Attempt:
        calibration = self.images.calibration
        if calibration is None:
            raise ValueError("an attempt at int8 without calibration images")
        with self.clock.step("quantize"):
            facts = self.source.description
            made = quantize(self.source.graph, facts.preprocess, calibration, recipe, self.clock.progress)
        request = self.request
        integers = replace(made.graph, graph=with_batch(made.graph.graph, request.batch))
        files = []
        for file_format, precision in request.files():
            if precision == recipe.asked:
                with self.clock.step(f"write {file_format} {precision}"):
                    encoded = encode_int8(
                        integers, made.preprocess, self.source.description, file_format,
                        input_dtype=request.input_type, activation_dtype=request.activation_type,
                    )  # fmt: skip
                    files.append(encoded)
        return Attempt(recipe, made, tuple(files))

    def _rung(self, attempt: Attempt) -> RecipeResult:
        """What the attempt loses, in a process of its own first: a file that crashes must not be run here."""
        pixels = golden_pixels(self.images.calibrating(), self.source.size, self.source.channels, self.request.seed)
        with self.clock.step("try the recipes"):
            trials = run_files({file.name: candidate(file) for file in attempt.files}, pixels)
            evaluation = self.evaluated(attempt.files, trials)
            if evaluation is None or self.request.max_drop is None:
                raise ValueError("a rung is judged by images and a largest drop")
            verdict = judge(evaluation, [file.name for file in attempt.files], self.request.max_drop)
            first = attempt.files[0]
            return RecipeResult(attempt.recipe.name, first.precision, verdict, len(first.data), latency(first))

    def files(self, climbs: Sequence[Climb]) -> list[EncodedModel]:
        """Every file of the bundle, in the order of the request; quantized ones only if they hold."""
        graph = with_batch(self.source.graph, self.request.batch)
        held = {found.last.recipe.asked: () if found.held is None else found.held.files for found in climbs}
        files = []
        for file_format, precision in self.request.files():
            if precision in held:
                files += [file for file in held[precision] if file.format == file_format]
            else:
                with self.clock.step(f"write {file_format} {precision}"):
                    files.append(encode_float(graph, self.source.description, file_format, precision))
        return files

    def evaluated(self, files: Sequence[EncodedModel], trials: dict[str, RunResult]) -> Evaluation | None:
        """Files beside the Keras model, image by image; `None` without images."""
        dataset, geometry = self.images.dataset, self.images.geometry
        if dataset is None:
            return None
        if self._keras_scores is None:
            self._keras_scores = predict_all(
                self._keras, dataset, self.source.size, geometry,
                step="classify with Keras", progress=self.clock.progress,
            )  # fmt: skip
        return measure(
            {file.name: self._predictor(file, trials) for file in files}, dataset, self.source.size, geometry,
            known={REFERENCE: self._keras_scores}, reference=REFERENCE,
            scores=self.source.description.scores, progress=self.clock.progress,
        )  # fmt: skip

    def calibration_answers(self, files: Sequence[EncodedModel], trials: dict[str, RunResult]) -> dict[str, TopAnswers]:
        """The answers to some calibration images, for the report's examples where nothing is evaluated."""
        shown, pixels = preferred({file.name: file.precision for file in files}), self.images.calibrating()
        if shown is None or pixels is None:
            return {}
        file = next(file for file in files if file.name == shown)
        predictors = {REFERENCE: self._keras, file.name: self._predictor(file, trials)}
        scores = self.source.description.scores
        return {name: top_answers(predict(pixels[:CALIBRATION]), scores) for name, predict in predictors.items()}

    def _predictor(self, file: EncodedModel, trials: dict[str, RunResult]) -> Predictor:
        backend = open_backend(file.data, file.format, where=file.name)
        return FileRunner(backend, file.preprocess, file.layout, file.described(trials[file.name].input))

    def report(
        self,
        out: Path,
        manifest: Manifest,
        made: Made,
        warnings: tuple[str, ...],
        answers: dict[str, TopAnswers],
        *,
        pictures: bool,
    ) -> bytes:
        """`report.html`."""
        images, request = self.images, self.request
        return report_html(
            Sources(
                folder=out, manifest=manifest, labels=self.source.description.labels,
                files=made.files, climbs=made.climbs,
                calibration=images.calibration, dataset=images.dataset, geometry=images.geometry,
                size=self.source.size, answers=answers, max_drop=request.max_drop,
                warnings=warnings, pictures=pictures,
            )
        )  # fmt: skip

    def failure(self, failed: Sequence[Climb], files: Sequence[EncodedModel]) -> str:
        """Why there is no int8 or no int16x8 file."""
        data = self.request.calibration if self.request.evaluate is None else self.request.evaluate
        return ". ".join(failure(found, files, Path(data or ""), self.request.max_drop or 0.0) for found in failed)

    def warnings(self, climbs: Sequence[Climb], evaluation: Evaluation | None) -> tuple[str, ...]:
        """About the images, the ranges they gave, what they do not decide, and a model that knows nothing of them."""
        calibration, max_drop = self.images.calibration, self.request.max_drop
        about = list(() if calibration is None else calibration.warnings)
        for found in climbs:
            about += found.last.quantization.warnings
            if max_drop is not None and found.rungs and not found.rungs[-1].verdict.decided:
                about.append(sentence(found.rungs[-1].verdict, max_drop))
        if evaluation is not None and REFERENCE in evaluation.accuracy:
            about += filter(None, [chance_level_warning(evaluation.accuracy[REFERENCE], self.source.classes)])
        return tuple(dict.fromkeys(about))
