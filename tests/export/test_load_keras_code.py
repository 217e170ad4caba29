"""Users' model files with code or unknown layers in them: refused before Keras sees them."""

import pytest
from keras_files import classifier, config_of, saved, set_in, with_config

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.load import load_keras


@pytest.fixture
def bomb(monkeypatch):
    """Fails the test if Keras begins to make objects of a refused file."""
    import keras

    def never(*_, **__):
        pytest.fail("Keras was asked to make the model")

    monkeypatch.setattr(keras.models, "load_model", never)
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", never)


def custom_layer():
    import keras

    @keras.saving.register_keras_serializable("mine", "Twice")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    return Twice(name="double")


def custom_dense():
    import keras

    class Dense(keras.layers.Dense):
        pass

    return Dense(4, name="like_dense")


REFUSED = {
    "lambda": (
        lambda kl: kl.Lambda(lambda x: x * 2, name="code"),
        r"Lambda 'code' \(layer 6 of 10 in .*model '.*'\)",
    ),
    "custom": (lambda _: custom_layer(), r"'double' \(layer 6 of 10 in .*mine>Twice"),
    "named like a layer of Keras": (lambda _: custom_dense(), "Dense 'like_dense'"),
    "function": (
        lambda kl: kl.Activation(custom_activation, name="act"),
        "Activation 'act' .*'activation' .*custom_activation",
    ),
    "unsupported": (lambda kl: kl.Conv2DTranspose(1, 1, name="up"), "Conv2DTranspose 'up'"),
    "layer in a layer": (
        lambda kl: kl.Conv2D(4, 1, activation=kl.Dense(4), name="conv"),
        "Conv2D 'conv' .*activation .*Dense",
    ),
    "wrapper": (lambda kl: kl.TimeDistributed(kl.Dense(4), name="time"), "TimeDistributed 'time'"),
}


def custom_activation(x):
    return x * 2


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("what", REFUSED)
def test_code_and_unknown_layers_are_refused_before_keras_sees_them(what, suffix, tmp_path, request):
    import keras

    if what == "named like a layer of Keras" and suffix == "h5":
        pytest.skip("an .h5 has no module names: Keras takes such a layer for its own, too")
    make, named = REFUSED[what]
    path = saved(classifier(make(keras.layers)), tmp_path / f"m.{suffix}")
    request.getfixturevalue("bomb")
    with pytest.raises(InputError, match=named):
        load_keras(path)


def test_a_refusal_inside_a_nested_model_names_the_place(tmp_path, bomb):
    path = saved_without_bomb(tmp_path)
    with pytest.raises(InputError, match=r"layer 2 of 2 in layer 2 of 3 in .*m\.keras, model 'outer', model 'inside'"):
        load_keras(path)


def saved_without_bomb(folder):
    import keras

    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2DTranspose(2, 1, name="up")], name="inside")
    return saved(
        keras.Sequential([keras.Input((4, 4, 3)), inner, keras.layers.Flatten()], name="outer"), folder / "m.keras"
    )


EVIL = {"module": "os", "class_name": "system", "config": "touch /tmp/owned", "registered_name": "system"}


@pytest.mark.parametrize(
    "changes",
    [
        EVIL,
        {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://127.0.0.1"}},
        {"class_name": "TorchModuleWrapper", "config": {"name": "t", "module": "gASVAA=="}},
        {"class_name": "TFSMLayer", "config": {"name": "t", "filepath": "a"}},
        {"config": {"name": "conv", "filters": 4, "kernel_size": 1, "dtype": EVIL}},
        {"config": {"name": "conv", "filters": 4, "kernel_size": 1, "activation": EVIL}},
        {"config": {"name": "conv", "filters": 4, "kernel_size": [EVIL, 1]}},
        {"inbound_nodes": [{"args": [EVIL], "kwargs": {}}]},
        {"inbound_nodes": [{"args": [{"class_name": "__lambda__", "config": {"value": "x"}}], "kwargs": {}}]},
    ],
)
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_objects_that_run_code_are_refused_wherever_they_stand(changes, suffix, tmp_path, request):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    with_config(path, set_in(config_of(path), "Conv2D", **changes))
    request.getfixturevalue("bomb")
    with pytest.raises(InputError, match=path.name):
        load_keras(path)


def test_training_calls_are_refused(tmp_path, bomb):
    import keras

    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(keras.layers.Dropout(0.5, name="mc")(inputs, training=True))
    with pytest.raises(InputError, match=r"Dropout 'mc' .*training=True"):
        load_keras(saved(keras.Model(inputs, x), tmp_path / "m.keras"))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_models_quantized_by_keras_are_refused(suffix, tmp_path):
    import keras

    head = keras.layers.Dense(2, name="head")
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), head])
    head.quantize("int8")
    with pytest.raises(InputError, match="Dense 'head'"):
        load_keras(saved(model, tmp_path / f"m.{suffix}"))
