"""How a measurement looks on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console

from mbn_deploy.cli.output import human_bytes, plain, table
from mbn_deploy.runtime.benchmark.benchmark import Benchmark, Measured
from mbn_deploy.runtime.benchmark.comparison import Comparison
from mbn_deploy.runtime.benchmark.significance import CERTAINTY, FLOOR, Difference
from mbn_deploy.runtime.benchmark.timing import ALL_PHASES, BURST_SECONDS, QUANTILES
from mbn_deploy.runtime.system.device import Condition

NAMES = {"preprocess": "decode, resize", "inference": "inference", "postprocess": "ranking", "total": "total"}


def print_benchmark(console: Console, found: Benchmark) -> None:
    """One file with all its quantiles, several in one table; then the machine, and what to know."""
    for line in _head(found):
        console.print(plain(line))
    console.print()
    if len(found.cases) == 1:
        _print_one(console, found.cases[0])
    else:
        _print_several(console, found.cases)
    for line in _condition(found.before, found.after):
        console.print(plain(line))
    for note in found.notes:
        console.print(plain(f"Note: {note}."))


def print_tuning(console: Console, found: Benchmark, kept: Sequence[str]) -> None:
    """The best number of threads by file, and where it is kept."""
    if not found.tuned:
        return
    console.print()
    names = {case.sha256: case.file for case in found.cases}
    counts = sorted({int(count) for record in found.tuned for count in record.medians})
    shown = table("inference, ms, on threads:", *map(str, counts), "best")
    for record in found.tuned:
        medians = [ms(record.medians[str(count)]) for count in counts]
        shown.add_row(plain(names[record.sha256]), *medians, str(record.threads))
    console.print(shown)
    if kept:
        console.print()
        console.print(plain(f"Kept in {' and '.join(kept)}; `run` and Classifier use it."), soft_wrap=True)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Ratios to the older measurement, and a verdict where there can be one."""
    console.print()
    shown = table("time now / then", "threads", "inference", "total", left=1)
    for case in comparison.cases:
        cells = [_verdict(case.phases.get(phase)) for phase in ("inference", "total")]
        shown.add_row(plain(case.file), str(case.threads), *cells)
    if comparison.cases:
        console.print(shown)
        console.print()
        console.print(
            f"Against {plain(comparison.then)}. Faster or slower is said where the {100 * CERTAINTY:.0f} % intervals "
            f"of the ratio, as measured and by the yardstick, lie beyond {100 * FLOOR - 100:.0f} %."
        )
    for remark in comparison.remarks:
        console.print(plain(f"Note: {remark}."))
    for case in comparison.cases:
        for remark in (*case.remarks, *_reasons(case.phases.values())):
            console.print(plain(f"Note: {case.file}: {remark}."))
    for names, words in ((comparison.only_now, "now only"), (comparison.only_then, "then only")):
        if names:
            console.print(plain(f"Measured {words}: {', '.join(names)}."))


def ms(seconds: float) -> str:
    """Milliseconds in three digits or so: `0.03`, `2.31`, `24.3`, `124`."""
    value = 1e3 * seconds
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _head(found: Benchmark) -> Iterator[str]:
    amount, picture = found.amount, found.picture
    versions = ", ".join(f"{name} {text}" for name, text in found.software.items() if name != "mbn-deploy")
    yield str(found.machine)
    yield versions
    source = "a made-up picture" if picture.source == "made up" else picture.source
    much = f"{amount.runs} runs" if amount.runs is not None else f"{amount.seconds:g} s"
    turns = ", in turns" if len(found.cases) > 1 else ""
    yield f"{source}, {picture.width} x {picture.height}; {much} each after {amount.warmup} to warm up{turns}"


def _print_one(console: Console, case: Measured) -> None:
    console.print(plain(f"{case.file}: {case.backend}, {_threads(case)}, {case.runs} runs"), soft_wrap=True)
    shown = table("milliseconds", *QUANTILES)
    for phase in ALL_PHASES:
        shown.add_row(NAMES[phase], *(ms(case.quantiles[phase][name]) for name in QUANTILES))
    console.print(shown)
    console.print()
    console.print(f"{1 / case.quantiles['total']['p50']:.4g} pictures a second, one after the other")
    if case.cost is not None:
        cost = case.cost
        console.print(
            f"opened in {ms(cost.open_seconds)} ms (and {ms(cost.import_seconds)} to import the interpreter), "
            f"first picture {ms(cost.first_seconds)} ms"
        )
        if cost.memory_peak is not None:
            console.print(
                f"memory {human_bytes(cost.memory_peak)} at most, {human_bytes(_own(case) or 0)} of it for this file"
            )
    if case.steadiness is not None:
        steady = case.steadiness
        console.print(
            f"first {BURST_SECONDS:g} s {ms(steady.burst)} ms, last third {ms(steady.steady)} ms a picture: "
            f"{steady.difference}"
        )


def _print_several(console: Console, cases: Sequence[Measured]) -> None:
    shown = table("p50 in ms", "thr.", "decode", "inference", "p90", "p99", "rank", "total")
    before = ""
    for case in cases:
        q = case.quantiles
        inference = [ms(q["inference"][name]) for name in QUANTILES]
        shown.add_row(
            plain(case.file) if case.file != before else "", str(case.threads), ms(q["preprocess"]["p50"]), *inference,
            ms(q["postprocess"]["p50"]), ms(q["total"]["p50"]),
        )  # fmt: skip
        before = case.file
    console.print(shown)
    firsts = {case.file: case for case in reversed(cases) if case.cost is not None}
    if firsts:
        console.print()
        costs = table("to open, alone", "open ms", "first picture ms", "memory", "its own")
        for case in (firsts[name] for name in dict.fromkeys(c.file for c in cases) if name in firsts):
            cost = case.cost
            if cost is not None:
                peak = "-" if cost.memory_peak is None else human_bytes(cost.memory_peak)
                own = _own(case)
                row = [ms(cost.open_seconds), ms(cost.first_seconds), peak, "-" if own is None else human_bytes(own)]
                costs.add_row(plain(case.file), *row)
        console.print(costs)
    console.print()


def _threads(case: Measured) -> str:
    why = {"option": "as told", "tuned": "tuned", "default": "default"}[case.threads_from]
    return f"{case.threads} thread{'s' * (case.threads != 1)} ({why})"


def _own(case: Measured) -> int | None:
    """Bytes that came with the file, after the interpreter was there."""
    cost = case.cost
    if cost is None or cost.memory_after is None or cost.memory_imported is None:
        return None
    return max(0, cost.memory_after - cost.memory_imported)


def _condition(before: Condition, after: Condition) -> Iterator[str]:
    facts = []
    if after.governors:
        facts.append(f"governor {'/'.join(after.governors)}")
    if before.frequency is not None and after.frequency is not None:
        facts.append(f"{before.frequency:.0f} MHz before, {after.frequency:.0f} after")
    if before.hottest is not None and after.hottest is not None:
        facts.append(f"{before.hottest:.0f} °C before, {after.hottest:.0f} after")
    if before.throttled is not None and after.throttled is not None:
        facts.append(f"throttling flags {before.throttled:#x} before, {after.throttled:#x} after")
    if facts:
        yield f"processor: {', '.join(facts)}"
    if after.absent:
        yield f"not told by this machine: {', '.join(after.absent)}"


def _verdict(found: Difference | None) -> str:
    if found is None:
        return "-"
    return f"{found.measured.value:.2f} {found.verdict}"


def _reasons(found: Iterable[Difference]) -> Iterator[str]:
    yield from dict.fromkeys(f"no verdict: {d.why}" for d in found if d.verdict == "no verdict")
