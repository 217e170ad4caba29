"""Keras models against the graphs made of them, run operation by operation; and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from graph_reference import run_graph

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.from_keras import graph_from_keras, input_preprocess
from mbn_deploy.export.from_keras_layers import AUGMENTATION, INACTIVE, LAYERS, TRAINS_BY_DEFAULT
from mbn_deploy.export.graph import WEIGHTED
from mbn_deploy.manifest import Preprocess
from mbn_deploy.models.api import build
from mbn_deploy.models.tables import NETWORKS

SHARED = Path(__file__).parents[2] / "shared"
RNG = np.random.default_rng(5)


def disturbed(model):
    """BatchNorm and biases away from 0 and 1, so that nothing is an identity."""
    model.set_weights(
        [w * RNG.uniform(0.5, 1.5, w.shape) + RNG.uniform(-0.1, 0.2, w.shape) for w in model.get_weights()]
    )
    return model


def pictures(model, n=2, size=None):
    height, width, channels = (size or side for side in model.input_shape[1:])
    return RNG.uniform(0, 255, (n, height, width, channels)).astype(np.float32)


def agree(model, x=None, atol=1e-5, **options):
    """The graph of `model`, after its result was compared with that of Keras."""
    x = pictures(model) if x is None else x
    found = graph_from_keras(model, batch=len(x), **options)
    inner = x.astype(np.float64)
    if found.preprocess_affine is not None:
        inner = inner * found.preprocess_affine[0] + found.preprocess_affine[1]
    result = run_graph(found.graph, inner)[found.graph.output]
    expected = np.asarray(model(x, training=False))
    assert expected.shape[1:] == result.shape[1:]
    scale = max(1.0, np.abs(expected).max())
    assert np.ptp(expected) > 1e-4 * scale, "the model gives the same for everything, so nothing is tested"
    np.testing.assert_allclose(result, expected, atol=atol * scale)
    return found


def model_of(*layers, size=(9, 8, 3), dtype="float32"):
    """A functional model of a chain of layers or functions of tensors."""
    import keras

    x = inputs = keras.Input(size, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return disturbed(keras.Model(inputs, x))


# The networks


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 33), (0.5, 64)])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, alpha, size):
    model = disturbed(build(name, alpha=alpha, size=size, classes=7, classifier_activation=None))
    x = pictures(model) if "v3" in name else pictures(model) / 127.5 - 1
    found = agree(model, x)
    assert (found.classes, found.scores) == (7, "logits")
    kinds = {op.kind for op in found.graph.ops}
    assert "sigmoid" not in kinds
    assert ("hard_swish" in kinds) == ("v3" in name and "minimalistic" not in name)
    assert ("hard_sigmoid" in kinds) == ("v3" in name and "minimalistic" not in name)


@pytest.mark.parametrize("preprocessing", [True, False])
@pytest.mark.parametrize("minimalistic", [True, False])
def test_mobilenet_v3_of_keras(preprocessing, minimalistic):
    import keras

    options = {"include_preprocessing": preprocessing, "minimalistic": minimalistic}
    model = keras.applications.MobileNetV3Small((40, 40, 3), 0.5, weights=None, classes=4, **options)
    found = agree(disturbed(model))
    assert found.scores == "softmax"
    if preprocessing:
        assert input_preprocess(found, None).mean == (127.5, 127.5, 127.5)
        assert input_preprocess(found, None).std == (127.5, 127.5, 127.5)
    else:
        with pytest.raises(UsageError, match=r"--preprocess raw\|unit"):
            input_preprocess(found, None)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2", "MobileNetV3Large"])
def test_transfer_learning(name):
    """As the tutorials do it: augmentation, preprocessing as operations, a backbone as a layer, an own head."""
    import keras

    layers = keras.layers
    backbone = getattr(keras.applications, name)((32, 32, 3), alpha=0.5, include_top=False, weights=None)
    backbone.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])(inputs)
    x = layers.RandomZoom(0.1)(x)
    x = x if "V3" in name else x / 127.5 - 1.0
    x = layers.GlobalAveragePooling2D()(backbone(x, training=False))
    outputs = layers.Dense(5)(layers.Dropout(0.2)(x))
    found = agree(disturbed(keras.Model(inputs, outputs)))
    assert input_preprocess(found, None).std == (127.5, 127.5, 127.5)
    assert found.scores == "logits"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
@pytest.mark.parametrize(
    ("name", "alpha", "file"),
    [
        ("mobilenet_v1", 0.25, "mobilenet_v1_0.25_224.h5"),
        ("mobilenet_v1", 1.0, "mobilenet_v1_1.0_224.weights.h5"),
        ("mobilenet_v2", 1.0, "mobilenet_v2_1.0_224.weights.h5"),
        ("mobilenet_v3_small", 1.0, "mobilenet_v3_small_1.0_224.weights.h5"),
        ("mobilenet_v3_large_minimalistic", 1.0, "mobilenet_v3_large_minimalistic_1.0_224.weights.h5"),
    ],
)
def test_real_weights_on_photographs(name, alpha, file):
    from PIL import Image

    files = sorted((SHARED / "imagenet" / "calibration").glob("*.jpg"))[:3]
    photos = [np.asarray(Image.open(one).convert("RGB").resize((224, 224)), np.float32) for one in files]
    x = np.stack(photos) if "v3" in name else np.stack(photos) / 127.5 - 1
    agree(build(name, alpha=alpha, weights=SHARED / "models" / "float" / file), x, atol=2e-5)


# Layers and operations, alone


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


def layer_classes():
    import keras

    return keras.layers


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
        "Add layer of three": lambda x: keras.layers.Add()([x, ops.relu(x), ops.sigmoid(x)]),
        "Multiply layer": lambda x: keras.layers.Multiply()([x, ops.relu(x)]),
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


# Heads


@pytest.mark.parametrize(
    ("activation", "units", "scores"),
    [("softmax", 4, "softmax"), ("sigmoid", 4, "sigmoid"), ("sigmoid", 1, "sigmoid"), (None, 4, "logits")],
)
def test_heads(activation, units, scores):
    import keras

    kl = keras.layers
    head = [kl.Dense(8, activation="relu"), kl.BatchNormalization(), kl.Dropout(0.5), kl.Dense(units, activation)]
    found = agree(model_of(kl.Rescaling(1 / 2550), kl.Conv2D(4, 3), kl.Flatten(), *head))
    assert (found.classes, found.scores) == (units, scores)


@pytest.mark.parametrize(
    ("tail", "scores"),
    [
        (lambda kl: [kl.GlobalAveragePooling2D(keepdims=True), kl.Softmax(), kl.Flatten()], "softmax"),
        (lambda kl: [kl.GlobalAveragePooling2D(), kl.Activation("sigmoid"), kl.Reshape((3,))], "sigmoid"),
        (lambda kl: [kl.Softmax(), kl.Flatten()], "logits"),  # it does not sum up to 1
        (lambda kl: [kl.Softmax(), kl.GlobalAveragePooling2D(), kl.Rescaling(2.0)], "logits"),
        (lambda kl: [kl.GlobalAveragePooling2D(), kl.Activation("swish")], "logits"),
    ],
)
def test_scores_go_by_what_is_computed(tail, scores):
    import keras

    model = model_of(keras.layers.Conv2D(3, 3), *tail(keras.layers))
    assert agree(model, pictures(model) / 255).scores == scores


def test_a_map_is_no_classifier():
    import keras

    found = graph_from_keras(model_of(keras.layers.Conv2D(3, 3)))
    with pytest.raises(InputError, match=r"no classifier: its output has shape \(1, 7, 6, 3\)"):
        _ = found.classes


# Models in models


def test_a_shared_layer_and_a_shared_model():
    import keras

    conv = keras.layers.Conv2D(3, 1, activation="relu", name="conv")
    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.BatchNormalization(name="norm"), conv], name="inner")
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, conv(inner(inner(conv(inputs)))))
    found = agree(disturbed(model))
    assert [op.kind for op in found.graph.ops].count("conv") == 4
    names = [op.name for op in found.graph.ops]
    assert len(names) == len(set(names))


def test_names_that_collide():
    """`conv/linear`: a convolution `conv` in front of its activation, and a layer `linear` of a model `conv`."""
    import keras

    kl = keras.layers

    def nested(name, layer):
        inputs = keras.Input((6, 6, 3))
        return keras.Model(inputs, kl.Conv2D(3, 1, activation="relu", name=layer)(inputs), name=name)

    inputs = keras.Input((6, 6, 3), name="linear")
    x = nested("other", "conv")(nested("conv", "linear")(nested("another", "conv")(inputs)))
    x = kl.Activation("swish", name="sigmoid")(x)
    x = kl.Add(name="1")([x, kl.Conv2D(3, 1, activation="relu", name="relu")(x), inputs])
    found = agree(disturbed(keras.Model(inputs, x)))
    assert len({op.name for op in found.graph.ops}) == len(found.graph.ops)
    assert len(found.graph.shapes) == len(found.graph.ops) + 1


def test_sequential_in_sequential_in_functional():
    import keras

    kl = keras.layers
    third = keras.Sequential([kl.ZeroPadding2D(((0, 1), (1, 0))), kl.Conv2D(4, 3, 2)])
    second = keras.Sequential([kl.Rescaling(1 / 255.0), third, kl.GlobalMaxPooling2D()])
    agree(model_of(second, kl.Dense(3)))


def test_a_model_with_an_open_size():
    import keras

    model = model_of(
        keras.layers.Conv2D(4, 3, padding="same"), keras.layers.GlobalAveragePooling2D(), size=(None, None, 3)
    )
    with pytest.raises(InputError, match=r"leaves its input size open .*--size"):
        graph_from_keras(model)
    x = RNG.uniform(0, 1, (2, 7, 10, 3)).astype(np.float32)
    found = agree(model, x, size=(7, 10))
    assert found.graph.shapes[found.graph.input] == (2, 7, 10, 3)


def test_a_size_that_contradicts_the_model():
    import keras

    model = model_of(keras.layers.Flatten())
    assert graph_from_keras(model, size=(9, 8)).classes == 9 * 8 * 3
    with pytest.raises(UsageError, match="takes 9x8 pictures, not 10x8"):
        graph_from_keras(model, size=(10, 8))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(policy):
    """The graph is that of the same weights in float32, not of Keras' rounding."""
    import keras

    def make(dtype):
        kl = keras.layers
        layers = [kl.Conv2D(4, 3, dtype=dtype), kl.BatchNormalization(dtype=dtype), kl.Flatten(dtype=dtype)]
        return model_of(*layers, kl.Dense(3, dtype=dtype))

    half, full = make(policy), make("float32")
    full.set_weights([w.astype(np.float32) for w in half.get_weights()])
    x = RNG.uniform(-1, 1, (2, 9, 8, 3)).astype(np.float32)
    graph = graph_from_keras(half, batch=2).graph
    np.testing.assert_allclose(run_graph(graph, x)[graph.output], full(x), atol=1e-5)
    assert all(op.kernel.dtype == np.float32 for op in graph.ops if op.kind in WEIGHTED)


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
    with pytest.raises(InputError, match=rf"{name} .* makes 5x8 out of 9x8 inside the model"):
        graph_from_keras(model_of(layer(5, 8), keras.layers.Conv2D(2, 3)))


# Preprocessing


def preprocess_of(*layers, given=None, dtype="float32"):
    import keras

    return input_preprocess(graph_from_keras(model_of(*layers, keras.layers.Conv2D(2, 3), dtype=dtype)), given)


def test_the_preprocessing_that_a_model_contains():
    import keras

    kl = keras.layers
    assert preprocess_of(kl.Rescaling(1 / 127.5, -1)).mean == (127.5,) * 3
    assert preprocess_of(kl.Rescaling(1 / 255)).std == (255.0,) * 3
    chained = preprocess_of(kl.Rescaling(1 / 255), kl.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.09, 0.16]))
    np.testing.assert_allclose(chained.mean, (102, 127.5, 153), rtol=1e-6)
    np.testing.assert_allclose(chained.std, (51, 76.5, 102), rtol=1e-6)
    assert preprocess_of(lambda x: x / 255.0 - 0.5).mean == (127.5,) * 3
    assert preprocess_of(kl.RandomFlip(), kl.Rescaling(1 / 255)).std == (255.0,) * 3
    caffe = preprocess_of(kl.Rescaling(1.0, [-103.939, -116.779, -123.68]))
    assert caffe.mean == (103.939, 116.779, 123.68)


def test_what_is_said_comes_before_what_the_model_does():
    """Pixels to [0, 1] outside, then to [-1, 1] inside."""
    import keras

    both = preprocess_of(keras.layers.Rescaling(2.0, -1.0), given=Preprocess.parse("unit"))
    assert (both.mean, both.std) == ((127.5,) * 3, (127.5,) * 3)


def no_rescaling(kl):
    return {
        "nothing": ([], "has no rescaling layer"),
        "BatchNorm": ([kl.BatchNormalization()], "has no rescaling layer"),
        "of values in [0, 1]": ([kl.Rescaling(2.0, -1.0)], "multiplies its input by 2"),
        "statistics of values in [0, 1]": (
            [kl.Normalization(mean=[0.5] * 3, variance=[0.04] * 3)],
            "multiplies its input by 5",
        ),
        "a Normalization without statistics": ([kl.Normalization()], "has no rescaling layer"),
        "padding first": ([kl.ZeroPadding2D(1), kl.Rescaling(1 / 255)], "has no rescaling layer"),
    }


@pytest.mark.parametrize("what", no_rescaling(layer_classes()))
def test_preprocessing_is_never_guessed(what):
    import keras

    layers, message = no_rescaling(keras.layers)[what]
    with pytest.raises(UsageError, match=message) as caught:
        preprocess_of(*layers)
    assert "--preprocess raw|unit|tf|torch|caffe|MEAN/STD" in str(caught.value)


def test_an_integer_input_is_pixels():
    import keras

    said = preprocess_of(keras.layers.Rescaling(1.0), dtype="uint8")
    assert (said.mean, said.std) == ((0.0,) * 3, (1.0,) * 3)


def test_a_normalization_that_something_else_reads_stays():
    import keras

    kl = keras.layers
    inputs = keras.Input((6, 6, 3))
    outputs = kl.Add()([kl.Rescaling(1 / 255)(inputs), kl.Conv2D(3, 1)(inputs)])
    found = agree(disturbed(keras.Model(inputs, outputs)))
    assert found.preprocess_affine is None


def test_grey_pictures():
    import keras

    model = model_of(keras.layers.Conv2D(2, 3), size=(6, 6, 1))
    assert input_preprocess(graph_from_keras(model), Preprocess.parse("tf")).mean == (127.5,)
    with pytest.raises(UsageError, match="one channel"):
        input_preprocess(graph_from_keras(model), Preprocess.parse("torch"))
    with pytest.raises(InputError, match="5 channels"):
        input_preprocess(graph_from_keras(model_of(keras.layers.Conv2D(2, 3), size=(6, 6, 5))), Preprocess.parse("tf"))


# Refusals: the layer, its class, its place, and why


def refused(kl):
    import keras

    ops = keras.ops
    nan = kl.Conv2D(2, 1, name="bad", bias_initializer=keras.initializers.Constant(np.nan))
    return {
        "lambda": (kl.Lambda(lambda x: x, name="bad"), "Lambda .*not in the supported set"),
        "custom": (custom(), "Own 'bad' .*not in the supported set"),
        "custom named as Keras'": (custom("Conv2D")(2, 1, name="bad"), "Conv2D 'bad' .*not in the supported set"),
        "unsupported": (kl.UpSampling2D(name="bad"), "UpSampling2D 'bad' .*not in the supported set"),
        "transposed": (kl.Conv2DTranspose(2, 3, name="bad"), "Conv2DTranspose 'bad' .*supported"),
        "activation": (kl.Conv2D(2, 1, activation="elu", name="bad"), "its activation 'elu' is none of linear, relu"),
        "activation layer": (kl.Activation("gelu", name="bad"), "its activation 'gelu'"),
        "own function": (kl.Activation(lambda x: x, name="bad"), "its activation '<lambda>'"),
        "leaky": (kl.ReLU(negative_slope=0.1, name="bad"), "negative_slope=0.1"),
        "bound": (kl.ReLU(4.0, name="bad"), "max_value=4.0"),
        "threshold": (kl.ReLU(threshold=1.0, name="bad"), "threshold=1.0"),
        "channels first": (kl.GlobalAveragePooling2D("channels_first", name="bad"), "channels first"),
        "channels first padding": (kl.ZeroPadding2D(1, data_format="channels_first", name="bad"), "channels first"),
        "flatten channels first": (kl.Flatten("channels_first", name="bad"), "channels first"),
        "BatchNorm of rows": (kl.BatchNormalization(axis=1, name="bad"), "it normalizes axis 1"),
        "softmax over rows": (kl.Softmax(axis=1, name="bad"), "softmax over axis 1"),
        "statistics of rows": (kl.Normalization(axis=1, mean=1.0, variance=2.0, name="bad"), "not one finite"),
        "groups": (kl.Conv2D(4, 1, groups=2, name="bad"), "2 groups on 4 channels"),
        "training": (lambda x: kl.Dropout(0.5, name="bad")(x, training=True), "called with training=True"),
        "LSTM": (lambda x: kl.LSTM(2, name="bad")(kl.Reshape((9, 32))(x)), "LSTM 'bad' .*not in the supported set"),
        "dense on sequences": (lambda x: kl.Dense(2, name="bad")(kl.Reshape((9, 32))(x)), r"shape \(1, 9, 32\)"),
        "other shapes": (
            lambda x: kl.Add(name="bad")([x, kl.GlobalAveragePooling2D(keepdims=True)(x)]),
            "not the same",
        ),
        "not finite": (nan, "not finite"),
        "masked softmax": (lambda x: kl.Softmax(name="bad")(x, mask=x > 0), "Greater"),
        "difference": (lambda x: x - ops.relu(x), "one tensor is subtracted from another"),
        "quotient": (lambda x: x / ops.relu(x), "divided by a tensor"),
        "by zero": (lambda x: x / 0.0, "division by zero"),
        "clip": (lambda x: ops.clip(x, -1.0, 1.0), r"clipping to \[-1.0, 1.0\]"),
        "own relu": (lambda x: keras.activations.relu(x, max_value=3.0), "max_value=3.0"),
        "mean": (lambda x: ops.mean(x, axis=(1, 2)), "Mean .*not in the supported set"),
        "channels reversed": (lambda x: x[..., ::-1], "GetItem .*not in the supported set"),
        "more axes": (lambda x: x + np.ones((1, 1, 1, 1, 4), np.float32), "not one finite number a channel"),
        "constant of a picture": (lambda x: x * np.ones((9, 8, 1), np.float32), "not one finite number a channel"),
    }


def custom(name="Own"):
    import keras

    if name == "Own":
        return type("Own", (keras.layers.Layer,), {"call": lambda self, x: x})(name="bad")
    return type(name, (getattr(keras.layers, name),), {})


@pytest.mark.filterwarnings("ignore:.*")  # that layers without weights were not built, that NaN is no number
@pytest.mark.parametrize("what", refused(layer_classes()))
def test_refusals(what):
    import keras

    layer, message = refused(keras.layers)[what]
    inputs = keras.Input((9, 8, 4))
    x = layer(inputs)
    model = keras.Model(inputs, x, name="mine")
    with pytest.raises(InputError, match=message) as caught:
        graph_from_keras(model)
    assert "in model 'mine'" in str(caught.value)
    assert "cannot be exported" in str(caught.value)


def test_the_place_in_a_nested_model_is_named():
    import keras

    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.LeakyReLU(name="leaky")], name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"LeakyReLU 'leaky' \(operation 2 of 2 in model 'inner' inside 'outer'\)"):
        graph_from_keras(keras.Model(inputs, inner(inputs), name="outer"))


def test_nested_models_called_for_training():
    import keras

    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.BatchNormalization()], name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"'inner' .*training=True"):
        graph_from_keras(keras.Model(inputs, inner(inputs, training=True)))


def test_nested_models_that_cast_or_reshape_their_input():
    import keras

    inner = keras.Sequential([keras.Input((6, 6, 3), dtype="uint8"), keras.layers.Rescaling(1.0)], name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"'inner' .*cast to integers"):
        graph_from_keras(keras.Model(inputs, inner(inputs)))
    flat = keras.Sequential([keras.Input((6, 6)), keras.layers.Flatten()], name="flat")
    inputs = keras.Input((6, 6, 1))
    with pytest.raises(InputError, match=r"'flat' .*takes \(None, 6, 6\)"):
        graph_from_keras(keras.Model(inputs, flat(inputs)))


def test_nested_models_with_more_inputs():
    import keras

    a, b = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    inner = keras.Model([a, b], keras.layers.Subtract()([a, b]), name="inner")
    inputs = keras.Input((6, 6, 3))
    with pytest.raises(InputError, match=r"'inner' .*has 2 inputs"):
        graph_from_keras(keras.Model(inputs, inner([inputs, inputs])))


def test_models_quantized_by_keras():
    import keras

    layer = keras.layers.Dense(3, name="bad")
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), layer])
    layer.quantize("int8")
    with pytest.raises(InputError, match=r"Dense 'bad' .*quantized by Keras"):
        graph_from_keras(model)


def test_models_that_are_no_graph():
    import keras

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(InputError, match=r"Own 'own'.* is no functional or sequential"):
        graph_from_keras(Own(name="own"))
    with pytest.raises(InputError, match=r"no functional or sequential .*call it once"):
        graph_from_keras(keras.Sequential([keras.layers.Flatten()]))

    class Changed(keras.Model):
        """Looks functional, but does something else when it is called."""

        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs)

    inputs = keras.Input((4, 4, 3))
    with pytest.raises(InputError, match="Changed 'changed'"):
        graph_from_keras(Changed(inputs, keras.layers.Flatten()(inputs), name="changed"))


def test_inputs_and_outputs():
    import keras

    a, b = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    with pytest.raises(InputError, match="2 inputs and 1 outputs"):
        graph_from_keras(keras.Model([a, b], keras.layers.Add()([a, b])))
    with pytest.raises(InputError, match="1 inputs and 2 outputs"):
        graph_from_keras(keras.Model(a, [keras.layers.Flatten()(a), keras.layers.ReLU()(a)]))
    with pytest.raises(InputError, match=r"an image \(N, H, W, C\) is expected"):
        graph_from_keras(model_of(keras.layers.Dense(3), size=(7,)))
    with pytest.raises(InputError, match="does nothing"):
        graph_from_keras(model_of(keras.layers.Dropout(0.5)))
