"""Models of every meaning that look at the colours of a picture, and pictures with what is right for them."""

import csv

import numpy as np
from PIL import Image

SIDE, COUNT = 32, 40
CHANNELS = ("red", "green", "blue")
LABELS = {
    "classes": CHANNELS,
    "labels": CHANNELS,
    "binary": ("other", "red"),
    "values": ("redness", "greenness"),
    "embedding": None,
}
LOSSES = {
    "classes": "sparse_categorical_crossentropy",
    "labels": "binary_crossentropy",
    "binary": "binary_crossentropy",
    "values": "mse",
}


def colour_model(meaning):
    """A convolution, an average over the picture, and a head that tells which of the channels are bright."""
    import keras
    from keras import layers

    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="stem")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    heads = {
        "classes": lambda: layers.Dense(3, activation="softmax", name="head"),
        "labels": lambda: layers.Dense(3, activation="sigmoid", name="head"),
        "binary": lambda: layers.Dense(1, activation="sigmoid", name="head"),
        "values": lambda: layers.Dense(2, name="head"),
    }
    model = keras.Model(image, heads[meaning]()(x) if meaning in heads else x, name=f"colour_{meaning}")
    stem = np.zeros((3, 3, 3, 8), np.float32)
    for filter_ in range(8):  # each filter sees one channel, with a weight of its own
        stem[1, 1, filter_ % 3, filter_] = 1 + filter_ // 3
    model.get_layer("stem").set_weights([stem, np.zeros(8, np.float32)])
    if meaning in heads:
        outputs = model.output_shape[-1]
        scale = {"values": 1.0}.get(meaning, 24.0)
        kernel = np.zeros((8, outputs), np.float32)
        kernel[range(outputs), range(outputs)] = scale
        bias = np.zeros(outputs, np.float32) if meaning in ("classes", "values") else np.full(outputs, -scale / 2)
        model.get_layer("head").set_weights([kernel, bias])
        model.compile("adam", LOSSES[meaning])
    return model


def colours(count=COUNT, seed=0):
    """The mean colours of pictures, uint8 (count, 3)."""
    return np.random.default_rng(seed).integers(20, 236, (count, 3)).astype(np.uint8)


def write_colours(folder, meaning, count=COUNT, seed=0):
    """Write pictures, and return what `--evaluate` takes for this meaning: a folder of folders, or a table."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(seed + 1), []
    for number, colour in enumerate(colours(count, seed)):
        noisy = np.clip(colour.astype(int) + rng.integers(-15, 16, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        where = folder / _sub_folder(meaning, colour)
        where.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(where / f"{number:03}.png")
        rows.append([f"{number:03}.png", *_cells(meaning, colour)])
    if meaning not in ("labels", "values"):
        return folder
    table = folder / "right.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", *LABELS[meaning]], *rows])
    return table


def _sub_folder(meaning, colour):
    if meaning in ("classes", "embedding"):
        return CHANNELS[int(colour.argmax())]
    return LABELS["binary"][int(colour[0] > 127)] if meaning == "binary" else "."


def _cells(meaning, colour):
    if meaning == "labels":
        return [int(value > 127) for value in colour]
    return [f"{value / 255:.4f}" for value in colour[:2]] if meaning == "values" else []
