"""mbn-deploy: Keras MobileNets on phones and ARM boards.

    from mbn_deploy import build, export_model, Classifier

    model = build("mobilenet_v2", weights="imagenet")  # a keras.Model
    export_model(model, "dist", calibrate="photos/")  # writes a bundle
    result = Classifier.open("dist").classify("cat.jpg", top_k=5)  # on any device

Names are imported when they are first used: a device that only classifies never loads more than that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mbn_deploy.version import __version__

if TYPE_CHECKING:
    from mbn_deploy.bundle.open import Bundle
    from mbn_deploy.models.api import build
    from mbn_deploy.pipeline.export import ExportResult, export_model
    from mbn_deploy.runtime import Classifier, ClassifierPool

__all__ = ["Bundle", "Classifier", "ClassifierPool", "ExportResult", "__version__", "build", "export_model"]

_HOMES = {
    "Bundle": "mbn_deploy.bundle.open",
    "Classifier": "mbn_deploy.runtime",
    "ClassifierPool": "mbn_deploy.runtime",
    "ExportResult": "mbn_deploy.pipeline.export",
    "build": "mbn_deploy.models.api",
    "export_model": "mbn_deploy.pipeline.export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
