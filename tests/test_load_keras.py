"""Users' model files: those of Keras 2 and 3 load, everything dangerous or damaged is refused with a reason."""

import copy
import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from graph_reference import run_graph

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras import graph_from_keras
from mbn_deploy.export.from_keras_ops import OPERATIONS
from mbn_deploy.export.keras_config_ops import OPERATION_MODULES
from mbn_deploy.export.load_keras import load_keras

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared" / "models"
RNG = np.random.default_rng(3)


def classifier(*extra):
    """Normalization, a bare operation, a nested model with a shared layer, and the `extra` layers."""
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
    """The file at `path` with another configuration, given as data or text."""
    text = config if isinstance(config, str) else json.dumps(config)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text
            file.attrs["keras_version"] = keras_version or file.attrs["keras_version"]
        return path
    return with_members(path, {"config.json": text})


def with_members(path, changes, compression=zipfile.ZIP_STORED):
    """The archive at `path` with members replaced, added or (`None`) left out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in members.items():
            if value is not None:
                archive.writestr(name, value)
    return path


def pictures(n=2, size=16):
    return RNG.uniform(0, 255, (n, size, size, 3)).astype(np.float32)


# What loads


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_comes_back_as_it_was(suffix, tmp_path):
    model, x = classifier(), pictures()
    loaded = load_keras(saved(model, tmp_path / f"m.{suffix}"))
    np.testing.assert_allclose(loaded(x), model(x, training=False), atol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_suffix_does_not_matter(suffix, tmp_path):
    model = classifier()
    saved(model, tmp_path / f"m.{suffix}").rename(tmp_path / "model.bin")
    assert load_keras(tmp_path / "model.bin").count_params() == model.count_params()


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_mobilenet_v3_of_keras(suffix, tmp_path):
    """Bare operations: Keras itself cannot read its own .h5 of this model."""
    import keras

    model = disturbed(keras.applications.MobileNetV3Small((32, 32, 3), alpha=0.35, weights=None, classes=4))
    x = pictures(size=32)
    loaded = load_keras(saved(model, tmp_path / f"m.{suffix}"))
    np.testing.assert_allclose(loaded(x), model(x, training=False), atol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_of_keras_2(suffix):
    """scripts/make_keras2_files.py: everything that Keras 3 cannot read, and the output that Keras 2 had."""
    data = np.load(DATA / "keras2.npz")
    assert np.ptp(data["y"]) > 0.1
    model = load_keras(DATA / f"keras2.{suffix}")
    np.testing.assert_allclose(model(data["x"]), data["y"], atol=1e-5)
    found = graph_from_keras(model, batch=len(data["x"]))
    scale, offset = found.preprocess_affine
    np.testing.assert_allclose(scale, 1 / 127.5)
    np.testing.assert_allclose(offset, -1)
    result = run_graph(found.graph, data["x"] * scale + offset)[found.graph.output]
    np.testing.assert_allclose(result, data["y"], atol=1e-5)


def test_partly_frozen_models_keep_their_weights(tmp_path):
    """The order in an .h5 depends on what is frozen; kernels of one shape would be swapped."""
    import keras

    layers = [keras.layers.Conv2D(3, 1, name=f"c{i}") for i in range(3)]
    inner = keras.Sequential([keras.Input((4, 4, 3)), *layers], name="inner")
    inner.layers[0].trainable = False
    model = disturbed(keras.Sequential([keras.Input((4, 4, 3)), inner, keras.layers.Flatten()]))
    x = pictures(size=4)
    loaded = load_keras(saved(model, tmp_path / "m.h5"))
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_an_adapted_normalization(suffix, tmp_path):
    import keras

    layer = keras.layers.Normalization()
    layer.adapt(pictures(8))
    model = keras.Sequential([keras.Input((16, 16, 3)), layer, keras.layers.GlobalAveragePooling2D()])
    loaded = load_keras(saved(model, tmp_path / f"m.{suffix}"))
    x = pictures()
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)


def test_optimizer_and_losses_are_not_needed(tmp_path):
    import keras

    model = classifier()
    model.compile(keras.optimizers.Adam(), "categorical_crossentropy", metrics=["accuracy"])
    config = config_of(saved(model, tmp_path / "m.keras"))
    config["compile_config"]["loss"] = {"module": "my.code", "class_name": "MyLoss", "config": {}}
    loaded = load_keras(with_config(tmp_path / "m.keras", config))
    assert not loaded.compiled


def test_every_operation_of_the_converter_is_found_by_keras():
    import keras

    assert set(OPERATION_MODULES) | {"Identity"} == set(OPERATIONS)
    for name, module in OPERATION_MODULES.items():
        settings = {"x_min": 0, "x_max": 6} if name == "Clip" else {}
        entry = {"module": module, "class_name": name, "config": {"name": "a", **settings}, "registered_name": name}
        made = keras.saving.deserialize_keras_object(entry)
        assert (type(made).__name__, type(made).__module__) == (name, module)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
@pytest.mark.parametrize(
    ("file", "classes"), [("float/mobilenet_v1_0.25_224.h5", 1000), ("published/mlc_vww_96.h5", 2)]
)
def test_real_files_of_keras_2(file, classes):
    found = graph_from_keras(load_keras(SHARED / file))
    assert (found.classes, found.scores, found.preprocess_affine) == (classes, "softmax", None)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}")
def test_the_repaired_file_is_the_network_with_its_weights():
    from mbn_deploy.models.api import build

    path = SHARED / "float" / "mobilenet_v1_0.25_224.h5"
    x = RNG.uniform(-1, 1, (1, 224, 224, 3)).astype(np.float32)
    expected = build("mobilenet_v1", alpha=0.25, weights=path)(x)
    np.testing.assert_allclose(load_keras(path)(x), expected, atol=1e-6)


# Code


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
        r"Lambda 'code' \(layer 6 of 10 in .*model '.*'\) .*Python code",
    ),
    "custom": (lambda _: custom_layer(), r"'double' \(layer 6 of 10 in .*custom object \(mine>Twice\)"),
    "named like a layer of Keras": (lambda _: custom_dense(), "Dense 'like_dense' .*custom object"),
    "function": (
        lambda kl: kl.Activation(custom_activation, name="act"),
        "Activation 'act' .*its setting 'activation' is an object .*custom_activation",
    ),
    "unsupported": (lambda kl: kl.UpSampling2D(1, name="up"), "UpSampling2D 'up' .*not in the supported set"),
    "layer in a layer": (
        lambda kl: kl.Conv2D(4, 1, activation=kl.LeakyReLU(), name="conv"),
        "Conv2D 'conv' .*'activation' is an object .LeakyReLU",
    ),
    "wrapper": (lambda kl: kl.TimeDistributed(kl.Dense(4), name="time"), "TimeDistributed 'time' .*supported set"),
}


def custom_activation(x):
    return x * 2


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("what", REFUSED)
def test_code_and_unknown_layers_are_refused_before_keras_sees_them(what, suffix, tmp_path, request):
    import keras

    if what == "named like a layer of Keras" and suffix == "h5":
        pytest.skip("an .h5 has no module names: Keras takes such a layer for its own, too")
    make, message = REFUSED[what]
    path = saved(classifier(make(keras.layers)), tmp_path / f"m.{suffix}")
    request.getfixturevalue("bomb")
    with pytest.raises(InputError, match=message) as caught:
        load_keras(path)
    assert "no code is run" in str(caught.value) or what != "custom"


def test_a_refusal_inside_a_nested_model_names_the_place(tmp_path, bomb):
    path = saved_without_bomb(tmp_path)
    with pytest.raises(InputError, match=r"layer 2 of 2 in layer 2 of 3 in .*m\.keras, model 'outer', model 'inside'"):
        load_keras(path)


def saved_without_bomb(folder):
    import keras

    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.LeakyReLU(name="leaky")], name="inside")
    return saved(
        keras.Sequential([keras.Input((4, 4, 3)), inner, keras.layers.Flatten()], name="outer"), folder / "m.keras"
    )


def set_in(config, layer, /, **changes):
    """A copy of a model's configuration with `changes` in the entry of one layer."""
    config = copy.deepcopy(config)
    (entry,) = [one for one in config["config"]["layers"] if one["class_name"] == layer]
    entry.update(changes)
    return config


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
    with pytest.raises(InputError, match="cannot be loaded"):
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
    with pytest.raises(InputError, match=r"Dense 'head' .*quantized|Dense 'head' .*dtype policy"):
        load_keras(saved(model, tmp_path / f"m.{suffix}"))


# What Keras 2 meant otherwise


def keras2_config(**changes):
    return set_in(config_of(DATA / "keras2.h5"), "Dense", **changes)


@pytest.fixture
def keras2_file(tmp_path):
    (tmp_path / "m.h5").write_bytes((DATA / "keras2.h5").read_bytes())
    return tmp_path / "m.h5"


def test_hard_sigmoid_of_keras_2_is_another_function(keras2_file):
    config = config_of(keras2_file)
    config["config"]["layers"][-1]["config"]["activation"] = "hard_sigmoid"
    with pytest.raises(InputError, match=r"Dense 'dense' .*clip\(0.2 x \+ 0.5, 0, 1\)"):
        load_keras(with_config(keras2_file, config))


def test_groups_of_a_depthwise_convolution_must_mean_nothing(keras2_file):
    config = config_of(keras2_file)
    (bone,) = [layer for layer in config["config"]["layers"] if layer["name"] == "back/bone"]
    (first, *_) = [layer for layer in bone["config"]["layers"] if layer["class_name"] == "DepthwiseConv2D"]
    assert first["config"]["groups"] == 1
    first["config"]["groups"] = 2
    with pytest.raises(InputError, match=r"'block_0/depthwise' .*groups=2"):
        load_keras(with_config(keras2_file, config))


def test_a_function_of_tensorflow_that_is_not_known(keras2_file):
    text = json.dumps(config_of(keras2_file))
    assert '"function": "math.truediv"' in text
    with pytest.raises(
        InputError, match=r"TFOpLambda 'tf.math.truediv' .*tf.math.floordiv is a function of TensorFlow"
    ):
        load_keras(with_config(keras2_file, text.replace('"math.truediv"', '"math.floordiv"')))


@pytest.mark.parametrize(("version", "backend"), [("1.2.2", "tensorflow"), ("2.2.4", "theano"), ("2.2.4", "cntk")])
def test_older_files_are_refused(version, backend, keras2_file):
    with h5py.File(keras2_file, "r+") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version, backend
    with pytest.raises(InputError, match=f"written by Keras {version} with {backend}"):
        load_keras(keras2_file)


# Damage


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"hello world, no model", "neither a zip archive nor HDF5"),
        (pickle.dumps({"weights": [1, 2]}), "Python pickle, which is never loaded"),
        (b"\x1c\0\0\0TFL3" + bytes(50), "TFLite file"),
    ],
)
def test_files_of_another_kind(data, message, tmp_path):
    (tmp_path / "m.keras").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        load_keras(tmp_path / "m.keras")
    assert "m.keras" in str(caught.value)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(InputError, match=r"is a folder; a \.keras or \.h5 file"):
        load_keras(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match="SavedModel, which is a program"):
        load_keras(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        load_keras(tmp_path / "none.keras")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files(suffix, part, tmp_path):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match="damaged or cut short"):
        load_keras(path)


def test_flipped_bytes_are_an_input_error_or_harmless(tmp_path):
    """Whatever the damage: no other exception comes out."""
    original = {s: saved(classifier(), tmp_path / f"m.{s}").read_bytes() for s in ("keras", "h5")}
    refused = 0
    for suffix, data in original.items():
        for _ in range(25):
            changed = bytearray(data)
            for at in RNG.integers(0, len(data), 20):
                changed[at] ^= int(RNG.integers(1, 256))
            (tmp_path / f"m.{suffix}").write_bytes(changed)
            try:
                load_keras(tmp_path / f"m.{suffix}")
            except InputError:
                refused += 1
    assert refused > 25


@pytest.mark.parametrize("kind", ["new", "named"])
def test_weights_alone_say_what_to_do(kind, tmp_path):
    path = tmp_path / "m.weights.h5"
    model = classifier()
    model.save_weights(path)
    if kind == "named":
        with h5py.File(saved(model, tmp_path / "m.h5")) as whole, h5py.File(path, "w") as file:
            for name, value in whole["model_weights"].attrs.items():
                file.attrs[name] = value
    with pytest.raises(InputError, match=r"holds only weights, not a model.* --weights"):
        load_keras(path)


def test_other_hdf5_files(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(InputError, match="no model_config"):
        load_keras(tmp_path / "m.h5")


@pytest.mark.parametrize("config", ["", "[", "null", "[]", "3", '{"class_name": "Functional"}', "[" * 100_000])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_configurations_that_are_none(config, suffix, tmp_path):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    with pytest.raises(InputError, match="configuration is"):
        load_keras(with_config(path, config))


def test_models_nested_without_end(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    for _ in range(50):
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [config]}}
    with pytest.raises(InputError, match="nested more than 32 deep"):
        load_keras(with_config(path, config))


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "model.weights.h5"])
def test_archives_without_a_member(member, tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with pytest.raises(InputError, match=f"the archive has no {member}"):
        load_keras(with_members(path, {member: None}))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\b"])
def test_members_outside_the_archive(name, tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with pytest.raises(InputError, match="points outside"):
        load_keras(with_members(path, {name: b"x"}))
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(InputError, match=r"'config.json' twice"):
        load_keras(path)


def test_a_zip_bomb(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with_members(path, {"model.weights.h5": bytes(100 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"unpacks to 1048\d+"):
        load_keras(path)


def test_a_configuration_without_end(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    with_members(path, {"config.json": b" " * (65 << 20)})
    with pytest.raises(InputError, match=r"config.json has 68157440 bytes"):
        load_keras(path)


def test_weights_of_other_shapes(tmp_path):
    path = saved(classifier(), tmp_path / "m.h5")
    config = config_of(path)
    config["config"]["layers"][-1]["config"]["units"] = 7
    with pytest.raises(
        InputError, match=r"'kernel' of layer 'dense.*' must have shape \(4, 7\), the file has \(4, 3\)"
    ):
        load_keras(with_config(path, config))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_missing_weights(suffix, tmp_path):
    path = saved(classifier(), tmp_path / f"m.{suffix}")
    if suffix == "h5":
        with h5py.File(path, "r+") as file:
            (name,) = [name for name in file["model_weights"].attrs["layer_names"] if name.startswith("conv2d")]
            file[f"model_weights/{name}"].attrs["weight_names"] = []
    else:
        with zipfile.ZipFile(path) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            del file["layers/conv2d"]
        with_members(path, {"model.weights.h5": weights.getvalue()})
    with pytest.raises(InputError, match="conv2d"):
        load_keras(path)


def test_links_in_the_weights(tmp_path):
    path = saved(classifier(), tmp_path / "m.keras")
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InputError, match="/layers is a link"):
        load_keras(with_members(path, {"model.weights.h5": weights.getvalue()}))
