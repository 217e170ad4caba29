"""Model files of Keras, and changed copies of them."""

import copy
import json
import zipfile

import h5py
import numpy as np

RNG = np.random.default_rng(3)


def classifier(*extra):
    """Build a model of normalization, a bare operation, a nested model with a shared layer, and the `extra` layers."""
    import keras

    layers = keras.layers
    inner_in = keras.Input((8, 8, 4))
    shared = layers.DepthwiseConv2D(3, padding="same", name="shared")
    inner = keras.Model(inner_in, shared(keras.ops.relu6(shared(inner_in) + 3.0) * (1 / 6)), name="inner")
    x = inputs = keras.Input((16, 16, 3))
    x = layers.RandomFlip()(x)
    x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])(x)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, 2, padding="same")(x))
    for layer in extra:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(inner(x))
    return disturbed(keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Dropout(0.5)(x))))


def disturbed(model):
    model.set_weights(
        [w * RNG.uniform(0.5, 1.5, w.shape) + RNG.uniform(0.01, 0.1, w.shape) for w in model.get_weights()]
    )
    return model


def saved(model, path):
    import logging

    logging.disable(logging.WARNING)  # that .h5 is a legacy format
    try:
        model.save(path)
    finally:
        logging.disable(logging.NOTSET)
    return path


def config_of(path):
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])


def with_config(path, config, keras_version=None):
    """Write the file at `path` with another configuration, given as data or text."""
    text = config if isinstance(config, str) else json.dumps(config)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text
            file.attrs["keras_version"] = keras_version or file.attrs["keras_version"]
        return path
    return with_members(path, {"config.json": text})


def with_members(path, changes, compression=zipfile.ZIP_STORED):
    """Write the archive at `path` with members replaced, added or (`None`) left out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in members.items():
            if value is not None:
                archive.writestr(name, value)
    return path


def pictures(n=2, size=16):
    return RNG.uniform(0, 255, (n, size, size, 3)).astype(np.float32)


def set_in(config, layer, /, **changes):
    """Return a copy of a model's configuration with `changes` in the entry of one layer."""
    config = copy.deepcopy(config)
    (entry,) = [one for one in config["config"]["layers"] if one["class_name"] == layer]
    entry.update(changes)
    return config
