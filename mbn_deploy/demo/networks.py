"""The models of the demo: one of each MobileNet version, small enough for their weights to ship with the package."""

from __future__ import annotations

from mbn_deploy.demo.digits import CLASSES, SIZE
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import NETWORKS

ALPHAS = {"mobilenet_v1": 0.25, "mobilenet_v2": 0.15, "mobilenet_v3_small": 0.15}

DEMO_SPECS = {name: Spec(NETWORKS[name], alpha, SIZE, len(CLASSES)) for name, alpha in ALPHAS.items()}


def weights_name(name: str) -> str:
    """Return the file name of the trained weights of `name`, made by `scripts/train_demo.py`."""
    return f"{DEMO_SPECS[name].name}.weights.h5"
