"""The values that the page shows, all frozen."""

from __future__ import annotations

from dataclasses import dataclass

from mbn_deploy.diagnose.layer_summary import LayerFigures
from mbn_deploy.manifest import Manifest
from mbn_deploy.verify.guard import RecipeResult
from mbn_deploy.verify.latency import Latency


@dataclass(frozen=True)
class Guess:
    """A name in a model's answer, and what is said of it: a probability, or a value."""

    label: str
    value: str


@dataclass(frozen=True)
class Example:
    """The answers of two models to one image.

    Attributes:
        name: name of the image file.
        truth: the right answer, None if it is unknown.
        reference: the best answers of the Keras model.
        other: the best answers of the exported file.
        same: whether the answers are the same; None where they are never quite the same.
        picture: a small JPEG, None if images are not shown.
        size: width and height of the JPEG.
    """

    name: str
    truth: str | None
    reference: tuple[Guess, ...]
    other: tuple[Guess, ...]
    same: bool | None
    picture: bytes | None
    size: tuple[int, int]


@dataclass(frozen=True)
class Examples:
    """Example images, chosen from those that were compared.

    Attributes:
        file: name of the exported file that is compared with Keras.
        compared: number of images compared.
        differing: number of them with different answers; None where they are never quite the same.
        shown: the examples.
        held_back: whether the images were kept out of calibration.
    """

    file: str
    compared: int
    differing: int | None
    shown: tuple[Example, ...]
    held_back: bool


@dataclass(frozen=True)
class Scatter:
    """A value of a regression: what is right, or what Keras says (`beside`), and what a file says, image by image."""

    name: str
    file: str
    beside: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Layers:
    """The effect of a recipe on every layer. `written` tells whether its files are in the bundle."""

    recipe: str
    precision: str
    written: bool
    images: int
    rows: tuple[LayerFigures, ...]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        folder: name of the bundle's folder, as in commands.
        manifest: the bundle's manifest.
        machine: describes the machine on which latencies were measured.
        latencies: latency by file.
        recipes: the recipes that the accuracy guard tried.
        max_drop: how many percentage points of top-1 int8 may lose, None if there is no limit.
        layers: what each recipe did to the layers.
        examples: example images, None if there are none.
        warnings: warnings of the export.
        scatters: plots of values; none for models of other meanings.
    """

    folder: str
    manifest: Manifest
    machine: str
    latencies: dict[str, Latency]
    recipes: tuple[RecipeResult, ...]
    max_drop: float | None
    layers: tuple[Layers, ...]
    examples: Examples | None
    warnings: tuple[str, ...]
    scatters: tuple[Scatter, ...] = ()
