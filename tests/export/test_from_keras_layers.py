"""Every layer and operation alone, against the graph made of it."""

import numpy as np
import pytest
from graph_reference import run_graph
from keras_graphs import RNG, agree, disturbed, layer_classes, model_of

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.handlers.training_only import AUGMENTATION, INACTIVE, TRAINS_BY_DEFAULT
from mbn_deploy.export.from_keras.supported import LAYERS

# Layers and operations, alone

FUNCTIONS = (
    *("leaky_relu", "elu", "selu", "celu", "gelu", "tanh", "softplus", "softsign", "mish", "log_sigmoid"),
    *("log_softmax", "hard_tanh", "hard_sigmoid"),
)


def single(kl):
    """Layers whose every option changes what is computed."""
    return {
        "conv same stride": kl.Conv2D(5, 3, 2, padding="same", activation="relu"),
        "conv valid oblong": kl.Conv2D(5, (3, 2), (2, 1), use_bias=False),
        "conv dilated": kl.Conv2D(5, 3, dilation_rate=(2, 3), padding="same"),
        "conv swish": kl.Conv2D(5, 1, activation="swish"),
        "depthwise": kl.DepthwiseConv2D(3, 2, padding="same", activation="relu6"),
        "depthwise multiplier": kl.DepthwiseConv2D(3, depth_multiplier=3),
        "depthwise dilated": kl.DepthwiseConv2D(3, dilation_rate=2, padding="same"),
        "separable": kl.SeparableConv2D(5, 3, 2, padding="same", depth_multiplier=2, activation="hard_swish"),
        "separable plain": kl.SeparableConv2D(5, 3, use_bias=False),
        "dense on pixels": kl.Dense(4, activation="hard_sigmoid"),
        "batch norm": kl.BatchNormalization(epsilon=0.1),
        "batch norm without scale": kl.BatchNormalization(scale=False),
        "batch norm without center": kl.BatchNormalization(center=False),
        "batch norm axis 3": kl.BatchNormalization(axis=3),
        "relu": kl.ReLU(),
        "relu6": kl.ReLU(6.0),
        "activation": kl.Activation("silu"),
        "softmax": kl.Softmax(),
        "relu to 1": kl.ReLU(1.0),
        "relu to 20 with a slope": kl.ReLU(20.0, negative_slope=0.1),
        "relu with a threshold": kl.ReLU(threshold=1.5),
        "relu with everything": kl.ReLU(6.0, negative_slope=0.2, threshold=1.0),
        "leaky relu": kl.LeakyReLU(),
        "leaky relu of 0": kl.LeakyReLU(negative_slope=0.0),
        "prelu a channel": kl.PReLU(shared_axes=[1, 2]),
        "prelu a value": kl.PReLU(),
        "prelu a row": kl.PReLU(shared_axes=[2, 3]),
        "prelu of one slope": kl.PReLU(shared_axes=[1, 2, 3]),
        "elu": kl.ELU(),
        "elu with alpha": kl.ELU(alpha=0.4),
        **{f"activation {name}": kl.Activation(name) for name in FUNCTIONS},
        "conv gelu": kl.Conv2D(5, 1, activation="gelu"),
        "conv selu": kl.Conv2D(5, 1, activation="selu"),
        "conv with a layer": kl.Conv2D(5, 1, activation=kl.LeakyReLU(0.1)),
        "conv with a bounded relu": kl.Conv2D(5, 1, activation=kl.ReLU(2.0)),
        "dense with an activation layer": kl.Dense(5, activation=kl.Activation("elu")),
        "activation of a layer": kl.Activation(kl.ReLU(6.0)),
        "softmax of columns": kl.Softmax(axis=1),
        "softmax of a list": kl.Softmax(axis=[-2]),
        "padding": kl.ZeroPadding2D(((1, 2), (3, 0))),
        "padding number": kl.ZeroPadding2D(2),
        "global average": kl.GlobalAveragePooling2D(keepdims=True),
        "global max": kl.GlobalMaxPooling2D(),
        "average same": kl.AveragePooling2D(3, 2, padding="same"),
        "average valid": kl.AveragePooling2D((2, 3)),
        "max same": kl.MaxPooling2D(3, 2, padding="same"),
        "max valid": kl.MaxPooling2D((3, 2), (1, 2)),
        "flatten": kl.Flatten(),
        "reshape": kl.Reshape((-1, 6)),
        "reshape twice": kl.Reshape((3, 4, 18)),
        "rescaling list": kl.Rescaling([0.1, 0.2, 0.3], [1, 2, 3]),
        "rescaling negative": kl.Rescaling(-0.5, 1),
        "normalization": kl.Normalization(mean=[1, 2, 3], variance=[4, 5, 6]),
        "normalization inverted": kl.Normalization(mean=[1, 2, 3], variance=[4, 5, 6], invert=True),
        "normalization of all": kl.Normalization(axis=None, mean=3, variance=7),
        "normalization without variance": kl.Normalization(mean=[1, 2, 3], variance=[4, 0, 6]),
    }


@pytest.mark.parametrize("what", single(layer_classes()))
def test_layers(what):
    import keras

    layer = single(keras.layers)[what]
    # A convolution before and after it: nothing is taken out as preprocessing, and values have either sign.
    agree(model_of(keras.layers.Conv2D(3, 1), layer, size=(9, 8, 4)), RNG.normal(0, 5, (2, 9, 8, 4)).astype(np.float32))


@pytest.mark.parametrize("what", ["rescaling list", "rescaling negative", "normalization", "normalization of all"])
def test_layers_at_the_input(what):
    import keras

    agree(model_of(single(keras.layers)[what], keras.layers.Conv2D(4, 3, padding="same")))


def operations():
    import keras

    ops, act = keras.ops, keras.activations

    def read_twice(x):
        clipped = ops.relu6(x + 3.0)
        return clipped * (1 / 6) + clipped

    half = keras.layers.AveragePooling2D(1)
    merges = {
        f"{name} layer of {len(values)}": lambda x, name=name, values=values: getattr(keras.layers, name)()(
            [value(x) for value in values]
        )
        for name in ("Add", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Subtract")
        for values in ([ops.relu, half], [half, ops.tanh, ops.sigmoid])
        if name != "Subtract" or len(values) == 2
    }

    def pooled(x):
        return keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)

    row = np.array([1.0, -2.0, 3.0], np.float32)
    return {
        "constants": lambda x: 2.0 - (3.0 + x * 0.5) / 4.0,
        "arrays": lambda x: ops.multiply(ops.add(row, x), row) - row.reshape(1, 1, 1, 3),
        "negative": lambda x: -x,
        "divide": lambda x: ops.divide(x, row),
        "sum": lambda x: x + ops.relu(x),
        "product": lambda x: x * ops.sigmoid(x),
        "gate": lambda x: x * keras.layers.GlobalAveragePooling2D(keepdims=True)(x),
        "gate first": lambda x: keras.layers.GlobalAveragePooling2D(keepdims=True)(x) * x,
        "twice": lambda x: x + x,
        "square": lambda x: x * x,
        "relu": ops.relu,
        "relu6": ops.relu6,
        "hard_swish": ops.hard_swish,
        "hard_sigmoid": ops.hard_sigmoid,
        "silu": ops.silu,
        "softmax": ops.softmax,
        "clip": lambda x: ops.clip(x, 0.0, 6.0),
        "activations.relu": lambda x: act.relu(x, max_value=6.0),
        "activations.softmax": act.softmax,
        "written out": lambda x: x * (ops.relu6(x + 3.0) * (1.0 / 6.0)),
        "written out by parts": lambda x: ops.relu6(x + 3.0) / 6.0,
        "not quite hard-sigmoid": lambda x: x * (ops.relu6(x + 2.5) * (1.0 / 6.0)),
        "hard-sigmoid read twice": read_twice,
        **merges,
        "rows joined": lambda x: keras.layers.Concatenate(axis=1)([x, ops.relu(x)]),
        "columns joined": lambda x: ops.concatenate([x, ops.relu(x)], axis=-2),
        "poolings joined": lambda x: keras.layers.Concatenate()(pooled(x)),
        "poolings subtracted": lambda x: keras.layers.Subtract()(pooled(x)),
        "dot": lambda x: keras.layers.Dot(axes=1)(pooled(x)),
        "cosine": lambda x: keras.layers.Dot(axes=-1, normalize=True)(pooled(x)),
        "difference": lambda x: x - ops.tanh(x),
        "difference that broadcasts": lambda x: x - keras.layers.GlobalAveragePooling2D(keepdims=True)(x),
        "largest": lambda x: ops.maximum(x, -x),
        "at least": lambda x: ops.maximum(x, -0.5),
        "at most": lambda x: ops.minimum(2.5, x),
        "at least, by channel": lambda x: ops.maximum(x, row),
        "at most, by channel": lambda x: ops.minimum(x, row),
        "leaky by maximum": lambda x: ops.maximum(x, 0.1 * x),
        "absolute": ops.abs,
        "squared": ops.square,
        "clip anywhere": lambda x: ops.clip(x, -1.5, 4.0),
        "tanh": ops.tanh,
        "gelu": ops.gelu,
        "exact gelu": lambda x: ops.gelu(x, approximate=False),
        "leaky_relu": lambda x: ops.leaky_relu(x, 0.4),
        "elu": lambda x: ops.elu(x, 0.7),
        "celu": lambda x: ops.celu(x, 0.7),
        "selu": ops.selu,
        "softplus": ops.softplus,
        "softsign": ops.softsign,
        "log_sigmoid": ops.log_sigmoid,
        "log_softmax": ops.log_softmax,
        "log_softmax of rows": lambda x: ops.log_softmax(x, axis=-2),
        "hard_tanh": ops.hard_tanh,
        "activations.relu with a slope": lambda x: act.relu(x, negative_slope=0.2),
        "activations.tanh": act.tanh,
    }


@pytest.mark.parametrize("what", operations())
def test_operations(what):
    import keras

    model = model_of(keras.layers.Conv2D(3, 1), operations()[what], size=(5, 6, 4))
    found = agree(model, RNG.normal(0, 4, (2, 5, 6, 4)).astype(np.float32))
    names = [op.name for op in found.graph.ops]
    assert len(names) == len(set(names))


def test_patterns_become_one_operation():
    import keras

    model = model_of(keras.layers.Conv2D(3, 1), operations()["written out"])
    assert [op.kind for op in graph_from_keras(model).graph.ops] == ["conv", "hard_swish"]


def test_grouped_convolution_as_depthwise():
    """One group a channel; TensorFlow's CPU kernel for it is compared by running the channels one by one."""
    import keras

    layer = keras.layers.Conv2D(6, 3, groups=3)
    model = keras.Sequential([keras.Input((5, 5, 3)), layer])
    x = RNG.normal(0, 1, (1, 5, 5, 3)).astype(np.float32)
    kernel = np.asarray(layer.kernel)
    parts = [keras.ops.conv(x[..., i : i + 1], kernel[..., 2 * i : 2 * i + 2]) for i in range(3)]
    graph = graph_from_keras(model).graph
    np.testing.assert_allclose(run_graph(graph, x)[graph.output], np.concatenate(parts, -1), atol=1e-5)


def test_low_rank_adapters_are_part_of_the_kernel():
    import keras

    dense = keras.layers.Dense(4)
    model = model_of(keras.layers.Flatten(), dense)
    dense.enable_lora(2)
    before = np.asarray(dense._kernel)
    agree(disturbed(model))
    assert np.abs(np.asarray(dense.kernel) - before).max() > 0.01


# Layers that do nothing when a picture is classified


def make_inactive(name):
    import keras

    options = {
        **{key: {"rate": 0.5} for key in ("Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout")},
        "GaussianNoise": {"stddev": 1.0},
        "ActivityRegularization": {"l1": 1.0},
        **{key: {"factor": 0.5} for key in ("RandomRotation", "RandomContrast", "RandomBrightness", "RandomHue")},
        **{key: {"factor": 0.5} for key in ("RandomSaturation", "RandomSharpness")},
        "RandomZoom": {"height_factor": 0.5},
        "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
        "RandomShear": {"x_factor": 0.5, "y_factor": 0.5},
        "RandomColorDegeneration": {"factor": 0.5},
        "RandomPosterization": {"factor": 4},
        "RandomColorJitter": {"brightness_factor": 0.5, "contrast_factor": 0.5},
    }
    return getattr(keras.layers, name)(**options.get(name, {}))


@pytest.mark.parametrize("name", INACTIVE)
def test_inactive_layers_return_what_they_get(name):
    """With values that no picture has: an inactive layer does not clip, either."""
    x = RNG.uniform(-300, 600, (2, 9, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        make_inactive(name)(x, training=False) if takes_training(name) else make_inactive(name)(x), x
    )


def takes_training(name):
    import inspect

    import keras

    return "training" in inspect.signature(getattr(keras.layers, name).call).parameters


@pytest.mark.parametrize("name", AUGMENTATION)
def test_augmentation_in_a_functional_model(name):
    import keras

    agree(model_of(make_inactive(name), keras.layers.Conv2D(2, 3)))


def test_who_trains_by_default():
    """Keras 3 writes training=True into the calls of these, and only these, if nothing else is said."""
    import inspect

    import keras

    def default(name):
        return inspect.signature(getattr(keras.layers, name).call).parameters.get("training")

    by_default = {name for name in LAYERS if (found := default(name)) is not None and found.default is True}
    assert by_default == set(TRAINS_BY_DEFAULT)


@pytest.mark.parametrize("name", ["Resizing", "CenterCrop", "RandomCrop"])
def test_resizing_to_the_size_that_it_has(name):
    import keras

    layer = getattr(keras.layers, name)
    options = [{}]
    if name == "Resizing":
        kinds = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5")
        options = [{"interpolation": kind} for kind in kinds]
        options += [{"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}, {"antialias": True}]
    for chosen in options:
        agree(model_of(layer(9, 8, **chosen), keras.layers.Conv2D(2, 3)))


def test_a_random_crop_to_another_size_is_refused():
    import keras

    with pytest.raises(InputError, match=r"RandomCrop .*5x8"):
        graph_from_keras(model_of(keras.layers.RandomCrop(5, 8), keras.layers.Conv2D(2, 3)))
