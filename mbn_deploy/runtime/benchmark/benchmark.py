"""Measure latency, memory and opening time of model files on this machine, for `mbn-deploy benchmark`."""

from __future__ import annotations

import json
import math
import platform
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime.backends import BACKENDS
from mbn_deploy.runtime.backends.modules import PACKAGES, backend_version
from mbn_deploy.runtime.benchmark.opening_cost import OpeningCost, measure_opening_cost
from mbn_deploy.runtime.benchmark.targets import (
    BenchmarkImage,
    Target,
    TargetOptions,
    find_targets,
    synthetic_image,
)
from mbn_deploy.runtime.benchmark.timing import Amount, Block, Case, Steadiness, measure, steadiness
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.system.device import Condition, Machine, condition, this_machine, usable_processors
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.threads import ThreadRecord, ThreadsFrom, best_count, candidate_counts
from mbn_deploy.text import plural

KIND, SCHEMA_VERSION = "mbn-deploy benchmark", 1
UNITS = {"times": "seconds", "memory": "bytes", "temperatures": "degrees Celsius", "frequencies": "MHz"}
OPENINGS = 3  # fresh processes for each file, of which the medians are used
BUSY_LOAD = 0.5  # runnable processes per processor, before anything is measured
HOT = 80.0  # degrees Celsius at which a Raspberry Pi begins to slow down


@dataclass(frozen=True)
class Measurement:
    """One file with one number of threads. Times are in seconds; `quantiles` are by phase (see `timing.Case`).

    `cost` is measured once for each file, with the first of its numbers of threads. It is None if it was not asked
    for or no process could be started; `cost_absent` then says why.
    """

    file: str
    path: str
    sha256: str
    size: int
    model: str
    format: str
    precision: str
    backend: str
    version: str
    threads: int
    threads_from: ThreadsFrom
    input: tuple[int, ...]
    runs: int
    quantiles: dict[str, dict[str, float]]
    blocks: tuple[Block, ...]
    steadiness: Steadiness | None
    cost: OpeningCost | None
    cost_absent: str | None


@dataclass(frozen=True)
class Benchmark:
    """The measurements of one benchmark, with the machine's state before and after.

    `tuned` has one record for each file if the number of threads was tuned. `failed` gives the error of each file that
    could not be opened. `notes` are sentences that a reader of the figures must know.
    """

    machine: Machine
    software: dict[str, str]
    before: Condition
    after: Condition
    amount: Amount
    picture: BenchmarkImage
    cases: tuple[Measurement, ...]
    tuned: tuple[ThreadRecord, ...]
    failed: dict[str, str]
    notes: tuple[str, ...]

    def hashes_in(self, folder: Path) -> set[str]:
        """Return the sha256 of the measured files of a bundle."""
        return {case.sha256 for case in self.cases if Path(case.path).parent == folder}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON value for `comparison.read_benchmark`; it has the image's size and sha256, not its bytes."""
        data: dict[str, Any] = {"kind": KIND, "schema_version": SCHEMA_VERSION, "units": UNITS} | asdict(self)
        data["machine"]["key"] = self.machine.key
        contents = data["picture"].pop("data")
        data["picture"] |= {"bytes": len(contents), "sha256": sha256(contents)}
        return data

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"


def benchmark(
    paths: Sequence[str | PathLike[str]],
    *,
    options: TargetOptions | None = None,
    threads: Sequence[int | None] = (None,),
    amount: Amount | None = None,
    image: BenchmarkImage | None = None,
    tune: bool = False,
    openings: int = OPENINGS,
    progress: Progress = silent,
) -> Benchmark:
    """Measure every file at `paths` with every number of `threads`, in turns.

    Args:
        paths: bundles' folders (all of their files that fit the options and run here) and single files.
        options: how the files are opened.
        threads: numbers of threads; None is the default of `Classifier.open`.
        amount: how much is measured of each case; by default 10 seconds.
        image: the image that is classified; by default a synthetic one.
        tune: measure all of `threads.candidate_counts` instead and find the best number for each file. The caller
            keeps the records (`threads.write_cache`, `threads.write_to_bundle`).
        openings: how many processes are started to measure what opening each file costs; 0 leaves it out.
        progress: called between measurements, never during one.

    Raises:
        UsageError: amounts below 1, no paths, or an option that makes no sense.
        InputError: see `Classifier.open`. With several files, those that cannot be opened are left out and named in
            `failed`, unless all fail.
        MissingExtraError: see `Classifier.open`.
    """
    amount, image = amount or Amount(), image or synthetic_image()
    counts = candidate_counts(usable_processors()) if tune else tuple(dict.fromkeys(threads))
    _check(paths, counts, amount, openings)
    targets, left_out = find_targets(paths, options or TargetOptions())
    with ExitStack() as stack:
        cases, failed = _open_cases(targets, counts, image, stack)
        costs = _opening_costs(cases, targets, image, openings, progress) if openings else {}
        before = condition()
        measure(cases, amount, progress)
        after = condition()
        measurements = tuple(_measurement(case, costs.get(case.name), len(cases)) for case in cases)
    machine = this_machine()
    return Benchmark(
        machine=machine,
        software=_software_versions(measurements),
        before=before,
        after=after,
        amount=amount,
        picture=image,
        cases=measurements,
        tuned=tuple(_thread_records(measurements, machine)) if tune else (),
        failed=failed,
        notes=(
            *_machine_notes(before, after, machine),
            *_steadiness_notes(measurements),
            *_absence_notes(measurements, left_out),
        ),
    )


def _check(paths: Sequence[object], threads: Sequence[int | None], amount: Amount, openings: int) -> None:
    if not paths:
        raise UsageError("nothing to measure: give a bundle or a model file")
    if not threads or any(count is not None and count < 1 for count in threads):
        raise UsageError(f"--threads must be at least 1, not {', '.join(map(str, threads)) or 'none'}")
    if (amount.runs is None) == (amount.seconds is None):
        raise UsageError("give exactly one of --runs and --seconds")
    if amount.runs is not None and amount.runs < 1:
        raise UsageError(f"--runs must be at least 1, not {amount.runs}")
    if amount.seconds is not None and not 0 < amount.seconds < math.inf:
        raise UsageError(f"--seconds must be above 0, not {amount.seconds}")
    if amount.warmup < 0:
        raise UsageError(f"--warmup must be at least 0, not {amount.warmup}")
    if openings < 0:
        raise UsageError(f"--openings must be at least 0, not {openings}")


def _open_cases(
    targets: Sequence[Target], threads: Sequence[int | None], image: BenchmarkImage, stack: ExitStack
) -> tuple[list[Case], dict[str, str]]:
    """Open all files with all numbers of threads; return the cases, and the errors by the name of the file."""
    cases: list[Case] = []
    failed: dict[str, str] = {}
    for target in targets:
        options = asdict(target.options)
        try:
            for count in threads:
                classifier = stack.enter_context(Classifier.open(target.path, threads=count, **options))
                cases.append(Case(target.name, classifier, image.data))
        except InputError as error:
            if len(targets) == 1:
                raise
            failed[target.name] = str(error)
    if not cases:
        raise InputError("; ".join(failed.values()))
    return cases, failed


def _opening_costs(
    cases: Sequence[Case], targets: Sequence[Target], image: BenchmarkImage, openings: int, progress: Progress
) -> dict[str, OpeningCost | str]:
    """Measure each file's opening with the first of its numbers of threads; other numbers change little of it."""
    first_cases = {case.name: case for case in reversed(cases)}
    opened = [target for target in targets if target.name in first_cases]
    costs: dict[str, OpeningCost | str] = {}
    for index, target in enumerate(opened):
        progress("opening", index, len(opened))
        info = first_cases[target.name].classifier.info
        tried = replace(target.options, backend=info.backend, isolate=bool(target.options.isolate))  # opened above
        options = asdict(tried) | {"threads": info.threads}
        costs[target.name] = _median_cost(target.path, options, image, openings)
    progress("opening", len(opened), len(opened))
    return costs


def _median_cost(path: Path, options: dict[str, Any], image: BenchmarkImage, openings: int) -> OpeningCost | str:
    """Return the medians of `openings` fresh processes, or why one of them failed."""
    costs = []
    for _ in range(openings):
        cost = measure_opening_cost(path, options, image.data)
        if isinstance(cost, str):
            return cost
        costs.append(cost)
    columns = {field.name: [getattr(cost, field.name) for cost in costs] for field in fields(OpeningCost)}
    medians: dict[str, Any] = {k: None if None in v else statistics.median_low(v) for k, v in columns.items()}
    return OpeningCost(**medians)


def _measurement(case: Case, cost: OpeningCost | str | None, cases: int) -> Measurement:
    info = case.classifier.info
    contents = read_file(Path(info.path))
    return Measurement(
        file=case.name,
        path=info.path,
        sha256=sha256(contents),
        size=len(contents),
        model=info.model,
        format=info.format,
        precision=info.precision,
        backend=info.backend,
        version=backend_version(info.backend) or "unknown",
        threads=info.threads,
        threads_from=info.threads_from,
        input=info.input.shape,
        runs=len(case.times[0]),
        quantiles=case.quantiles(),
        blocks=tuple(case.blocks),
        steadiness=steadiness(case.blocks, cases),
        cost=cost if isinstance(cost, OpeningCost) else None,
        cost_absent=cost if isinstance(cost, str) else None,
    )


def _thread_records(measurements: Sequence[Measurement], machine: Machine) -> Iterator[ThreadRecord]:
    """Yield a record with the best number of threads for each file."""
    for name in dict.fromkeys(case.file for case in measurements):
        cases = [case for case in measurements if case.file == name]
        medians = {case.threads: case.quantiles["inference"]["p50"] for case in cases}
        yield ThreadRecord(
            sha256=cases[0].sha256,
            size=cases[0].size,
            backend=cases[0].backend,
            version=cases[0].version,
            machine=machine.key,
            threads=best_count(medians),
            medians={str(count): median for count, median in medians.items()},
        )


def _software_versions(measurements: Sequence[Measurement]) -> dict[str, str]:
    """Return the versions of Python and of the packages that were used."""
    packages = ["mbn-deploy", "numpy", "pillow", *sorted({PACKAGES[case.backend] for case in measurements})]
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _machine_notes(before: Condition, after: Condition, machine: Machine) -> Iterator[str]:
    """Yield what in the machine's state makes the times doubtful."""
    if before.load is not None and before.load > BUSY_LOAD * machine.processors:
        yield (
            f"the machine was busy before the measurement began (load {before.load:.1f} on "
            f"{plural(machine.processors, 'processor')}): times are too long, and another number of threads may be "
            "best; measure again when it is idle"
        )
    slow = [name for name in after.governors if name in ("powersave", "conservative")]
    if slow and before.frequency != before.frequency_limit:
        yield f"the CPU frequency governor is {slow[0]}, which may keep frequencies low; `performance` keeps them high"
    if after.throttled:
        yield f"the board's firmware reports: {', '.join(after.throttling)}"
    if after.hottest is not None and after.hottest >= HOT:
        yield f"{after.hottest:.0f} °C at the end: boards slow down from about {HOT:.0f} °C on; cool it"


def _steadiness_notes(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Yield which cases became slower or faster in the course of the measurement."""
    for case in measurements:
        if case.steadiness is not None and case.steadiness.difference.verdict in ("slower", "faster"):
            ratio = case.steadiness.steady / case.steadiness.burst
            yield (
                f"{case.file} with {plural(case.threads, 'thread')}: an image took {ratio:.2f} times as long in the "
                "last third of the run as in the first seconds; in long use, expect the time of the last third"
            )


def _absence_notes(measurements: Sequence[Measurement], left_out: Sequence[str]) -> Iterator[str]:
    """Yield what was not measured, and why."""
    if left_out:
        missing = sorted({PACKAGES[BACKENDS["onnx" if name.endswith(".onnx") else "tflite"][0]] for name in left_out})
        yield f"left out because {' and '.join(missing)} is not installed: {', '.join(left_out)}"
    yield from dict.fromkeys(
        f"opening time and memory were not measured: {case.cost_absent}" for case in measurements if case.cost_absent
    )
