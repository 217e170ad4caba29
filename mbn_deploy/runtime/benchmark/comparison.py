"""Compare a measurement with an older one, file by file, with verdicts of `significance.difference`.

Every difference between the two measurements is reported. A different machine rules out verdicts; a different file,
interpreter, image or Python version is allowed, since it may be what is being compared, but is always listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.benchmark.benchmark import KIND, SCHEMA_VERSION
from mbn_deploy.runtime.benchmark.significance import Difference, Samples, difference
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.text import plural

COMPARED = ("preprocess", "inference", "total")
# Cases belong together that agree in the first of these lists of keys, else in the second, else in the third.
PAIRED_BY = (("sha256", "backend", "threads"), ("file", "backend", "threads"), ("file",))
Json = Mapping[str, Any]


@dataclass(frozen=True)
class CaseComparison:
    """One file with one number of threads, then and now.

    `phases` has the difference of each phase, also where there is no verdict; `remarks` say what else changed.
    """

    file: str
    threads: int
    phases: dict[str, Difference]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkComparison:
    """All cases of two measurements.

    `then` names the older one; `remarks` concern all files; `only_now` and `only_then` name cases without a
    counterpart.
    """

    then: str
    same_machine: bool
    cases: tuple[CaseComparison, ...]
    only_now: tuple[str, ...]
    only_then: tuple[str, ...]
    remarks: tuple[str, ...]


def read_benchmark(path: Path) -> Json:
    """Read a file of `benchmark --json` or `-o`, checked as far as `compare_benchmarks` needs it.

    Raises `InputError`.
    """
    try:
        data = json.loads(read_file(path))
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise InputError(f"{path}: not a JSON file of `mbn-deploy benchmark`")
        if data.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema version {data.get('schema_version')!r}, this program reads {SCHEMA_VERSION}; "
                "measure again with this version"
            )
        _check(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged: {type(error).__name__} {error}") from None
    return data


def _check(data: Json) -> None:
    """Raise one of Python's errors for a missing key or a wrong type."""
    texts = [data["machine"]["key"], data["picture"]["sha256"], *data["software"].values()]
    for case in data["cases"]:
        texts += [case[name] for name in ("file", "sha256", "backend", "version")]
        numbers = [block[phase] for block in case["blocks"] for phase in (*COMPARED, "yardstick")]
        if not numbers or not all(type(number) in (int, float) and 0 < number < 1e6 for number in numbers):
            raise ValueError(f"{case['file']!r} has times that are not positive numbers")
        texts += [str(case["threads"] + 0)]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name or a version is not text")


def compare_benchmarks(old: Json, new: Json, then: str) -> BenchmarkComparison:
    """Compare two measurements, as `read_benchmark` and `Benchmark.to_dict` return them; `then` names the old one."""
    same_machine = old["machine"]["key"] == new["machine"]["key"]
    phases = COMPARED if old["picture"]["sha256"] == new["picture"]["sha256"] else ("inference",)
    pairs, only_then, only_now = _pair(old["cases"], new["cases"])
    return BenchmarkComparison(
        then=then,
        same_machine=same_machine,
        cases=tuple(_compare_case(before, after, phases, same_machine=same_machine) for before, after in pairs),
        only_now=tuple(map(_case_name, only_now)),
        only_then=tuple(map(_case_name, only_then)),
        remarks=tuple(_common_remarks(old, new)),
    )


def _pair(old: Sequence[Json], new: Sequence[Json]) -> tuple[list[tuple[Json, Json]], list[Json], list[Json]]:
    """Return the cases that belong together, in the order of `new`, and those left over of `old` and of `new`."""
    left, partners = list(old), dict[int, Json]()
    for keys in PAIRED_BY:
        for index, case in enumerate(new):
            if index in partners:
                continue
            fits = [before for before in left if all(before[key] == case[key] for key in keys)]
            rivals = [n for i, n in enumerate(new) if i not in partners and all(n[key] == case[key] for key in keys)]
            # By the name alone, only if it is unambiguous.
            if fits and ("threads" in keys or len(fits) == len(rivals) == 1):
                partners[index] = fits[0]
                left.remove(fits[0])
    pairs = [(partners[index], new[index]) for index in sorted(partners)]
    return pairs, left, [case for index, case in enumerate(new) if index not in partners]


def _compare_case(old: Json, new: Json, phases: Sequence[str], *, same_machine: bool) -> CaseComparison:
    differences = {phase: difference(_samples(old, phase), _samples(new, phase)) for phase in phases}
    if not same_machine:
        differences = {
            phase: replace(d, verdict="no verdict", why="another machine") for phase, d in differences.items()
        }
    remarks = []
    if old["sha256"] != new["sha256"]:
        remarks.append(f"another file: sha256 {old['sha256'][:12]} then, {new['sha256'][:12]} now")
    for key, word in (("backend", "interpreter"), ("version", "interpreter's version"), ("threads", "threads")):
        if old[key] != new[key]:
            remarks.append(f"{word}: {old[key]} then, {new[key]} now")
    return CaseComparison(new["file"], new["threads"], differences, tuple(remarks))


def _samples(case: Json, phase: str) -> Samples:
    return Samples([block[phase] for block in case["blocks"]], [block["yardstick"] for block in case["blocks"]])


def _common_remarks(old: Json, new: Json) -> Iterator[str]:
    """Yield what differs for all files."""
    if old["machine"]["key"] != new["machine"]["key"]:
        yield (
            "measured on different machines, so there are no verdicts, and the ratios compare the machines: "
            f"{old['machine']['key']} then, {new['machine']['key']} now"
        )
    if old["picture"]["sha256"] != new["picture"]["sha256"]:
        yield "measured with different images, so only inference is compared"
    for name in sorted(old["software"].keys() & new["software"].keys()):
        if old["software"][name] != new["software"][name]:
            yield f"{name}: {old['software'][name]} then, {new['software'][name]} now"


def _case_name(case: Json) -> str:
    return f"{case['file']} ({case['backend']}, {plural(case['threads'], 'thread')})"
