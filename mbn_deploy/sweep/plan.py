"""The plan of a sweep: its variants, and a fingerprint of all that decides what each of them becomes.

No framework is needed here, so that the process which hands out the work stays small.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mbn_deploy.data.images import find_images
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import sha256, sha256_of_parts
from mbn_deploy.models import tables
from mbn_deploy.models.imagenet import CLASSES
from mbn_deploy.models.layers import Spec
from mbn_deploy.pipeline.manifest_record import json_value, tool_versions
from mbn_deploy.pipeline.option_fields import Option, options_of
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.runtime.system.files import read_file

IMAGENET, RANDOM = "imagenet", "none"
WEIGHTS_SUFFIXES = (".weights.h5", ".h5", ".keras")
RECORDS = "records"
RESERVED = frozenset({RECORDS, "latency.json", "table.csv", "table.html", "table.json"})  # beside the bundles


@dataclass(frozen=True)
class Variant:
    """One bundle of a sweep: a named model, or a user's file.

    Attributes:
        name: name of the bundle's folder.
        model: name of the model; None for a file.
        alpha: width multiplier of a named model.
        size: input height and width; None for a file's own.
        classes: number of classes of a named model.
        weights: `imagenet`, `none` (random, seeded by the name and so the same on every machine), or a file's path.
        file: path of the user's file; None for a named model.
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
    """A variant with the options of its export, the sweep's folder, and the fingerprint of the request."""

    variant: Variant
    root: Path
    options: ExportOptions
    fingerprint: str

    @property
    def folder(self) -> Path:
        """The folder of the variant's bundle."""
        return self.root / self.variant.name


def networks(
    models: Sequence[str],
    alphas: Sequence[float] = (1.0,),
    sizes: Sequence[int] = (224,),
    *,
    classes: int = CLASSES,
    weights: str | Path = IMAGENET,
) -> list[Variant]:
    """List every combination of named models, widths and sizes, in the order given.

    Args:
        models: names of models.
        alphas: width multipliers.
        sizes: input heights and widths.
        classes: number of classes.
        weights: `imagenet`, `none`, or a folder with a file per variant, named `<model>_<alpha>_<size>` or
            `<model>_<alpha>` with the suffix .weights.h5, .h5 or .keras. A missing file fails its variant only.

    Raises:
        UsageError: names a value that no model takes.
        InputError: the folder does not exist.
    """
    if str(weights) not in (IMAGENET, RANDOM) and not Path(weights).is_dir():
        raise InputError(f"{weights}: no such folder of weights; give imagenet, none or a folder")
    specs = [Spec(tables.network(m), a, s, classes) for m, a, s in itertools.product(models, alphas, sizes)]
    return [
        Variant(
            name=spec.name,
            model=spec.network.name,
            alpha=spec.alpha,
            size=spec.size,
            classes=classes,
            weights=_weights(spec, str(weights)),
        )
        for spec in specs
    ]


def files(paths: Sequence[str | Path], sizes: Sequence[int | None] = (None,)) -> list[Variant]:
    """List a user's .keras and .h5 files, each at every size; None is the file's own size."""
    variants = []
    for path, size in itertools.product(map(Path, paths), sizes):
        stem = re.sub(r"[^\w.-]+", "_", path.stem).lstrip(".") or "model"
        variants.append(Variant(stem if size is None else f"{stem}_{size}", size=size, file=str(path.absolute())))
    return variants


def plan_jobs(variants: Sequence[Variant], root: str | Path, options: ExportOptions) -> list[Job]:
    """Plan a sweep of `variants` into the folder `root`, all exported with the same options.

    Raises:
        UsageError: an option is given that a sweep decides by itself, there are no variants, two of them have the same
            name, or one has the name of a file that the sweep writes.
    """
    decided = [each.flag for each in options_of(type(options)) if not each.swept and _is_given(each, options)]
    if decided:
        raise UsageError(f"a sweep decides {', '.join(decided)} by itself")
    if not variants:
        raise UsageError("there is nothing to sweep: name models or files")
    names = [variant.name for variant in variants]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    reserved = sorted(RESERVED.intersection(names))
    if reserved:
        raise UsageError(f"a sweep writes a file of its own named {', '.join(reserved)}; rename that model file")
    if duplicates:
        raise UsageError(f"two variants would both be called {', '.join(duplicates)}; rename a file or leave one out")
    absolute = _with_absolute_paths(options)
    request = {"options": _values(absolute), "inputs": _inputs(absolute), "tools": tool_versions()}
    return [Job(v, Path(root).absolute(), absolute, _fingerprint(v, request)) for v in variants]


def _is_given(declared: Option, options: ExportOptions) -> bool:
    return bool(getattr(options, declared.name) != declared.default)


def _paths(options: ExportOptions) -> dict[str, Path]:
    """Return the options that are paths, by name."""
    values = {each.name: getattr(options, each.name) for each in options_of(type(options)) if each.takes_path}
    return {name: Path(value) for name, value in values.items() if isinstance(value, (str, Path))}


def _with_absolute_paths(options: ExportOptions) -> ExportOptions:
    changes: dict[str, Any] = {name: str(path.absolute()) for name, path in _paths(options).items()}
    return replace(options, **changes)


def _weights(spec: Spec, weights: str) -> str:
    if weights in (IMAGENET, RANDOM):
        return weights
    folder = Path(weights).absolute()
    stems = (spec.name, spec.name.rpartition("_")[0])
    paths = [folder / f"{stem}{suffix}" for stem in stems for suffix in WEIGHTS_SUFFIXES]
    return str(next((path for path in paths if path.is_file()), paths[0]))


def _fingerprint(variant: Variant, request: Mapping[str, Any]) -> str:
    """Hash a variant and the request for it. Files count by their content, wherever they lie."""
    record = asdict(variant)
    for key in ("file", "weights"):
        if record[key] not in (None, IMAGENET, RANDOM):
            record[key] = _content(Path(record[key]))
    return sha256(json.dumps([record, request], sort_keys=True).encode())


def _values(options: ExportOptions) -> dict[str, Any]:
    """Return the options as JSON values, without those that are paths: their contents are among the inputs."""
    paths = _paths(options)
    return {
        each.name: json_value(getattr(options, each.name))
        for each in options_of(type(options))
        if each.swept and each.name not in paths
    }


def _inputs(options: ExportOptions) -> dict[str, Any]:
    """Return a hash of the contents of each path among the options: a file's bytes, a folder's listing."""
    return {name: _content(path) if path.is_file() else _listing(path) for name, path in _paths(options).items()}


def _content(path: Path) -> str | None:
    """Return the sha256 of a file; None if there is none, about which the variant's export will complain."""
    return sha256(read_file(path)) if path.is_file() else None


def _listing(folder: Path) -> str:
    """Return a hash of the names, sizes and modification times of the images in a folder.

    To read 50,000 images takes longer than to list them.
    """
    files = ((path.relative_to(folder), path.stat()) for path in find_images(folder))
    return sha256_of_parts(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode() for path, stat in files)
