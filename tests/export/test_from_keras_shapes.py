"""Layers and operations that move, pick, reduce or normalize values, against the graph made of them."""

import numpy as np
import pytest
from graph_reference import run_graph
from keras_graphs import RNG, agree, layer_classes, model_of

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.graph.fold import fold


def layers(kl):
    return {
        "permute": kl.Permute((2, 1, 3)),
        "permute channels": kl.Permute((3, 1, 2)),
        "cropping": kl.Cropping2D(((1, 2), (0, 3))),
        "cropping number": kl.Cropping2D(1),
        "center crop": kl.CenterCrop(4, 5),
        "center crop of a smaller picture": kl.CenterCrop(12, 10),
        "resizing": kl.Resizing(5, 12),
        "resizing nearest": kl.Resizing(13, 5, interpolation="nearest"),
        "resizing of the middle": kl.Resizing(6, 4, crop_to_aspect_ratio=True),
        "resizing with a border": kl.Resizing(6, 4, pad_to_aspect_ratio=True),
        "upsampling": kl.UpSampling2D(2),
        "upsampling bilinear": kl.UpSampling2D((2, 3), interpolation="bilinear"),
        "layer norm": kl.LayerNormalization(),
        "layer norm of pictures": kl.LayerNormalization(axis=[1, 2, 3]),
        "layer norm without weights": kl.LayerNormalization(center=False, scale=False, epsilon=0.1),
        "unit norm": kl.UnitNormalization(),
        "unit norm of pictures": kl.UnitNormalization(axis=[1, 2, 3]),
        "grouped conv": kl.Conv2D(6, 3, 2, groups=3, padding="same", activation="relu"),
    }


@pytest.mark.parametrize("what", layers(layer_classes()))
def test_layers(what):
    import keras

    # A convolution before it: nothing is taken out as preprocessing, and values have either sign.
    agree(model_of(keras.layers.Conv2D(6, 1), layers(keras.layers)[what]), values())


def values(n=2):
    return RNG.normal(0, 4, (n, 9, 8, 3)).astype(np.float32)


def operations():
    import keras

    ops, kl = keras.ops, keras.layers

    def gated(x, gate):
        return x * ops.sigmoid(gate)

    def shuffled(x):
        groups = ops.transpose(ops.reshape(x, (-1, 9, 8, 2, 3)), (0, 1, 2, 4, 3))
        return ops.reshape(groups, (-1, 9, 8, 6))

    def sequence(x):
        tokens = kl.LayerNormalization()(kl.Reshape((72, 6))(x))
        return ops.mean(kl.Dense(4, activation="relu")(tokens), axis=1)

    def vector(x):
        return kl.GlobalAveragePooling2D()(x)

    return {
        "mean": lambda x: ops.mean(x, axis=(1, 2)),
        "mean of rows": lambda x: ops.mean(x, axis=1),
        "mean of channels": lambda x: ops.mean(x, axis=-1, keepdims=True),
        "mean of pictures": lambda x: ops.mean(x, axis=(1, 2, 3), keepdims=True) * x,
        "mean of vectors": lambda x: vector(x) * ops.mean(vector(x), axis=1, keepdims=True),
        "average": lambda x: ops.average(x, axis=2),
        "max": lambda x: ops.max(x, axis=[1, 2]),
        "max of columns": lambda x: ops.max(x, axis=2, keepdims=True),
        "max of channels": lambda x: ops.amax(x, axis=-1),
        "min": lambda x: ops.min(x, axis=(1, 2)),
        "sum": lambda x: ops.sum(x, axis=(1, 2), keepdims=True),
        "squeeze": lambda x: ops.squeeze(ops.mean(x, axis=(1, 2), keepdims=True), (1, 2)),
        "expand": lambda x: ops.expand_dims(ops.expand_dims(vector(x), 1), 1) + x,
        "new axes": lambda x: vector(x)[:, None, None, :] * x,
        "reshape": lambda x: ops.reshape(x, (-1, 12, 36)),
        "swap axes": lambda x: ops.swapaxes(x, 1, 2),
        "move axis": lambda x: ops.moveaxis(x, -1, 1),
        "pad": lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
        "slice": lambda x: x[:, 1:-1, ::2],
        "slice of channels": lambda x: x[..., 2:5],
        "slice back": lambda x: x[:, ::-1, :, ::-1],
        "one row": lambda x: x[:, -1],
        "one pixel": lambda x: x[:, 2, 3],
        "one channel": lambda x: x[..., 4],
        "slice of vectors": lambda x: vector(x)[:, 1:4],
        "flip": lambda x: ops.flip(x, axis=2),
        "halves": lambda x: gated(*ops.split(x, 2, axis=-1)),
        "parts": lambda x: ops.split(x, [2, 5], axis=1)[1],
        "stack": lambda x: ops.max(ops.reshape(ops.stack([x, -x], axis=-1), (-1, 9, 48, 2)), axis=-1),
        "repeat rows": lambda x: ops.repeat(x, 3, axis=1),
        "tile one pixel": lambda x: ops.tile(ops.mean(x, axis=(1, 2), keepdims=True), [1, 9, 8, 1]) + x,
        "normalize": lambda x: ops.normalize(x, axis=-1),
        "resize": lambda x: ops.image.resize(x, (4, 13)),
        "cast": lambda x: ops.cast(x, "float32") * 2.0,
        "channel shuffle": shuffled,
        "sequence": sequence,
        "gate of channels": lambda x: gated(x, kl.Dense(6)(kl.Reshape((1, 1, 6))(vector(x)))),
        "gate of positions": lambda x: gated(x, kl.Conv2D(1, 3, padding="same")(x)),
        "gate of rows and columns": lambda x: gated(
            x, ops.mean(x, axis=1, keepdims=True) * ops.mean(x, axis=2, keepdims=True)
        ),
        "gate of channels and positions": lambda x: gated(x, kl.Conv2D(1, 1)(x) + ops.mean(x, (1, 2), keepdims=True)),
        "spatial attention": lambda x: gated(
            x,
            kl.Conv2D(1, 7, padding="same")(
                kl.Concatenate()([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)])
            ),
        ),
    }


@pytest.mark.parametrize("what", operations())
def test_operations(what):
    import keras

    found = agree(model_of(keras.layers.Conv2D(6, 1), operations()[what]), values())
    names = [op.name for op in found.graph.ops]
    assert len(names) == len(set(names))


# What a model does to its pictures first


def preprocessing(mode):
    import keras

    return lambda x: keras.applications.imagenet_utils.preprocess_input(x, mode=mode)


def at_the_input():
    """Layers at the input of colour models, and the kinds of op that stay in front of the convolution (None: any)."""
    import keras

    ops, kl = keras.ops, keras.layers
    tf = kl.Rescaling(1 / 127.5, -1)
    return {
        "caffe": ([preprocessing("caffe")], []),
        "torch": ([preprocessing("torch")], []),
        "tf": ([preprocessing("tf")], []),
        "reversed": ([lambda x: x[..., ::-1], tf], []),
        "reversed behind": ([tf, lambda x: x[..., ::-1]], []),
        "flipped": ([lambda x: ops.flip(x, axis=-1), tf], []),
        "taken": ([lambda x: ops.take(x, [2, 1, 0], axis=-1), tf], []),
        "stacked": ([lambda x: ops.stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1), tf], []),
        "joined": ([lambda x: kl.Concatenate()([x[..., 2:], x[..., 1:2], x[..., :1]]), tf], []),
        "cast": ([lambda x: ops.cast(x, "float32") / 255.0], []),
        "resizing": ([kl.Resizing(6, 5), tf], ["resize"]),
        "resizing behind": ([tf, kl.Resizing(6, 5)], ["resize"]),
        "resizing, caffe": ([kl.Resizing(6, 5), preprocessing("caffe")], ["resize"]),
        "center crop": ([kl.CenterCrop(6, 5), tf], ["slice"]),
        "crop to a ratio": ([kl.Resizing(4, 4, crop_to_aspect_ratio=True), tf], ["slice", "resize"]),
        "grey of colours": ([ops.image.rgb_to_grayscale, tf], None),
        "padding": ([kl.ZeroPadding2D(1), tf], None),
    }


def of_grey():
    import keras

    ops, kl = keras.ops, keras.layers
    tf = kl.Rescaling(1 / 127.5, -1)
    return {
        "joined": [lambda x: kl.Concatenate()([x, x, x]), tf],
        "joined by an operation": [lambda x: ops.concatenate([x, x, x], axis=-1), tf],
        "repeated": [lambda x: ops.repeat(x, 3, axis=-1), tf],
        "tiled": [lambda x: ops.tile(x, [1, 1, 1, 3]), tf],
        "behind": [tf, lambda x: ops.tile(x, [1, 1, 1, 3])],
        "resized": [kl.Resizing(6, 5), lambda x: ops.repeat(x, 3, axis=-1), tf],
    }


@pytest.mark.parametrize("what", at_the_input())
def test_preprocessing_inside_the_model(what):
    import keras

    chain, kept = at_the_input()[what]
    found = agree(model_of(*chain, keras.layers.Conv2D(4, 3, padding="same")))
    assert found.input_affine.takes_pixels
    assert found.input_affine.reverses_channels == (what in REVERSED)
    kinds = [op.kind for op in fold(found.graph).ops]
    assert kept is None or kinds == [*kept, "conv"]


REVERSED = {"caffe", "resizing, caffe", "reversed", "reversed behind", "flipped", "taken", "stacked", "joined"}


@pytest.mark.parametrize("what", of_grey())
def test_grey_pictures_of_three_channels(what):
    import keras

    found = agree(model_of(*of_grey()[what], keras.layers.Conv2D(4, 3, padding="same"), size=(9, 8, 1)))
    assert found.input_affine.takes_pixels
    assert found.input_affine.scale.shape == (1,)
    assert [op.kind for op in fold(found.graph).ops if op.kind != "resize"] == ["conv"]


@pytest.mark.parametrize("mode", ["caffe", "torch"])
def test_grey_pictures_of_three_different_channels(mode):
    """The means differ by channel, so they stay in the graph: in a convolution of their own, before the padding."""
    import keras

    chain = [lambda x: keras.ops.repeat(x, 3, axis=-1), preprocessing(mode), keras.layers.Conv2D(4, 3, padding="same")]
    found = agree(model_of(*chain, size=(9, 8, 1)))
    assert found.input_affine.takes_pixels
    assert [op.kind for op in fold(found.graph).ops] == ["conv", "conv"]


@pytest.mark.parametrize("name", ["cast", "resizing", "nearest", "center crop"])
def test_integer_inputs(name):
    import keras

    kl = keras.layers
    first = {
        "cast": lambda x: keras.ops.cast(x, "float32"),
        "resizing": kl.Resizing(6, 5),
        "nearest": kl.Resizing(6, 5, interpolation="nearest"),
        "center crop": kl.CenterCrop(6, 5),
    }[name]
    model = model_of(first, kl.Rescaling(1 / 255), kl.Conv2D(4, 3), dtype="uint8")
    x = RNG.integers(0, 256, (2, 9, 8, 3)).astype(np.uint8)
    found = graph_from_keras(model, batch=2)
    assert found.input_affine.takes_pixels
    result = run_graph(found.graph, found.input_affine.apply(x.astype(np.float64)))[found.graph.output]
    # `predict` and `evaluate` do not round resized integers; `model(x)` of Keras 3 does.
    np.testing.assert_allclose(result, model.predict(x, verbose=0), atol=1e-5)


def test_integer_arithmetic_is_refused():
    """It would wrap around, or cut off fractions."""
    import keras

    inputs = keras.Input((9, 8, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 3)(keras.ops.cast(inputs - 1, "float32"))
    with pytest.raises(InputError, match="Subtract"):
        graph_from_keras(keras.Model(inputs, x))


def test_a_grouped_convolution_keeps_its_groups_behind_a_normalization():
    import keras

    kl = keras.layers
    model = model_of(kl.Conv2D(6, 1), kl.Conv2D(6, 3, groups=2), kl.BatchNormalization(), kl.ReLU())
    grouped = fold(graph_from_keras(model).graph).ops[-1]
    assert (grouped.groups, grouped.activation) == (2, "relu")


# Pictures of any size


def resizing_models():
    """Models of pictures of any size, and the way in which the runtime is to resize them."""
    import keras

    kl = keras.layers

    def nested(x):
        inner = keras.Sequential([keras.Input((None, None, 3)), kl.Resizing(9, 8), kl.Rescaling(1 / 255)], name="pre")
        return inner(x)

    tf = kl.Rescaling(1 / 127.5, -1)
    return {
        "keras": [kl.Resizing(9, 8), tf],
        "keras, augmented": [kl.RandomFlip(), kl.Resizing(9, 8), tf],
        "keras, rescaled before": [tf, kl.Resizing(9, 8)],
        "keras, nested": [nested],
        "keras-crop": [kl.Resizing(9, 8, crop_to_aspect_ratio=True), tf],
        "keras-pad": [kl.Resizing(9, 8, pad_to_aspect_ratio=True), tf],
        "keras-nearest": [kl.Resizing(9, 8, interpolation="nearest"), tf],
    }


@pytest.mark.parametrize("what", resizing_models())
def test_a_model_that_resizes_pictures_of_any_size_begins_behind_that(what):
    import keras

    chain = resizing_models()[what]
    model = model_of(*chain, keras.layers.Conv2D(4, 3, padding="same"), size=(None, None, 3))
    x = RNG.uniform(0, 255, (2, 9, 8, 3)).astype(np.float32)
    found = agree(model, x)
    assert found.graph.shapes[found.graph.input] == (2, 9, 8, 3)
    assert found.resize == what.split(",")[0]


def test_a_size_that_is_given_keeps_the_resizing_in_the_graph():
    import keras

    model = model_of(keras.layers.Resizing(9, 8), keras.layers.Conv2D(4, 3), size=(None, None, 3))
    found = agree(model, RNG.uniform(0, 255, (2, 12, 13, 3)).astype(np.float32), size=(12, 13))
    assert found.resize is None


def test_zeros_around_rescaled_pictures_are_no_preprocessing():
    import keras

    kl = keras.layers
    model = model_of(kl.Rescaling(1 / 255, 1), kl.Resizing(9, 8, pad_to_aspect_ratio=True), size=(None, None, 3))
    with pytest.raises(InputError, match="--size"):
        graph_from_keras(model)
