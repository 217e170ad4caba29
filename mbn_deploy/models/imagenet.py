"""The weights that Keras publishes for ImageNet: which exist, their addresses, and Keras' cache of them.

Names, addresses and MD5 sums are those in the sources of `keras.applications` (mobilenet.py, mobilenet_v2.py,
mobilenet_v3.py); it gives sums for V3 only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.hashing import md5
from mbn_deploy.models.keras_backend import import_keras
from mbn_deploy.models.layers import Spec

BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
CLASSES = 1000


@dataclass(frozen=True)
class WeightsFile:
    """One published file; `md5` is `None` where Keras gives none."""

    url: str
    md5: str | None = None

    @property
    def filename(self) -> str:
        """The file's name, at its address and in the cache."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class _Series:
    """All files of one network: the alphas and sizes that exist, and how the files are named."""

    alphas: tuple[float, ...]
    sizes: tuple[int, ...]
    filename: Callable[[float, int, bool], str]
    folder: str
    md5: dict[tuple[float, bool], str]


def _v1(alpha: float, size: int, top: bool) -> str:  # noqa: FBT001 (called from one place)
    text = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}[alpha]
    return f"mobilenet_{text}_{size}_tf{'' if top else '_no_top'}.h5"


def _v2(alpha: float, size: int, top: bool) -> str:  # noqa: FBT001 (called from one place)
    return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{size}{'' if top else '_no_top'}.h5"


def _v3(kind: str) -> Callable[[float, int, bool], str]:
    def filename(alpha: float, size: int, top: bool) -> str:  # noqa: FBT001 (called from one place)
        return f"weights_mobilenet_v3_{kind}_{size}_{float(alpha)}_float{'' if top else '_no_top_v2'}.h5"

    return filename


_V3_SIZES = (224,)
_SERIES: dict[str, _Series] = {
    "mobilenet_v1": _Series((0.25, 0.5, 0.75, 1.0), (128, 160, 192, 224), _v1, "mobilenet", {}),
    "mobilenet_v2": _Series((0.35, 0.5, 0.75, 1.0, 1.3, 1.4), (96, 128, 160, 192, 224), _v2, "mobilenet_v2", {}),
    "mobilenet_v3_small": _Series(
        (0.75, 1.0),
        _V3_SIZES,
        _v3("small"),
        "mobilenet_v3",
        {
            (0.75, True): "cb65d4e5be93758266aa0a7f2c6708b7",
            (0.75, False): "ebdb5cc8e0b497cd13a7c275d475c819",
            (1.0, True): "8768d4c2e7dee89b9d02b2d03d65d862",
            (1.0, False): "d3e8ec802a04aa4fc771ee12a9a9b836",
        },
    ),
    "mobilenet_v3_large": _Series(
        (0.75, 1.0),
        _V3_SIZES,
        _v3("large"),
        "mobilenet_v3",
        {
            (0.75, True): "765b44a33ad4005b3ac83185abf1d0eb",
            (0.75, False): "40af19a13ebea4e2ee0c676887f69a2e",
            (1.0, True): "59e551e166be033d707958cf9e29a6a7",
            (1.0, False): "07fb09a5933dd0c8eaafa16978110389",
        },
    ),
    "mobilenet_v3_small_minimalistic": _Series(
        (1.0,),
        _V3_SIZES,
        _v3("small_minimalistic"),
        "mobilenet_v3",
        {(1.0, True): "99cd97fb2fcdad2bf028eb838de69e37", (1.0, False): "cde8136e733e811080d9fcd8a252f7e4"},
    ),
    "mobilenet_v3_large_minimalistic": _Series(
        (1.0,),
        _V3_SIZES,
        _v3("large_minimalistic"),
        "mobilenet_v3",
        {(1.0, True): "675e7b876c45c57e9e63e6d90a36599c", (1.0, False): "ec5221f64a2f6d1ef965a614bdae7973"},
    ),
}


def published_variants(name: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the alphas and sizes of the network `name`; every combination is published."""
    series = _SERIES[name]
    return series.alphas, series.sizes


def published_file(spec: Spec) -> WeightsFile:
    """Return the weights file for `spec`.

    Raises:
        UsageError: there is none; the message lists what exists.
    """
    name, series = spec.network.name, _SERIES[spec.network.name]
    if spec.include_top and spec.classes != CLASSES:
        raise UsageError(
            f"the ImageNet weights of {name} have {CLASSES} classes, not {spec.classes}; "
            "leave the top out, or train your own and give its file"
        )
    if spec.alpha not in series.alphas:
        alphas = ", ".join(f"{alpha:g}" for alpha in series.alphas)
        raise UsageError(f"no ImageNet weights are published for {name} with alpha {spec.alpha:g}; there are: {alphas}")
    if spec.size not in series.sizes:
        sizes = ", ".join(str(size) for size in series.sizes)
        raise UsageError(
            f"no ImageNet weights are published for {name} at size {spec.size}; there are: {sizes}. "
            "A file with weights of another size can be given instead"
        )
    filename = series.filename(spec.alpha, spec.size, spec.include_top)
    return WeightsFile(f"{BASE_URL}/{series.folder}/{filename}", series.md5.get((spec.alpha, spec.include_top)))


def cache_path(file: WeightsFile) -> Path:
    """Return where Keras caches `file`: `models/` in `$KERAS_HOME`, or in `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / file.filename


def fetch_weights(file: WeightsFile) -> Path:
    """Return the path of `file` in Keras' cache, after downloading it if it is not there.

    Raises:
        InputError: the file cannot be downloaded, or the cached one has another MD5 sum; the message says where to
            put it.
    """
    path = cache_path(file)
    if path.exists():
        _check_sum(path, file)
        return path
    keras = import_keras("to download weights")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # Keras silently uses another folder if this one is missing
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress; stdout is for data
            keras.utils.get_file(
                file.filename, file.url, cache_dir=str(path.parent.parent), cache_subdir="models", file_hash=file.md5
            )
    except Exception as error:  # Keras raises bare `Exception` for network errors
        raise InputError(
            f"the ImageNet weights {file.filename} are not in Keras' cache and cannot be downloaded ({error}). "
            f"Fetch {file.url} on a machine with a network and put it at {path}"
        ) from error
    return path


def _check_sum(path: Path, file: WeightsFile) -> None:
    """Refuse a cached file with another MD5 sum. Keras would delete it, even if it cannot download it again."""
    if file.md5 is None:
        return
    actual = md5(path.read_bytes())
    if actual != file.md5:
        raise InputError(
            f"{path} is not the published file: its MD5 is {actual}, that of {file.url} is {file.md5}. "
            "Remove it, or put the right one there"
        )
