"""What the page shows: frozen values, made by `collect` and read by `page`."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.diagnose.layer_summary import LayerFigures
from mbn_deploy.manifest import Manifest
from mbn_deploy.verify.guard import RecipeResult
from mbn_deploy.verify.latency import Latency


@dataclass(frozen=True)
class Guess:
    """One class that a model names, with its score (a probability)."""

    label: str
    score: float


@dataclass(frozen=True)
class Example:
    """One picture through two models; `picture` is a small JPEG, `truth` its label, None where they are not shown."""

    name: str
    truth: str | None
    reference: tuple[Guess, ...]
    other: tuple[Guess, ...]
    same: bool
    picture: bytes | None
    size: tuple[int, int]  # of the JPEG: width, height


@dataclass(frozen=True)
class Examples:
    """`shown` out of `compared` pictures, of which `differing` got different first answers of Keras and of `file`.

    `held_back`: they are none of those that the ranges of integers were taken from.
    """

    file: str
    compared: int
    differing: int
    shown: tuple[Example, ...]
    held_back: bool


@dataclass(frozen=True)
class Layers:
    """Layer by layer what `recipe` did; `written` says whether its files are in the bundle."""

    recipe: str
    precision: str
    written: bool
    images: int
    rows: tuple[LayerFigures, ...]


@dataclass(frozen=True)
class Report:
    """All of the page. `folder` is what the bundle is called in commands; `machine` is where times were measured."""

    folder: str
    manifest: Manifest
    machine: str
    latencies: dict[str, Latency]
    rungs: tuple[RecipeResult, ...]
    max_drop: float | None
    layers: tuple[Layers, ...]
    examples: Examples | None
    warnings: tuple[str, ...]
