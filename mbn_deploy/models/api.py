"""Networks by name: what `from mbn_deploy import build` gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.models.build import build_model
from mbn_deploy.models.imagenet import fetched, published
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
    """The network `name` (see `models.tables.NETWORKS`) as a Keras model.

    Its input is (N, size, size, 3): pixels in [0, 255] for V3, which rescales inside, and [-1, 1] for
    V1 and V2. Its output is (N, classes); without top the feature map (N, H, W, C), or (N, C) with
    `pooling`. `weights`: `None` is random, `"imagenet"` the published file from Keras' cache or the
    network, anything else a weights file or a whole model's file of this network.

    Raises `UnknownNameError` for a name in no table, `UsageError` for values that the network does
    not allow or for which no ImageNet weights exist, `InputError` for a file that does not fit.
    """
    spec = Spec(network(name), alpha, size, classes, include_top, pooling, dropout, classifier_activation)
    file = published(spec) if weights == IMAGENET else None
    _need_keras()
    path = None if weights is None else fetched(file) if file else Path(weights)
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
        raise InputError(f"{error}. Remove that file, and it is downloaded again") from error


def _need_keras() -> None:
    try:
        import keras  # noqa: F401 (only whether it can be)
    except ImportError as error:
        raise MissingExtraError("keras", "export", "to build models") from error
