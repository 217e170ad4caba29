"""A sweep: it exports what is missing, evaluates it, and compares all files in a table.

    plan ──► export, a task per variant ──► evaluate, a task per chunk of images ──► latency, here, alone ──► table

A killed sweep is continued when it is started again: bundles and records are written completely or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.data.dataset import Dataset, load_dataset
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.pipeline.evaluation import REFERENCE
from mbn_deploy.pipeline.images import check_inputs
from mbn_deploy.pipeline.label_names import read_synsets
from mbn_deploy.pipeline.manifest_record import evaluation_metrics
from mbn_deploy.pipeline.option_fields import keywords
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.sweep.latency import LatencyPass, measure_latency
from mbn_deploy.sweep.plan import RECORDS, Job, Variant, plan_jobs
from mbn_deploy.sweep.record import Record, bundle_of, failed, finished_record, manifest_hash, write_record
from mbn_deploy.sweep.table import Row, rows
from mbn_deploy.sweep.tasks import BUG, Chunk, evaluation_preprocess, export_variant, tally_chunk
from mbn_deploy.sweep.write import write_tables
from mbn_deploy.verify.evaluate import BATCH, conclude
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.measures.measure import Columns, Measure

CHUNK = 512  # images per task: seconds of work, beside which loading a model is little, and many tasks to share
SECONDS = 1.0  # for which the latency of a file is measured

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        folder: the sweep's folder.
        records: how the export of each variant went.
        rows: the table, a row per file.
        latency: the latencies that were measured, if any.
        made: number of variants that were exported this time.
    """

    folder: Path
    records: tuple[Record, ...]
    rows: tuple[Row, ...]
    latency: LatencyPass | None
    made: int

    @property
    def failures(self) -> tuple[Record, ...]:
        """The variants that failed, and those whose quantized files the accuracy guard refused."""
        return tuple(record for record in self.records if record.status == "failed")


def sweep(
    variants: Sequence[Variant],
    output: str | Path,
    options: ExportOptions,
    *,
    executor: Executor | None = None,
    latency: float = SECONDS,
    chunk: int = CHUNK,
    progress: Progress = silent,
) -> Sweep:
    """Export every variant to a bundle in the folder `output`, and compare all their files in a table.

    A variant that was exported before with an equal request (options, weights, images, tool versions) is kept. One
    that fails is recorded, and the others go on; it is tried again the next time, unless the accuracy guard refused it.
    With `options.max_drop` the guard evaluates inside the variant's own task; else evaluation is split into chunks.

    Args:
        variants: see `plan.networks` and `plan.files`.
        output: receives a bundle per variant, `records/`, and `table.csv`, `.json` and `.html`.
        options: the options of the export, the same for all variants.
        executor: runs the tasks (`processes.Processes`, `dask.dask_executor`, any other); by default this process.
        latency: seconds for which each file is measured at the end, on this machine, on one thread and with nothing
            running beside it; 0 for no latency.
        chunk: images per task of the evaluation, a multiple of 32: then the results equal those of one pass.
        progress: is told of every step.

    Raises:
        UsageError: the options or variants make no sense.
        InputError: an input that all variants need cannot be used.
    """
    jobs = check(variants, output, options)
    if chunk < BATCH or chunk % BATCH:
        raise UsageError(f"a chunk is a multiple of {BATCH} images, not {chunk}")
    if latency < 0:
        raise UsageError(f"the seconds of the latency measurement cannot be negative, as {latency:g} is")
    records = {job.variant.name: record for job in jobs if (record := finished_record(job)) is not None}
    missing = [job for job in jobs if job.variant.name not in records]
    exports = _with_progress(_each(executor, export_variant, missing), "make variants", len(missing), progress)
    for job, outcome in exports:
        records[job.variant.name] = _record_of(job, outcome)
    for record in _evaluate(executor, jobs, records, chunk, progress):
        records[record.name] = record
    in_order = [records[job.variant.name] for job in jobs]
    bundles = [bundle_of(job, record) for job, record in zip(jobs, in_order, strict=True)]
    write_tables(Path(output), rows(jobs, in_order, bundles, None), None)
    timed = measure_latency(Path(output), [b for b in bundles if b is not None], latency, progress) if latency else None
    table = rows(jobs, in_order, bundles, timed)
    write_tables(Path(output), table, timed)
    return Sweep(folder=Path(output), records=tuple(in_order), rows=tuple(table), latency=timed, made=len(missing))


def check(variants: Sequence[Variant], output: str | Path, options: ExportOptions) -> list[Job]:
    """Plan a sweep and make its folder: find whatever is wrong before anything is started. Raises as `sweep`."""
    check_inputs(keywords(options))
    jobs = plan_jobs(variants, output, options)
    _make_folder(Path(output))
    return jobs


def _make_folder(out: Path) -> None:
    """Make the sweep's folder, unless an earlier sweep did."""
    try:
        if out.is_dir() and any(out.iterdir()) and not (out / RECORDS).is_dir():
            raise UsageError(f"{out} is not empty and holds no sweep; choose another folder")
        (out / RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made a sweep's folder: {error.strerror or error}") from error


def _each(
    executor: Executor | None, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item with what the function returned or raised, as they finish; in order without an executor."""
    if executor is None:
        yield from ((item, _called(function, item)) for item in items)
        return
    futures: dict[Future[Result], Item] = {executor.submit(function, item): item for item in items}
    try:
        for future in as_completed(futures):
            item = futures.pop(future)
            outcome = _outcome(future)
            yield item, outcome
    finally:
        for future in futures:
            future.cancel()


def _called(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except Exception as error:  # noqa: BLE001 (as an executor's future keeps it)
        return error


def _outcome(future: Future[Result]) -> Result | Exception:
    error = future.exception()
    if isinstance(error, (BrokenExecutor, CancelledError)):
        raise InputError(
            "the executor gave up; finished variants are kept, start the sweep again to continue"
        ) from error
    if error is not None and not isinstance(error, Exception):
        raise error  # Ctrl-C in the task
    return future.result() if error is None else error


def _with_progress(items: Iterator[Item], step: str, total: int, progress: Progress) -> Iterator[Item]:
    for done, item in enumerate(items, 1):
        yield item
        progress(step, done, total)


def _record_of(job: Job, outcome: Record | Exception) -> Record:
    """Return the task's record, or one of the exception that it ended with; write it if it is of a failure."""
    record = outcome
    if isinstance(record, Exception):
        record = failed(job, str(outcome) or repr(outcome), getattr(outcome, "exit_code", BUG))
    if record.status == "failed":
        write_record(job, record)
    return record


@dataclass(eq=False)
class _Evaluation:
    """A bundle that is being evaluated: its images, and the tallies of the chunks that are done and those missing.

    Chunks are known by the number of their first image.
    """

    job: Job
    record: Record
    bundle: Bundle
    images: Dataset
    measure: Measure
    tallies: dict[int, dict[str, list[Columns]]]
    missing: set[int]


def _evaluate(
    executor: Executor | None, jobs: Sequence[Job], records: Mapping[str, Record], size: int, progress: Progress
) -> Iterator[Record]:
    """Evaluate every bundle that has not been, in chunks of `size` images; yield the records that change."""
    evaluations: dict[str, _Evaluation] = {}
    tasks: list[tuple[str, int, Chunk]] = []
    for job in jobs:
        record = records[job.variant.name]
        if record.status != "made":
            continue
        try:
            evaluation = _prepare(job, record, size)
        except InputError as error:
            yield _record_of(job, error)
            continue
        evaluations[record.name] = evaluation
        tasks += [(record.name, start, _chunk(evaluation, start, size)) for start in sorted(evaluation.missing)]
    outcomes = _with_progress(_each(executor, _tally, tasks), "evaluate", len(tasks), progress)
    for (name, start, _), outcome in outcomes:
        evaluation = evaluations[name]
        if isinstance(outcome, Exception):
            if evaluation.missing:  # only the first chunk that fails is reported
                evaluation.missing.clear()
                yield _record_of(evaluation.job, outcome)
            continue
        evaluation.tallies[start] = outcome
        if evaluation.missing and len(evaluation.tallies) == len(evaluation.missing):
            yield _conclude(evaluation)
            evaluation.tallies.clear()  # those of 50,000 images take much memory
            evaluation.missing.clear()


def _tally(task: tuple[str, int, Chunk]) -> dict[str, list[Columns]]:
    return tally_chunk(task[2])


def _prepare(job: Job, record: Record, size: int) -> _Evaluation:
    bundle, folder = Bundle.read(job.folder), job.options.evaluate
    if folder is None:
        raise ValueError("a bundle is evaluated on images")
    images = load_dataset(
        folder,
        bundle.manifest.classes,
        answers=bundle.manifest.answers,
        labels=bundle.labels,
        synsets=read_synsets(job.options.synsets),
        unlabelled=True,
    )
    return _Evaluation(
        job=job,
        record=record,
        bundle=bundle,
        images=images,
        measure=measure_for(bundle.manifest.answers, images.names, len(images), job.options.threshold),
        tallies={},
        missing=set(range(0, len(images), size)),
    )


def _chunk(evaluation: _Evaluation, start: int, count: int) -> Chunk:
    images, bundle = evaluation.images, evaluation.bundle
    return Chunk(
        job=evaluation.job,
        manifest=evaluation.record.manifest or "",
        images=images.chosen(range(start, min(start + count, len(images)))),
        preprocess=evaluation_preprocess(bundle, evaluation.job.options),
        size=bundle.files[0].picture[:2],
        measure=evaluation.measure,
        first=start,
    )


def _conclude(evaluation: _Evaluation) -> Record:
    """Write the metrics into the manifest, as an export in one piece does; return the record."""
    parts = [evaluation.tallies[start] for start in sorted(evaluation.tallies)]
    concluded = conclude(parts, evaluation.images, evaluation.measure, REFERENCE)
    preprocess = evaluation_preprocess(evaluation.bundle, evaluation.job.options)
    manifest = replace(evaluation.bundle.manifest, metrics=evaluation_metrics(concluded, REFERENCE, preprocess))
    replace_file(evaluation.job.folder / MANIFEST_NAME, manifest.to_json().encode())
    record = replace(evaluation.record, status="done", manifest=manifest_hash(evaluation.job.folder))
    write_record(evaluation.job, record)
    return record
