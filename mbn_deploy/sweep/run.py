"""The sweep itself: what is missing is made, measured, and put into a table; what stands is left alone.

    jobs ──► make, each a task ──► judge, a task a chunk of images ──► latency, here, alone ──► table

A killed sweep goes on where it was when it is started again: bundles and records appear whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.data.dataset import Dataset, load_dataset
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import MANIFEST_NAME
from mbn_deploy.pipeline.bundle_files import REFERENCE
from mbn_deploy.pipeline.export import synset_names
from mbn_deploy.pipeline.manifest_record import evaluation_metrics
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.system.temporary import replace_file
from mbn_deploy.sweep.latency import LatencyPass, measure_latency
from mbn_deploy.sweep.plan import RECORDS, Job, Variant, jobs
from mbn_deploy.sweep.record import Record, bundle_of, failed, manifest_hash, standing, write_record
from mbn_deploy.sweep.table import Row, rows
from mbn_deploy.sweep.tasks import BUG, Chunk, geometry_of, judge, make
from mbn_deploy.sweep.write import write_tables
from mbn_deploy.verify.evaluate import BATCH, Tally, conclude

CHUNK = 512  # images a task: some seconds of work beside which loading a model is little, and enough tasks for many
SECONDS = 1.0  # of each file, to measure its latency

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sweep:
    """What stands in `folder` now: a record a variant, a row a file, and how many variants were made this time."""

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
    out: str | Path,
    *,
    executor: Executor | None = None,
    latency: float = SECONDS,
    chunk: int = CHUNK,
    progress: Progress = silent,
    **options: Any,
) -> Sweep:
    """Make a bundle of every variant in the folder `out`, and a table of all their files.

    Args:
        variants: see `plan.networks` and `plan.files`.
        out: `<variant>/` are bundles, `records/` says how each was made, `table.csv`, `.json` and `.html` compare.
        executor: who does the work (`processes.Processes`, `dask.dask_executor`, any other); by default this process.
        latency: seconds for which each file is measured at the end, on this machine and on nothing else's side,
            with one thread; 0 leaves it out. Measured where jobs run beside each other it would be of no use.
        chunk: images a task of the evaluation, a multiple of 32: then the numbers are those of one pass, bit for bit.
        progress: is told of every step.
        options: of `pipeline.export`, for all variants.

    A variant that stands with an equal request (options, weights, images, versions of tools) is not made again. One
    that fails is recorded, and the rest goes on; it is tried again the next time, unless the accuracy guard refused it.
    With `max_drop` the guard evaluates inside of the variant's own task; else evaluation is split into chunks.

    Raises `UsageError` and `InputError` for what would be wrong with all variants.
    """
    planned = check(variants, out, options)
    if chunk < BATCH or chunk % BATCH:
        raise UsageError(f"a chunk is a multiple of {BATCH} images, not {chunk}")
    if latency < 0:
        raise UsageError(f"seconds of latency cannot be below 0, as {latency:g} is")
    found = {job.variant.name: record for job in planned if (record := standing(job)) is not None}
    missing = [job for job in planned if job.variant.name not in found]
    for job, outcome in _told(_each(executor, make, missing), "make variants", len(missing), progress):
        found[job.variant.name] = _kept(job, outcome)
    for record in _judged(executor, planned, found, chunk, progress):
        found[record.name] = record
    records = [found[job.variant.name] for job in planned]
    bundles = [bundle_of(job, record) for job, record in zip(planned, records, strict=True)]
    write_tables(Path(out), rows(planned, records, bundles, None), None)
    timed = measure_latency(Path(out), [b for b in bundles if b is not None], latency, progress) if latency else None
    table = rows(planned, records, bundles, timed)
    write_tables(Path(out), table, timed)
    return Sweep(Path(out), tuple(records), tuple(table), timed, len(missing))


def check(variants: Sequence[Variant], out: str | Path, options: Mapping[str, Any]) -> list[Job]:
    """The jobs of a sweep, and its folder: all that can be wrong before anything is started. Raises as `sweep`."""
    planned = jobs(variants, out, options)
    _folder(Path(out))
    return planned


def _folder(out: Path) -> None:
    """Make the sweep's folder, or take that of an earlier one."""
    try:
        if out.is_dir() and any(out.iterdir()) and not (out / RECORDS).is_dir():
            raise UsageError(f"{out} is not empty and holds no sweep; choose another folder")
        (out / RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made a sweep's folder: {error.strerror or error}") from error


def _each(
    executor: Executor | None, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Each item with what the function returned or raised, as they are done; in order without an executor."""
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
        raise InputError("the executor gave up; what is made stands, start the sweep again to go on") from error
    if error is not None and not isinstance(error, Exception):
        raise error  # Ctrl-C in the task
    return future.result() if error is None else error


def _told(found: Iterator[Item], step: str, total: int, progress: Progress) -> Iterator[Item]:
    for done, item in enumerate(found, 1):
        yield item
        progress(step, done, total)


def _kept(job: Job, outcome: Record | Exception) -> Record:
    """The task's own record, or that of a task that could not write one."""
    if isinstance(outcome, Record):
        return outcome
    record = failed(job, str(outcome) or repr(outcome), getattr(outcome, "exit_code", BUG))
    write_record(job, record)
    return record


@dataclass(eq=False)
class _Measurement:
    """A bundle that is being evaluated: its images and the parts that are there, by where they begin."""

    job: Job
    record: Record
    bundle: Bundle
    images: Dataset
    parts: dict[int, dict[str, Tally]]
    missing: set[int]


def _judged(
    executor: Executor | None, planned: Sequence[Job], found: dict[str, Record], chunk: int, progress: Progress
) -> Iterator[Record]:
    """Evaluate every bundle that is made and not measured, and finish its manifest; the records that follow."""
    open_ones: dict[str, _Measurement] = {}
    tasks: list[tuple[str, int, Chunk]] = []
    for job in planned:
        record = found[job.variant.name]
        if record.status != "made":
            continue
        try:
            begun = _begun(job, record, chunk)
        except InputError as error:
            yield _kept(job, error)
            continue
        open_ones[record.name] = begun
        tasks += [(record.name, start, _chunk(begun, start, chunk)) for start in sorted(begun.missing)]
    for (name, start, _), outcome in _told(_each(executor, _part, tasks), "evaluate", len(tasks), progress):
        begun = open_ones[name]
        if isinstance(outcome, Exception):
            if begun.missing:  # the first of its chunks that failed speaks for it
                begun.missing.clear()
                yield _kept(begun.job, outcome)
            continue
        begun.parts[start] = outcome
        if begun.missing and len(begun.parts) == len(begun.missing):
            yield _concluded(begun)
            begun.parts.clear()  # of 50,000 images they are many bytes
            begun.missing.clear()


def _part(task: tuple[str, int, Chunk]) -> dict[str, Tally]:
    return judge(task[2])


def _begun(job: Job, record: Record, chunk: int) -> _Measurement:
    bundle, options = Bundle.read(job.folder), job.options
    images = load_dataset(
        options["evaluate"], bundle.manifest.classes, labels=bundle.labels,
        synsets=synset_names(options.get("synsets")), unlabelled=True,
    )  # fmt: skip
    return _Measurement(job, record, bundle, images, {}, set(range(0, len(images), chunk)))


def _chunk(begun: _Measurement, start: int, count: int) -> Chunk:
    images, bundle = begun.images, begun.bundle
    part = Dataset(images.name, images.paths[start : start + count], images.classes[start : start + count])
    return Chunk(
        begun.job, begun.record.manifest or "", part, geometry_of(bundle, begun.job.options),
        bundle.files[0].picture[:2],
        bundle.manifest.scores,
    )  # fmt: skip


def _concluded(begun: _Measurement) -> Record:
    """All chunks are there: the metrics go into the manifest, as an export in one piece writes them."""
    parts = [begun.parts[start] for start in sorted(begun.parts)]
    evaluation = conclude(parts, begun.images, REFERENCE)
    geometry = geometry_of(begun.bundle, begun.job.options)
    manifest = replace(begun.bundle.manifest, metrics=evaluation_metrics(evaluation, REFERENCE, geometry))
    replace_file(begun.job.folder / MANIFEST_NAME, manifest.to_json().encode())
    record = replace(begun.record, status="done", manifest=manifest_hash(begun.job.folder))
    write_record(begun.job, record)
    return record
