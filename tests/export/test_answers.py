"""What a model's outputs mean: found in its end and its compiled loss, or asked for."""

import functools
import json
import shutil
from pathlib import Path

import h5py
import pytest
from keras_files import saved

from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.export.from_keras.cut import cut_model
from mbn_deploy.export.from_keras.find_answers import Head, find_answers
from mbn_deploy.export.from_keras.load import compiled_losses
from mbn_deploy.export.from_keras.losses import loss_of_output
from mbn_deploy.export.from_keras.model_end import ModelEnd

DATA = Path(__file__).parents[1] / "data"

OBJECTS = {
    "categorical logits": {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}},
    "binary logits": {
        "class_name": "BinaryFocalCrossentropy",
        "config": {"from_logits": True},
        "module": "keras.losses",
    },
    "function": {"class_name": "function", "config": "mean_squared_error", "module": "builtins"},
    "custom": {"class_name": "Huber", "module": "project.losses", "config": {}, "registered_name": "project>Huber"},
    "custom function": {"class_name": "function", "config": "my_loss", "module": "builtins"},
}


def head(function, outputs, loss=None, *, features=False, inner=False):
    end = ModelEnd(function, "top", "its last layer", features)
    compiled = OBJECTS.get(loss, loss) if isinstance(loss, str) else loss
    return Head("net.keras", end, outputs, loss_of_output(compiled, 0, ("top",), 1), inner=inner)


@pytest.mark.parametrize(
    ("function", "outputs", "loss", "expected"),
    [
        ("softmax", 2, None, Answers("classes", "softmax")),
        ("softmax", 5, "mse", Answers("classes", "softmax")),
        ("softmax", 2, "binary_crossentropy", Answers("classes", "softmax")),
        ("log_softmax", 5, None, Answers("classes", "logits")),
        ("sigmoid", 1, None, Answers("binary", "sigmoid")),
        ("sigmoid", 5, "binary_crossentropy", Answers("labels", "sigmoid")),
        ("sigmoid", 5, "categorical_crossentropy", Answers("classes", "sigmoid")),
        ("sigmoid", 1, "MeanAbsoluteError", Answers("values", "none")),
        ("sigmoid", 1, "custom", Answers("binary", "sigmoid")),
        ("none", 5, "categorical logits", Answers("classes", "logits")),
        ("none", 5, "binary logits", Answers("labels", "logits")),
        ("none", 1, "binary logits", Answers("binary", "logits")),
        ("none", 1, "function", Answers("values", "none")),
        ("none", 2, ["huber"], Answers("values", "none")),
        ("none", 2, {"top": "LogCosh"}, Answers("values", "none")),
        ("none", 64, "cosine_similarity", Answers("embedding", "none")),
    ],
)
def test_the_end_and_the_loss_say_it(function, outputs, loss, expected):
    assert find_answers(head(function, outputs, loss))[0] == expected


@pytest.mark.parametrize(
    ("outputs", "loss", "choices"),
    [
        (1, None, ("binary", "values")),
        (4, None, ("classes", "labels", "values", "embedding")),
        (4, "categorical_crossentropy", ("classes", "labels")),
        (1, "binary_crossentropy", ("binary",)),
        (4, "custom", ("Huber", "classes")),
        (4, "custom function", ("my_loss", "classes")),
    ],
)
def test_what_nothing_says_is_asked_for(outputs, loss, choices):
    with pytest.raises(UsageError, match=r"net\.keras.*--scores") as caught:
        find_answers(head("none", outputs, loss))
    assert all(choice in str(caught.value) for choice in (*choices, "top"))


def test_a_network_without_a_head_is_asked_about_but_a_cut_one_is_an_embedding():
    with pytest.raises(UsageError, match="embedding"):
        find_answers(head("none", 64, features=True))
    assert find_answers(head("none", 64, features=True, inner=True))[0] == Answers("embedding", "none")
    assert find_answers(head("none", 64, "categorical logits", features=True))[0] == Answers("classes", "logits")


@pytest.mark.parametrize(
    ("function", "outputs", "requested", "scores"),
    [
        ("none", 4, "classes", "logits"), ("none", 4, "labels", "logits"), ("none", 1, "binary", "logits"),
        ("none", 1, "values", "none"), ("none", 4, "embedding", "none"), ("sigmoid", 1, "values", "none"),
        ("sigmoid", 3, "classes", "sigmoid"), ("softmax", 3, "values", "none"), ("log_softmax", 3, "classes", "logits"),
    ],
)  # fmt: skip
def test_what_the_user_says_wins(function, outputs, requested, scores):
    assert find_answers(head(function, outputs, "mse"), requested) == (Answers(requested, scores), ())


@pytest.mark.parametrize(
    ("function", "outputs", "requested"),
    [
        ("softmax", 2, "binary"), ("softmax", 4, "labels"), ("softmax", 4, "embedding"), ("none", 2, "binary"),
        ("sigmoid", 1, "classes"), ("none", 1, "classes"), ("none", 1, "embedding"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(function, outputs, requested):
    with pytest.raises(UsageError, match=f"--scores {requested}"):
        find_answers(head(function, outputs), requested)


@pytest.mark.parametrize(
    ("function", "outputs", "loss"),
    [("sigmoid", 1, "mse"), ("softmax", 4, "mse"), ("softmax", 4, "categorical logits"), ("softmax", 1, None)],
)
def test_contradictions_are_said(function, outputs, loss):
    _, (warning,) = find_answers(head(function, outputs, loss))
    assert "net.keras" in warning


def test_losses_of_several_outputs():
    assert loss_of_output(["mse", "binary_crossentropy"], 1, ("b",), 2).kind == "binary"
    assert loss_of_output({"b": OBJECTS["binary logits"], "a": "mse"}, 0, ("a", "dense"), 2).kind == "values"
    assert loss_of_output({"b": "mse"}, 0, ("a",), 2) is None
    assert loss_of_output("mse", 1, ("b",), 2).kind == "values"


def network(*heads, names=None):
    import keras

    kl = keras.layers
    inputs = keras.Input((16, 16, 3))
    inner = keras.Sequential(
        [keras.Input((16, 16, 3)), kl.Conv2D(4, 3, name="stem"), kl.ReLU(name="relu")], name="body"
    )
    pooled = kl.GlobalAveragePooling2D(keepdims=True, name="pool")(inner(kl.Rescaling(1 / 255)(inputs)))
    flat = kl.Flatten(name="flat")(pooled)
    outputs = [layer(flat) for layer in heads]
    return keras.Model(inputs, dict(zip(names, outputs, strict=True)) if names else outputs, name="net")


def found(model, losses, layer=None):
    cut = cut_model(model, layer)
    graph = graph_from_keras(cut.model)
    return find_answers(Head("net", graph.end, graph.outputs, cut.loss(losses), inner=cut.output is None))[0]


@pytest.mark.parametrize("suffix", ["keras", "h5", None])
def test_losses_of_files_and_models(suffix, tmp_path):
    import keras

    losses = keras.losses
    sparse = functools.partial(losses.sparse_categorical_crossentropy, from_logits=True)
    cases = [
        (losses.SparseCategoricalCrossentropy(from_logits=True), 4, Answers("classes", "logits")),
        (losses.BinaryCrossentropy(from_logits=True), 1, Answers("binary", "logits")),
        (losses.BinaryFocalCrossentropy(from_logits=True), 4, Answers("labels", "logits")),
        (losses.mean_squared_error, 2, Answers("values", "none")),
        (losses.Huber(), 1, Answers("values", "none")),
        ("mae", 1, Answers("values", "none")),
    ] + ([(sparse, 4, Answers("classes", "logits"))] if suffix is None else [])
    for loss, units, expected in cases:
        model = network(keras.layers.Dense(units))
        model.compile(loss=loss)
        compiled = model.loss if suffix is None else compiled_losses(saved(model, tmp_path / f"m.{suffix}"))
        assert found(model, compiled) == expected
    model = network(keras.layers.Dense(2))
    assert (model.loss if suffix is None else compiled_losses(saved(model, tmp_path / f"m.{suffix}"))) is None


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            {"class_name": "BinaryCrossentropy", "config": {"reduction": "auto", "from_logits": True}},
            Answers("labels", "logits"),
        ),
        ({"class_name": "MeanSquaredError", "config": {"reduction": "auto"}}, Answers("values", "none")),
        ("mean_absolute_percentage_error", Answers("values", "none")),
        (["mse"], Answers("values", "none")),
        ({"top": "mse"}, Answers("values", "none")),
    ],
)
def test_losses_of_keras_2(loss, expected, tmp_path):
    path = Path(shutil.copy(DATA / "keras2.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps({"loss": loss, "metrics": ["accuracy"], "optimizer_config": {}})
    assert find_answers(head("none", 5, compiled_losses(path)))[0] == expected
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = "{"
    assert compiled_losses(path) is None


def test_one_of_several_outputs():
    import keras

    dense = keras.layers.Dense
    losses = {"kind": keras.losses.CategoricalCrossentropy(from_logits=True), "age": "mse"}
    model = network(dense(3, name="top"), dense(1, "relu", name="years"), names=("kind", "age"))
    with pytest.raises(UsageError, match=r"kind.*age|age.*kind"):
        cut_model(model, None)
    for names, expected in (
        (("kind", "top"), Answers("classes", "logits")),
        (("age", "years"), Answers("values", "none")),
    ):
        assert [found(model, losses, name) for name in names] == [expected, expected]
    with pytest.raises(UnknownNameError, match="years"):
        cut_model(model, "yeras")


def test_an_inner_layer_becomes_the_output():
    import keras

    model = network(keras.layers.Dense(3, "softmax", name="top"))
    x = keras.random.uniform((2, 16, 16, 3), 0, 255)
    for layer, shape in (("flat", (2, 4)), ("pool", (2, 4)), ("stem", (2, 14, 14, 4)), ("body/relu", (2, 14, 14, 4))):
        assert cut_model(model, layer).model(x).shape == shape
    assert found(model, "mse", "pool") == Answers("embedding", "none")
    assert found(model, None, "top") == Answers("classes", "softmax")
    with pytest.raises(InputError, match="--output-layer"):
        found(model, None, "relu")
    assert cut_model(model, None).model is model


def test_a_dict_of_one_output_becomes_that_output():
    import keras

    model = network(keras.layers.Dense(3, name="top"), names=("kind",))
    cut = cut_model(model, None)
    assert cut.model(keras.ops.zeros((2, 16, 16, 3))).shape == (2, 3)
    assert cut.loss({"kind": "mse"}).kind == "values"


def test_features_are_recognised():
    import keras

    kl = keras.layers
    pool, dense = kl.GlobalAveragePooling2D, kl.Dense
    for features, tail in (
        (True, [pool()]), (True, [kl.Flatten()]), (True, [pool(), kl.BatchNormalization()]),
        (True, [pool(), dense(4), kl.UnitNormalization()]), (True, [pool(), dense(4, "relu")]),
        (False, [pool(), dense(4)]), (False, [pool(), dense(4), kl.BatchNormalization()]),
    ):  # fmt: skip
        layers = [keras.Input((8, 8, 3)), kl.Rescaling(1 / 255), kl.Conv2D(4, 3), *tail]
        assert graph_from_keras(keras.Sequential(layers)).end.features is features
    joined = network(*(dense(1, "sigmoid") for _ in range(3)))
    joined = keras.Model(joined.inputs, kl.Concatenate()(joined.outputs))
    assert found(joined, None) == Answers("labels", "sigmoid")
    for tail in ([kl.Softmax], [kl.Softmax, kl.Flatten], [lambda name: kl.Softmax(1, name=name)], [kl.ReLU]):
        segments = keras.Sequential(
            [keras.Input((8, 8, 3)), kl.Conv2D(4, 3), *(make(name=f"end{i}") for i, make in enumerate(tail))]
        )
        with pytest.raises(InputError, match="end.*feature map" if tail[0] is kl.ReLU else "end.*segmentation"):
            found(segments, None)
