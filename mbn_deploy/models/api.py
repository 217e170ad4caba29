"""The public function `mbn_deploy.build`: a network by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mbn_deploy.arguments import check_types
from mbn_deploy.errors import InputError
from mbn_deploy.models.build import build_model
from mbn_deploy.models.imagenet import fetch_weights, published_file
from mbn_deploy.models.keras_backend import import_keras
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import network
from mbn_deploy.models.weights import load_weights

if TYPE_CHECKING:
    import keras

IMAGENET = "imagenet"


def build(
    name: str,
    *,
    alpha: float = 1.0,
    size: int = 224,
    classes: int = 1000,
    include_top: bool = True,
    pooling: Literal["avg", "max"] | None = None,
    dropout: float | None = None,
    classifier_activation: Literal["softmax", "sigmoid"] | None = "softmax",
    weights: str | Path | None = None,
) -> keras.Model:
    """Build the network `name` (see `models.tables.NETWORKS`) as a Keras model.

    Its input is (N, size, size, 3): pixels in [0, 255] for V3, which rescales inside, and values in [-1, 1] for V1
    and V2. Its output is (N, classes); without top it is the feature map (N, H, W, C), or (N, C) with `pooling`.

    Args:
        name: a network, such as `mobilenet_v2`.
        alpha: width multiplier.
        size: height and width of the input in pixels, at least 32.
        classes: number of classes.
        include_top: whether the network has its classifier.
        pooling: global pooling of a network without top.
        dropout: rate of the dropout in front of the classifier; the network's own if `None`.
        classifier_activation: activation of the classifier; `None` gives logits.
        weights: `None` for random weights, `"imagenet"` for the published ones (from Keras' cache or the internet),
            or the path of a weights file or of a whole model of this network.

    Raises:
        UnknownNameError: there is no such network.
        UsageError: the network does not allow these values, or no ImageNet weights exist for them.
        InputError: the weights file does not fit.
        MissingExtraError: Keras is not installed.
    """
    check_types({"name": name, "weights": weights}, {"name": (str,), "weights": (str, Path)})
    spec = Spec(network(name), alpha, size, classes, include_top, pooling, dropout, classifier_activation)
    file = published_file(spec) if weights == IMAGENET else None
    import_keras("to build models")
    path = None if weights is None else fetch_weights(file) if file else Path(weights)
    model = build_model(spec)
    if path is not None:
        _load(model, path, downloaded=file is not None)
    return model


def _load(model: keras.Model, path: Path, *, downloaded: bool) -> None:
    try:
        load_weights(model, path)
    except InputError as error:
        if not downloaded:
            raise
        raise InputError(f"{error}. If you remove that file, it is downloaded again") from error
