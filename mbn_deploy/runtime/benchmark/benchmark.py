"""Measuring files on the machine at hand: `mbn-deploy benchmark`, and what is kept of it as JSON."""

from __future__ import annotations

import hashlib
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
from mbn_deploy.runtime.backends import BACKENDS, PACKAGES, backend_version
from mbn_deploy.runtime.benchmark.opening_cost import Cost, opening_cost
from mbn_deploy.runtime.benchmark.targets import Choice, Picture, Target, synthetic_picture, targets
from mbn_deploy.runtime.benchmark.timing import Amount, Block, Case, Progress, Steadiness, measure, steadiness
from mbn_deploy.runtime.classifier import Classifier
from mbn_deploy.runtime.system.device import Condition, Machine, condition, this_machine, usable_processors
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.runtime.threads import ThreadRecord, ThreadsFrom, best_count, candidate_counts

KIND, SCHEMA_VERSION = "mbn-deploy benchmark", 1
UNITS = {"times": "seconds", "memory": "bytes", "temperatures": "degrees Celsius", "frequencies": "MHz"}
OPENINGS = 3  # fresh processes a file; medians count
BUSY = 0.5  # runnable processes a processor, before anything is measured
HOT = 80.0  # degrees Celsius: where a Raspberry Pi begins to slow down


@dataclass(frozen=True)
class Measured:
    """One file with one number of threads. Times are seconds; `quantiles` are by phase (see `timing.Case`).

    `cost` is the file's, with the first of its numbers of threads; None where it was not asked for, or no process
    could be started: then `cost_absent` says why.
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
    cost: Cost | None
    cost_absent: str | None


@dataclass(frozen=True)
class Benchmark:
    """A whole measurement.

    `tuned` has a record a file if thread counts were tuned; `failed` says by name what the interpreter refused;
    `notes` is what a reader of the figures must know.
    """

    machine: Machine
    software: dict[str, str]
    before: Condition
    after: Condition
    amount: Amount
    picture: Picture
    cases: tuple[Measured, ...]
    tuned: tuple[ThreadRecord, ...]
    failed: dict[str, str]
    notes: tuple[str, ...]

    def files_in(self, folder: Path) -> set[str]:
        """The sha256 of the files in a bundle's folder that were measured."""
        return {case.sha256 for case in self.cases if Path(case.path).parent == folder}

    def to_dict(self) -> dict[str, Any]:
        """A JSON value that `comparison.read_benchmark` takes; the picture by size and sha256."""
        data: dict[str, Any] = {"kind": KIND, "schema_version": SCHEMA_VERSION, "units": UNITS} | asdict(self)
        data["machine"]["key"] = self.machine.key
        contents = data["picture"].pop("data")
        data["picture"] |= {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
        return data

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"


def benchmark(
    paths: Sequence[str | PathLike[str]],
    *,
    choice: Choice | None = None,
    threads: Sequence[int | None] = (None,),
    amount: Amount | None = None,
    picture: Picture | None = None,
    tune: bool = False,
    openings: int = OPENINGS,
    progress: Progress = lambda *_: None,
) -> Benchmark:
    """Measure every file at `paths` with every number of `threads`, in turns.

    Args:
        paths: bundles' folders (all of their files that can be run here and that `choice` asks for) and lone files.
        choice: which of a bundle's files, the interpreter, and what lone files do not say of themselves.
        threads: numbers of threads; None is what `Classifier.open` takes if nobody says.
        amount: how much of each; by default 10 seconds.
        picture: an image file's bytes; by default one is made up.
        tune: measure all of `threads.candidate_counts` instead and find the best number for each file. The
            caller keeps the records (`threads.write_cache`, `threads.write_to_bundle`).
        openings: how many processes are started to measure what opening each file costs; 0 leaves it out.
        progress: told what goes on, never during a measurement.

    Raises:
        UsageError: amounts below 1, no paths, an option that makes no sense.
        InputError, MissingExtraError: as `Classifier.open`; of several files those that are refused are left
            out and named in `failed`, unless none is left.
    """
    amount, shown = amount or Amount(), picture or synthetic_picture()
    counts = candidate_counts(usable_processors()) if tune else tuple(dict.fromkeys(threads))
    _check(paths, counts, amount, openings)
    found, left = targets(paths, choice or Choice())
    with ExitStack() as stack:
        cases, failed = _opened(found, counts, shown, stack)
        costs = _costs(cases, found, shown, openings, progress) if openings else {}
        before = condition()
        measure(cases, amount, progress)
        after = condition()
        measured = tuple(_measured(case, costs.get(case.name), len(cases)) for case in cases)
    machine = this_machine()
    return Benchmark(
        machine, _software(measured), before, after, amount, shown, measured,
        tuple(_tuned(measured, machine)) if tune else (), failed, tuple(_notes(measured, left, before, after, machine)),
    )  # fmt: skip


def _check(paths: Sequence[object], threads: Sequence[int | None], amount: Amount, openings: int) -> None:
    if not paths:
        raise UsageError("nothing to measure: give a bundle or a model file")
    if not threads or any(count is not None and count < 1 for count in threads):
        raise UsageError(f"thread counts must be at least 1, not {', '.join(map(str, threads)) or 'none'}")
    if (amount.runs is None) == (amount.seconds is None):
        raise UsageError("give a number of runs or of seconds, one of them")
    if amount.runs is not None and amount.runs < 1:
        raise UsageError(f"the number of runs must be at least 1, not {amount.runs}")
    if amount.seconds is not None and not 0 < amount.seconds < math.inf:
        raise UsageError(f"seconds must be above 0, not {amount.seconds}")
    if amount.warmup < 0:
        raise UsageError(f"warm-up runs cannot be fewer than 0, as {amount.warmup} is")
    if openings < 0:
        raise UsageError(f"openings cannot be fewer than 0, as {openings} is")


def _opened(
    found: Sequence[Target], threads: Sequence[int | None], shown: Picture, stack: ExitStack
) -> tuple[list[Case], dict[str, str]]:
    """All files opened with all thread counts; those that are refused by name with the reason."""
    cases: list[Case] = []
    failed: dict[str, str] = {}
    for target in found:
        options = asdict(target.choice)
        try:
            for count in threads:
                classifier = stack.enter_context(Classifier.open(target.path, threads=count, **options))
                cases.append(Case(target.name, classifier, shown.data))
        except InputError as error:
            if len(found) == 1:
                raise
            failed[target.name] = str(error)
    if not cases:
        raise InputError("; ".join(failed.values()))
    return cases, failed


def _costs(
    cases: Sequence[Case], found: Sequence[Target], shown: Picture, openings: int, progress: Progress
) -> dict[str, Cost | str]:
    """By file, with the first of its numbers of threads: they change little of what opening costs."""
    firsts = {case.name: case for case in reversed(cases)}
    costs: dict[str, Cost | str] = {}
    for index, target in enumerate(t for t in found if t.name in firsts):
        progress("opening", index, len(firsts))
        info = firsts[target.name].classifier.info
        options = asdict(replace(target.choice, backend=info.backend)) | {"threads": info.threads}
        costs[target.name] = _cost(target.path, options, shown, openings)
    progress("opening", len(firsts), len(firsts))
    return costs


def _cost(path: Path, options: dict[str, Any], shown: Picture, openings: int) -> Cost | str:
    """Medians of `openings` fresh processes, or why there is none."""
    costs = []
    for _ in range(openings):
        cost = opening_cost(path, options, shown.data)
        if isinstance(cost, str):
            return cost
        costs.append(cost)
    columns = {field.name: [getattr(cost, field.name) for cost in costs] for field in fields(Cost)}
    medians: dict[str, Any] = {k: None if None in v else statistics.median_low(v) for k, v in columns.items()}
    return Cost(**medians)


def _measured(case: Case, cost: Cost | str | None, cases: int) -> Measured:
    info = case.classifier.info
    contents = read_file(Path(info.path))
    return Measured(
        case.name, info.path, hashlib.sha256(contents).hexdigest(), len(contents), info.model, info.format,
        info.precision, info.backend, backend_version(info.backend) or "unknown", info.threads, info.threads_from,
        info.input.shape, len(case.times[0]), case.quantiles(), tuple(case.blocks), steadiness(case.blocks, cases),
        cost if isinstance(cost, Cost) else None, cost if isinstance(cost, str) else None,
    )  # fmt: skip


def _tuned(measured: Sequence[Measured], machine: Machine) -> Iterator[ThreadRecord]:
    """A record a file: the best of its thread counts."""
    for name in dict.fromkeys(case.file for case in measured):
        cases = [case for case in measured if case.file == name]
        medians = {case.threads: case.quantiles["inference"]["p50"] for case in cases}
        yield ThreadRecord(
            cases[0].sha256, cases[0].size, cases[0].backend, cases[0].version, machine.key, best_count(medians),
            {str(count): median for count, median in medians.items()},
        )  # fmt: skip


def _software(measured: Sequence[Measured]) -> dict[str, str]:
    """Versions of Python and of the packages that take part."""
    packages = ["mbn-deploy", "numpy", "pillow", *sorted({PACKAGES[case.backend] for case in measured})]
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _notes(
    measured: Sequence[Measured], left: Sequence[str], before: Condition, after: Condition, machine: Machine
) -> Iterator[str]:
    """What a reader of the figures must know."""
    if before.load is not None and before.load > BUSY * machine.processors:
        yield (
            f"the machine was busy before anything was measured (load {before.load:.1f} of {machine.processors}): "
            "times are too long, and the best number of threads is another one; measure again when it is quiet"
        )
    slow = [name for name in after.governors if name in ("powersave", "conservative")]
    if slow and before.frequency != before.frequency_limit:
        yield f"the processor's governor is {slow[0]}: frequencies may stay low; `performance` keeps them high"
    if after.throttled:
        yield f"the board's firmware says: {', '.join(after.throttling)}"
    if after.hottest is not None and after.hottest >= HOT:
        yield f"{after.hottest:.0f} °C at the end: from about {HOT:.0f} °C on boards slow down; cool it"
    for case in measured:
        parted = case.steadiness is not None and case.steadiness.difference.verdict in ("slower", "faster")
        if parted and case.steadiness is not None:
            ratio = case.steadiness.steady / case.steadiness.burst
            yield (
                f"{case.file} with {case.threads} thread{'s' * (case.threads != 1)}: the last third of the run took "
                f"{ratio:.2f} times the first seconds' time; what lasts is the steady state"
            )
    if left:
        wanted = sorted({PACKAGES[BACKENDS["onnx" if name.endswith(".onnx") else "tflite"][0]] for name in left})
        yield f"left out, for want of {' and '.join(wanted)}: {', '.join(left)}"
    yield from dict.fromkeys(
        f"time of opening and memory were not measured: {case.cost_absent}" for case in measured if case.cost_absent
    )
