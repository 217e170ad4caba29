"""Small models and pictures for tests of the export."""

import numpy as np
from PIL import Image

from mbn_deploy.models.build import build_model
from mbn_deploy.models.layers import Spec
from mbn_deploy.models.tables import network

CLASSES = 5
SIZE = 32
LABELS = ("ant", "bee", "cat", "dog", "eel")


def small_model(name="mobilenet_v2", seed=0, size=SIZE, classes=CLASSES):
    """Set random weights and BatchNorm statistics away from 0 and 1, so that folding has something to do."""
    model = build_model(Spec(network(name), 0.35, size, classes))
    rng = np.random.default_rng(seed)
    model.set_weights([_disturbed(weight, rng) for weight in model.get_weights()])
    return model


def _disturbed(weight, rng):
    if weight.ndim > 1:
        depthwise = weight.ndim == 4 and weight.shape[-1] == 1
        inputs = weight[..., 0, 0].size if depthwise else weight[..., 0].size
        return rng.normal(0, 1, weight.shape) * np.sqrt(2 / inputs)  # signals keep their size through the layers
    return rng.uniform(0.6, 1.4, weight.shape) if weight.any() else rng.normal(0, 0.1, weight.shape)


def write_pictures(folder, count=12, seed=0, side=48):
    """Return smooth random pictures: the first resize would average noise to grey."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize((side, side + 8), Image.Resampling.BICUBIC).save(folder / f"{i:03}.png")
    return folder


def write_labelled(folder, each=3):
    """Write `each` pictures for each of `LABELS`."""
    for index, label in enumerate(LABELS):
        write_pictures(folder / label, each, seed=100 + index)
    return folder
