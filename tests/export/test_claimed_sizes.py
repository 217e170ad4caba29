"""Sizes that a configuration claims and its file does not hold: refused by the layer's name, without the memory."""

import io
import json
import resource
import sys

import h5py
import numpy as np
import pytest
from keras_files import config_of, saved, with_config, with_members

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.load import load_keras

MILLION = 10**6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{kind: path} of small models with every kind of layer that has a kernel, one of them nested."""
    import keras

    layers = keras.layers
    inner_in = keras.Input((6, 6, 4))
    inner = keras.Model(inner_in, layers.Conv2D(5, 1, name="inside")(inner_in), name="inner")
    stack = [
        layers.Conv2D(4, 3, name="conv"),
        layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
        inner,
        layers.UpSampling2D(2, name="up"),
        layers.ZeroPadding2D(1, name="pad"),
        layers.SeparableConv2D(3, 3, name="separable"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="dense"),
    ]
    x = source = keras.Input((8, 8, 3), name="source")
    for layer in stack:
        x = layer(x)
    folder = tmp_path_factory.mktemp("models")
    models = {"functional": keras.Model(source, x), "sequential": keras.Sequential([keras.Input((8, 8, 3)), *stack])}
    return {
        (kind, suffix): saved(model, folder / f"{kind}.{suffix}")
        for kind, model in models.items()
        for suffix in ("keras", "h5")
    }


def set_everywhere(config, layer, **settings):
    """Change the settings of the layer of that name, or of the first layer for "source", in nested models too."""
    for at, entry in enumerate(config["layers"]):
        if "layers" in entry["config"]:
            set_everywhere(entry["config"], layer, **settings)
        elif entry["config"].get("name") == layer or (
            layer == "source" and entry["class_name"] == "InputLayer" and not at
        ):
            entry["config"].update(settings)
            if layer == "source":
                return


def changed(path, target, layer, **settings):
    config = config_of(path)
    set_everywhere(config["config"], layer, **settings)
    target.write_bytes(path.read_bytes())
    return with_config(target, json.dumps(config))


def peak():
    """Return the most memory that this process has had so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_sound_files_are_loaded(files, kind, suffix):
    assert load_keras(files[kind, suffix]).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        ("conv", {"filters": 30 * MILLION}),
        ("conv", {"filters": 10**30}),
        ("conv", {"kernel_size": [MILLION, MILLION]}),
        ("depthwise", {"depth_multiplier": 10**9}),
        ("depthwise", {"kernel_size": [MILLION, 1]}),
        ("inside", {"filters": 10**9}),
        ("separable", {"depth_multiplier": 10**9}),
        ("separable", {"filters": 10**9}),
        ("dense", {"units": 10**9}),
        ("up", {"size": [MILLION, MILLION]}),
        ("pad", {"padding": [[MILLION, MILLION], [MILLION, MILLION]]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("file", [("functional", "keras"), ("functional", "h5"), ("sequential", "keras")])
def test_a_layer_that_claims_too_much_is_named(files, file, layer, settings, tmp_path):
    path = changed(files[file], tmp_path / files[file].name, layer, **settings)
    before = peak()
    with pytest.raises(InputError, match=rf"{path.name}.*'(inner/)?{layer}'"):
        load_keras(path)
    assert peak() - before < 100


@pytest.mark.parametrize(
    "shape",
    [[None, MILLION, MILLION, 3], [None, 20_000, 20_000, 3], [10**9, 8, 8, 3], [None, 8, 8, 10**9], [10**30] * 4],
)
@pytest.mark.parametrize("file", [("functional", "keras"), ("sequential", "h5")])
def test_a_gigantic_input(files, file, shape, tmp_path):
    path = changed(files[file], tmp_path / files[file].name, "source", batch_shape=shape)
    before = peak()
    with pytest.raises(InputError, match=rf"{path.name}.*InputLayer") as caught:
        load_keras(path)
    assert str(tuple(shape)) in str(caught.value)
    assert peak() - before < 100


def functional(source, *layers):
    import keras

    x = source = keras.Input(source, name="source")
    for layer in layers:
        x = layer(x)
    return keras.Model(source, x)


def tile(x):
    import keras

    return keras.ops.tile(x, (1, MILLION, MILLION, 1))


def repeat(x):
    import keras

    return keras.ops.repeat(x, 10**9, axis=1)


@pytest.mark.parametrize("layer", ["up", "resizing", "tile", "repeat"])
def test_a_gigantic_tensor_without_weights(layer, tmp_path):
    from keras import layers

    grow = {
        "up": layers.UpSampling2D(2000, name="up"),
        "resizing": layers.Resizing(MILLION, MILLION, name="resizing"),
        "tile": tile,
        "repeat": repeat,
    }[layer]
    path = saved(functional((8, 8, 3), grow, layers.GlobalAveragePooling2D()), tmp_path / "m.keras")
    before = peak()
    with pytest.raises(InputError, match=rf"m\.keras.*{layer}"):
        load_keras(path)
    assert peak() - before < 100


def test_a_gigantic_normalization(tmp_path):
    """Keras repeats its mean for every channel while the layer is built."""
    from keras import layers

    stack = [
        layers.UpSampling2D(2, name="up"),
        layers.Reshape((1, 1, -1)),
        layers.Normalization(mean=1.0, variance=2.0),
    ]
    small = saved(functional((8, 8, 3), *stack), tmp_path / "small.keras")
    assert load_keras(small).output_shape == (None, 1, 1, 768)
    before = peak()
    with pytest.raises(InputError, match=r"m\.keras.*'up'"):
        load_keras(changed(small, tmp_path / "m.keras", "up", size=[20_000, 20_000]))
    assert peak() - before < 100


def test_a_split_into_millions(tmp_path):
    import keras

    path = saved(functional((8, 8, 4), lambda x: keras.ops.split(x, 4, axis=-1)[0]), tmp_path / "m.keras")
    text = json.dumps(config_of(path))
    assert '"indices_or_sections": 4' in text
    with pytest.raises(InputError, match=r"split.*100000000"):
        load_keras(with_config(path, text.replace('"indices_or_sections": 4', '"indices_or_sections": 100000000')))


def test_a_model_of_open_size_that_grows(tmp_path):
    import keras

    grows = functional((None, None, 3), keras.layers.UpSampling2D(2000, name="up"))
    model = load_keras(saved(grows, tmp_path / "m.keras"))
    with pytest.raises(InputError, match="'up'"):
        graph_from_keras(model, size=(224, 224))


def test_long_vectors_are_joined_without_a_matrix_of_their_length():
    import keras

    layers = keras.layers
    joined = functional((300, 300, 3), layers.Flatten(), lambda x: layers.Concatenate()([x, x]))
    before = peak()
    assert graph_from_keras(joined).outputs == 540_000
    assert peak() - before < 100


def test_weights_that_all_together_unpack_to_gigabytes(files, tmp_path):
    """Each of them is below the bound, and none of them takes space in the file."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for at in range(40):
            file.create_dataset(f"layers/conv2d/vars/{at}", shape=(16 << 20,), dtype=np.float32)
    path = tmp_path / "m.keras"
    path.write_bytes(files["functional", "keras"].read_bytes())
    assert len(weights.getvalue()) < 100_000
    before = peak()
    with pytest.raises(InputError, match=r"m\.keras: model\.weights\.h5"):
        load_keras(with_members(path, {"model.weights.h5": weights.getvalue()}))
    assert peak() - before < 100
