"""The part of mbn-deploy that a device needs; it uses numpy, Pillow and one interpreter, nothing else.

    from mbn_deploy.runtime import Classifier

    with Classifier.open("dist") as classifier:
        best = classifier.classify("cat.jpg", top_k=5)[0]

Names are imported when they are first used, so that `import mbn_deploy.runtime` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbn_deploy.runtime.bundle import OpenedBundle, open_bundle
    from mbn_deploy.runtime.camera import Frame, FrameSource, frames
    from mbn_deploy.runtime.classifier import Classifier
    from mbn_deploy.runtime.decoding import Answer, Value
    from mbn_deploy.runtime.model_info import ModelInfo
    from mbn_deploy.runtime.pool import ClassifierPool
    from mbn_deploy.runtime.preprocess import load_pixels, normalize
    from mbn_deploy.runtime.ranking import Prediction
    from mbn_deploy.runtime.stream import StreamResult

__all__ = [
    "Answer",
    "Classifier",
    "ClassifierPool",
    "Frame",
    "FrameSource",
    "ModelInfo",
    "OpenedBundle",
    "Prediction",
    "StreamResult",
    "Value",
    "frames",
    "load_pixels",
    "normalize",
    "open_bundle",
]

_HOMES = {
    "Answer": "decoding",
    "Classifier": "classifier",
    "ClassifierPool": "pool",
    "Frame": "camera",
    "FrameSource": "camera",
    "ModelInfo": "model_info",
    "OpenedBundle": "bundle",
    "Prediction": "ranking",
    "StreamResult": "stream",
    "Value": "decoding",
    "frames": "camera",
    "load_pixels": "preprocess",
    "normalize": "preprocess",
    "open_bundle": "bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
