"""Print a benchmark on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console

from mbn_deploy.cli.output import human_bytes, plain, table
from mbn_deploy.runtime.benchmark.benchmark import Benchmark, Measurement
from mbn_deploy.runtime.benchmark.comparison import BenchmarkComparison
from mbn_deploy.runtime.benchmark.opening_cost import OpeningCost
from mbn_deploy.runtime.benchmark.significance import CERTAINTY, FLOOR, Difference
from mbn_deploy.runtime.benchmark.targets import SYNTHETIC
from mbn_deploy.runtime.benchmark.timing import ALL_PHASES, BURST_SECONDS, QUANTILES, Steadiness
from mbn_deploy.runtime.system.device import Condition
from mbn_deploy.text import plural

PHASE_NAMES = {"preprocess": "decode, resize", "inference": "inference", "postprocess": "ranking", "total": "total"}
COUNT_ORIGINS = {"option": "as requested", "tuned": "tuned", "default": "default"}


def print_benchmark(console: Console, result: Benchmark) -> None:
    """Print one file with all its quantiles or several files in a table, then the machine's state and the notes."""
    for line in _header(result):
        console.print(plain(line))
    console.print()
    if len(result.cases) == 1:
        _print_single(console, result.cases[0])
    else:
        _print_several(console, result.cases)
    for line in _machine_state(result.before, result.after):
        console.print(plain(line))
    for note in result.notes:
        console.print(plain(f"Note: {note}."))


def print_tuning(console: Console, result: Benchmark, written: Sequence[str]) -> None:
    """Print the best number of threads for each file, and where it was saved."""
    if not result.tuned:
        return
    console.print()
    names = {case.sha256: case.file for case in result.cases}
    counts = sorted({int(count) for record in result.tuned for count in record.medians})
    rows = table("inference, ms, by threads", *map(str, counts), "best")
    for record in result.tuned:
        medians = [ms(record.medians[str(count)]) for count in counts]
        rows.add_row(plain(names[record.sha256]), *medians, str(record.threads))
    console.print(rows)
    if written:
        console.print()
        text = f"Saved in {' and '.join(written)}; `run`, `serve` and Classifier use it."
        console.print(plain(text), soft_wrap=True)


def print_comparison(console: Console, comparison: BenchmarkComparison) -> None:
    """Print the ratios to the older measurement, and the verdicts where there are any."""
    console.print()
    rows = table("time now / then", "threads", "inference", "total", left=1)
    for case in comparison.cases:
        cells = [_ratio_and_verdict(case.phases.get(phase)) for phase in ("inference", "total")]
        rows.add_row(plain(case.file), str(case.threads), *cells)
    if comparison.cases:
        console.print(rows)
        console.print()
        console.print(
            f"Compared with {plain(comparison.then)}. A file is called faster or slower only if the "
            f"{100 * CERTAINTY:.0f} % confidence intervals of both ratios, as measured and corrected by the "
            f"yardstick, lie beyond {100 * FLOOR - 100:.0f} %."
        )
    for remark in comparison.remarks:
        console.print(plain(f"Note: {remark}."))
    for case in comparison.cases:
        for remark in (*case.remarks, *_missing_verdicts(case.phases.values())):
            console.print(plain(f"Note: {case.file}: {remark}."))
    for names, when in ((comparison.only_now, "now"), (comparison.only_then, "then")):
        if names:
            console.print(plain(f"Measured only {when}: {', '.join(names)}."))


def ms(seconds: float) -> str:
    """Format seconds as milliseconds with about three digits: `0.03`, `2.31`, `24.3`, `124`."""
    value = 1e3 * seconds
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _header(result: Benchmark) -> Iterator[str]:
    amount, image = result.amount, result.picture
    yield str(result.machine)
    yield ", ".join(f"{name} {text}" for name, text in result.software.items() if name != "mbn-deploy")
    source = "a synthetic image" if image.source == SYNTHETIC else image.source
    length = plural(amount.runs, "run") if amount.runs is not None else f"{amount.seconds:g} s"
    turns = ", in turns" if len(result.cases) > 1 else ""
    warmup = plural(amount.warmup, "warm-up run")
    yield f"{source}, {image.width} x {image.height}; {length} each after {warmup}{turns}"


def _print_single(console: Console, case: Measurement) -> None:
    threads = f"{plural(case.threads, 'thread')} ({COUNT_ORIGINS[case.threads_from]})"
    console.print(plain(f"{case.file}: {case.backend}, {threads}, {case.runs} runs"), soft_wrap=True)
    rows = table("milliseconds", *QUANTILES)
    for phase in ALL_PHASES:
        rows.add_row(PHASE_NAMES[phase], *(ms(case.quantiles[phase][name]) for name in QUANTILES))
    console.print(rows)
    console.print()
    console.print(f"{1 / case.quantiles['total']['p50']:.4g} images per second, one after the other")
    if case.cost is not None:
        _print_cost(console, case.cost)
    if case.steadiness is not None:
        _print_steadiness(console, case.steadiness)


def _print_cost(console: Console, cost: OpeningCost) -> None:
    console.print(
        f"opened in {ms(cost.open_seconds)} ms (after {ms(cost.import_seconds)} ms to import the interpreter), "
        f"first image {ms(cost.first_seconds)} ms"
    )
    if cost.memory_peak is not None:
        own = human_bytes(_own_memory(cost) or 0)
        console.print(f"peak memory {human_bytes(cost.memory_peak)}, of which {own} for this file")


def _print_steadiness(console: Console, steadiness: Steadiness) -> None:
    console.print(
        f"an image took {ms(steadiness.burst)} ms in the first {BURST_SECONDS:g} s and {ms(steadiness.steady)} ms in "
        f"the last third: {steadiness.difference}"
    )


def _print_several(console: Console, cases: Sequence[Measurement]) -> None:
    rows = table("p50 in ms", "thr.", "decode", "inference", "p90", "p99", "rank", "total")
    previous = ""
    for case in cases:
        q = case.quantiles
        rows.add_row(
            plain(case.file) if case.file != previous else "",
            str(case.threads),
            ms(q["preprocess"]["p50"]),
            *(ms(q["inference"][name]) for name in QUANTILES),
            ms(q["postprocess"]["p50"]),
            ms(q["total"]["p50"]),
        )
        previous = case.file
    console.print(rows)
    costs = {case.file: case.cost for case in cases if case.cost is not None}
    if costs:
        console.print()
        rows = table("opening, in a process", "open ms", "first image ms", "peak memory", "for the file")
        for name, cost in costs.items():
            sizes = [cost.memory_peak, _own_memory(cost)]
            memory = ["-" if size is None else human_bytes(size) for size in sizes]
            rows.add_row(plain(name), ms(cost.open_seconds), ms(cost.first_seconds), *memory)
        console.print(rows)
    console.print()


def _own_memory(cost: OpeningCost) -> int | None:
    """Return the bytes that opening and running the file added to those of the interpreter."""
    if cost.memory_after is None or cost.memory_imported is None:
        return None
    return max(0, cost.memory_after - cost.memory_imported)


def _machine_state(before: Condition, after: Condition) -> Iterator[str]:
    known = []
    if after.governors:
        known.append(f"governor {'/'.join(after.governors)}")
    if before.frequency is not None and after.frequency is not None:
        known.append(f"{before.frequency:.0f} MHz before, {after.frequency:.0f} MHz after")
    if before.hottest is not None and after.hottest is not None:
        known.append(f"{before.hottest:.0f} °C before, {after.hottest:.0f} °C after")
    if before.throttled is not None and after.throttled is not None:
        known.append(f"throttling flags {before.throttled:#x} before, {after.throttled:#x} after")
    if known:
        yield f"processor: {', '.join(known)}"
    if after.absent:
        yield f"not reported by this machine: {', '.join(after.absent)}"


def _ratio_and_verdict(difference: Difference | None) -> str:
    return "-" if difference is None else f"{difference.measured.value:.2f} {difference.verdict}"


def _missing_verdicts(differences: Iterable[Difference]) -> Iterator[str]:
    yield from dict.fromkeys(f"no verdict: {d.why}" for d in differences if d.verdict == "no verdict")
