"""A measurement against an older one, file by file, with verdicts of `noise.difference` where they can be given.

What is not equal in both is said: another machine makes every verdict impossible; another file, interpreter, picture
or Python does not, if that is what one wants to know, but nobody may learn it from a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.benchmark.benchmark import KIND, SCHEMA_VERSION
from mbn_deploy.runtime.benchmark.significance import Blocks, Difference, difference
from mbn_deploy.runtime.system.files import read_file

COMPARED = ("preprocess", "inference", "total")
PAIRED_BY = (("sha256", "backend", "threads"), ("file", "backend", "threads"), ("file",))
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """One file with one number of threads, then and now; `phases` by name, `remarks` what was not equal.

    A phase without a verdict is there too: its ratio is a fact.
    """

    file: str
    threads: int
    phases: dict[str, Difference]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """`remarks` hold for all files; `only_now` and `only_then` name what has no counterpart."""

    then: str
    same_machine: bool
    cases: tuple[Compared, ...]
    only_now: tuple[str, ...]
    only_then: tuple[str, ...]
    remarks: tuple[str, ...]


def read_benchmark(path: Path) -> Json:
    """What `benchmark --json` or `-o` wrote, checked as far as `compare` needs it; raises `InputError`."""
    try:
        data = json.loads(read_file(path))
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise InputError(f"{path}: not the JSON of `mbn-deploy benchmark`")
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
    """Raises one of the errors of a wrong type or a missing key."""
    texts = [data["machine"]["key"], data["picture"]["sha256"], *data["software"].values()]
    for case in data["cases"]:
        texts += [case[name] for name in ("file", "sha256", "backend", "version")]
        numbers = [block[phase] for block in case["blocks"] for phase in (*COMPARED, "yardstick")]
        if not numbers or not all(type(number) in (int, float) and 0 < number < 1e6 for number in numbers):
            raise ValueError(f"times of {case['file']!r} that are none")
        texts += [str(case["threads"] + 0)]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name or version that is no text")


def compare(old: Json, new: Json, then: str) -> Comparison:
    """`old` and `new` as `read_benchmark` and `Benchmark.to_dict` give them; `then` is the old one's name."""
    same_machine = old["machine"]["key"] == new["machine"]["key"]
    phases = COMPARED if old["picture"]["sha256"] == new["picture"]["sha256"] else ("inference",)
    pairs, only_then, only_now = _paired(old["cases"], new["cases"])
    cases = tuple(_compared(before, after, phases, same_machine=same_machine) for before, after in pairs)
    return Comparison(
        then, same_machine, cases,
        tuple(map(_name, only_now)), tuple(map(_name, only_then)), tuple(_remarks(old, new)),
    )  # fmt: skip


def _paired(old: Sequence[Json], new: Sequence[Json]) -> tuple[list[tuple[Json, Json]], list[Json], list[Json]]:
    """Cases that belong together in the order of `new`, then those of `old` and of `new` that are left over."""
    left, found = list(old), {}
    for keys in PAIRED_BY:
        for index, case in enumerate(new):
            fits = [before for before in left if all(before[key] == case[key] for key in keys)]
            rivals = [n for i, n in enumerate(new) if i not in found and all(n[key] == case[key] for key in keys)]
            # By name alone only where nothing else could be meant.
            if index not in found and fits and ("threads" in keys or len(fits) == len(rivals) == 1):
                found[index] = fits[0]
                left.remove(fits[0])
    return (
        [(found[index], new[index]) for index in sorted(found)], left,
        [case for index, case in enumerate(new) if index not in found],
    )  # fmt: skip


def _compared(old: Json, new: Json, phases: Sequence[str], *, same_machine: bool) -> Compared:
    found = {phase: difference(_blocks(old, phase), _blocks(new, phase)) for phase in phases}
    if not same_machine:
        found = {phase: replace(d, verdict="no verdict", why="another machine") for phase, d in found.items()}
    remarks = []
    if old["sha256"] != new["sha256"]:
        remarks.append(f"another file: sha256 {old['sha256'][:12]} then, {new['sha256'][:12]} now")
    for key, word in (("backend", "interpreter"), ("version", "interpreter's version"), ("threads", "threads")):
        if old[key] != new[key]:
            remarks.append(f"{word}: {old[key]} then, {new[key]} now")
    return Compared(new["file"], new["threads"], found, tuple(remarks))


def _blocks(case: Json, phase: str) -> Blocks:
    return Blocks([block[phase] for block in case["blocks"]], [block["yardstick"] for block in case["blocks"]])


def _remarks(old: Json, new: Json) -> Iterator[str]:
    """What holds for all files."""
    if old["machine"]["key"] != new["machine"]["key"]:
        yield (
            "another machine, so no verdicts, and ratios are the machines': "
            f"{old['machine']['key']} then, {new['machine']['key']} now"
        )
    if old["picture"]["sha256"] != new["picture"]["sha256"]:
        yield "another picture: only inference is compared"
    for name in sorted(old["software"].keys() & new["software"].keys()):
        if old["software"][name] != new["software"][name]:
            yield f"{name}: {old['software'][name]} then, {new['software'][name]} now"


def _name(case: Json) -> str:
    return f"{case['file']} ({case['backend']}, {case['threads']} thread{'s' * (case['threads'] != 1)})"
