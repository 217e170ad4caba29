"""What a sweep makes: its variants, and a fingerprint of all that decides what each becomes.

No framework is needed here, so that the process which hands out the work stays small.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mbn_deploy.data.images import find_images
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.models import tables
from mbn_deploy.models.imagenet import CLASSES
from mbn_deploy.models.layers import Spec
from mbn_deploy.pipeline.manifest_record import tool_versions
from mbn_deploy.pipeline.options import Request
from mbn_deploy.runtime.system.files import read_file

IMAGENET, RANDOM = "imagenet", "none"
WEIGHTS_SUFFIXES = (".weights.h5", ".h5", ".keras")
FOLDERS = ("calibration", "evaluate")  # options that are images
TEXTS = ("labels", "synsets")  # options that are text files
RECORDS = "records"
RESERVED = frozenset({RECORDS, "latency.json", "table.csv", "table.html", "table.json"})  # beside the bundles
UNUSED = frozenset({"overwrite", "report", "report_images", "progress", "name", "exclude", "size"})


@dataclass(frozen=True)
class Variant:
    """One bundle of the sweep: a network by its table, or a user's file.

    `model`, `alpha`, `size` and `classes` fix a network; `weights` is `imagenet`, `none` (random, but the same on
    every machine: seeded by the name) or a file's path. Of a user's `file` only `size` may be given.
    """

    name: str
    model: str | None = None
    alpha: float | None = None
    size: int | None = None
    classes: int = CLASSES
    weights: str = IMAGENET
    file: str | None = None


@dataclass(frozen=True)
class Job:
    """A variant with the options of `pipeline.export`, and where its bundle and its record go."""

    variant: Variant
    root: Path
    options: Mapping[str, Any]
    fingerprint: str

    @property
    def folder(self) -> Path:
        """The bundle."""
        return self.root / self.variant.name


def networks(
    models: Sequence[str],
    alphas: Sequence[float] = (1.0,),
    sizes: Sequence[int] = (224,),
    *,
    classes: int = CLASSES,
    weights: str | Path = IMAGENET,
) -> list[Variant]:
    """Every combination, in the order given.

    `weights`: `imagenet`, `none`, or a folder with a file a variant, called `<model>_<alpha>_<size>` or
    `<model>_<alpha>` with one of the suffixes .weights.h5, .h5, .keras. A file that is not there is the variant's
    failure, not the sweep's. Raises `UsageError` for names and values that no network takes.
    """
    if str(weights) not in (IMAGENET, RANDOM) and not Path(weights).is_dir():
        raise InputError(f"{weights}: no such folder of weights; say imagenet, none or a folder")
    specs = [Spec(tables.network(m), a, s, classes) for m, a, s in itertools.product(models, alphas, sizes)]
    return [
        Variant(spec.name, spec.network.name, spec.alpha, spec.size, classes, _weights(spec, str(weights)))
        for spec in specs
    ]


def files(paths: Sequence[str | Path], sizes: Sequence[int | None] = (None,)) -> list[Variant]:
    """A user's .keras and .h5 files, each at every size; `None` is the file's own."""
    found = []
    for path, size in itertools.product(map(Path, paths), sizes):
        stem = re.sub(r"[^\w.-]+", "_", path.stem).lstrip(".") or "model"
        found.append(Variant(stem if size is None else f"{stem}_{size}", size=size, file=str(path.absolute())))
    return found


def jobs(variants: Sequence[Variant], root: str | Path, options: Mapping[str, Any]) -> list[Job]:
    """The work of a sweep into `root`; `options` are those of `pipeline.export`, checked here.

    Raises `UsageError` for options that make no sense, two variants of one name, and a name that the sweep needs.
    """
    wrong = sorted(UNUSED & options.keys())
    if wrong:
        raise UsageError(f"a sweep decides {', '.join(wrong)} by itself")
    Request(**options)
    if not variants:
        raise UsageError("a sweep of nothing: name models or files")
    names = [variant.name for variant in variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    in_the_way = sorted(RESERVED.intersection(names))
    if in_the_way:
        raise UsageError(f"a sweep keeps something of its own in {', '.join(in_the_way)}; rename that file")
    if twice:
        raise UsageError(f"two variants would both be called {', '.join(twice)}; rename a file or leave one out")
    absolute = dict(options) | {
        key: str(Path(options[key]).absolute())
        for key in (*FOLDERS, *TEXTS)
        if isinstance(options.get(key), (str, Path))
    }
    shared = {"options": _plain(absolute), "inputs": _inputs(absolute), "tools": tool_versions()}
    return [Job(v, Path(root).absolute(), absolute, _fingerprint(v, shared)) for v in variants]


def _weights(spec: Spec, weights: str) -> str:
    if weights in (IMAGENET, RANDOM):
        return weights
    folder = Path(weights).absolute()
    stems = (spec.name, spec.name.rpartition("_")[0])
    paths = [folder / f"{stem}{suffix}" for stem in stems for suffix in WEIGHTS_SUFFIXES]
    return str(next((path for path in paths if path.is_file()), paths[0]))


def _fingerprint(variant: Variant, shared: Mapping[str, Any]) -> str:
    """Files count by what is in them, wherever they lie."""
    said = asdict(variant)
    for key in ("file", "weights"):
        if said[key] not in (None, IMAGENET, RANDOM):
            said[key] = _content(Path(said[key]))
    return sha256(json.dumps([said, shared], sort_keys=True).encode())


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON values; where images and texts lie does not matter, what they are is among the inputs."""
    return {key: _value(options[key]) for key in sorted(options) if key not in (*FOLDERS, *TEXTS)}


def _value(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


def _inputs(options: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in FOLDERS:
        if options.get(key) is not None:
            path = Path(options[key])
            found[key] = _content(path) if path.is_file() else _listing(path)
    for key in TEXTS:
        value = options.get(key)
        if value is not None:
            found[key] = sha256(read_file(Path(value))) if isinstance(value, str) else list(value)
    return found


def _content(path: Path) -> str | None:
    """sha256 of a file; `None` where there is none, which the variant itself will complain about."""
    return sha256(read_file(path)) if path.is_file() else None


def _listing(folder: Path) -> str:
    """A hash of names, sizes and times of change: to read 50,000 images takes longer than to be told of them."""
    lines = hashlib.sha256()
    for path in find_images(folder):
        facts = path.stat()
        lines.update(f"{path.relative_to(folder)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return lines.hexdigest()
