"""Exports of models that are no softmax classifiers: every meaning in manifest, files and metadata."""

import json

import numpy as np
import pytest
from cli_run import run
from export_models import write_pictures

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import DESCRIPTION_KEY, Description
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.runtime.formats.tflite_file import read_metadata
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, google_metadata
from mbn_deploy.verify.bundle_check import verify_bundle


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("photos"), 8)


def network(*head):
    import keras

    kl = keras.layers
    layers = [kl.Rescaling(1 / 255), kl.Conv2D(6, 3, 2, activation="relu6"), kl.GlobalAveragePooling2D(name="pool")]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers, *head], name="net")


@pytest.mark.parametrize(
    ("head", "options", "expected"),
    [
        ((1, "sigmoid"), {"labels": ["cat", "dog"]}, ("binary", "sigmoid", None, ("dog",))),
        ((1, None), {"scores": "binary", "labels": ["dog"]}, ("binary", "logits", None, ("dog",))),
        ((3, "sigmoid"), {"labels": ["a", "b", "c"]}, ("labels", "sigmoid", None, ("a", "b", "c"))),
        ((3, None), {"scores": "labels"}, ("labels", "logits", "labels", None)),
        ((2, None), {"scores": "values", "labels": ["x", "y"]}, ("values", "none", None, ("x", "y"))),
        ((), {"scores": "embedding"}, ("embedding", "none", "embedding", None)),
        ((3, "softmax"), {"output_layer": "pool"}, ("embedding", "none", "embedding", None)),
    ],
)
def test_a_meaning_stands_in_manifest_and_files(head, options, expected, photos, tmp_path):
    import keras

    meaning, scores, written, axis_labels = expected
    model = network(*([keras.layers.Dense(*head)] if head else []))
    made = export_model(
        model, tmp_path / "dist", calibrate=photos, precisions=["float32", "int8"], report=False, **options
    ).bundle
    assert (made.manifest.meaning, made.manifest.scores) == (meaning, scores)
    assert {key: value for key, value in made.manifest.source["options"].items() if key != "precisions"} == {
        key: value for key, value in options.items() if key != "labels"
    }
    assert len(made.files) == 4
    assert all(result.passed and result.same_top1 is None for result in verify_bundle(made.folder).files)
    for entry in made.files[:2]:
        data = made.path(entry).read_bytes()
        metadata = read_metadata(data, entry.path)
        said = Description.from_json(metadata[DESCRIPTION_KEY], entry.path)
        assert json.loads(metadata[DESCRIPTION_KEY]).get("meaning") == written
        assert said.answers(made.manifest.classes) == made.manifest.answers
        assert google_metadata(metadata[GOOGLE_KEY], data, entry.path).labels == axis_labels
        name = {"values": b"value", "embedding": b"feature"}.get(
            meaning, b"logit" if scores == "logits" else b"probability"
        )
        assert name in metadata[GOOGLE_KEY]


def test_the_report_of_a_regression_is_written(photos, tmp_path):
    import keras

    model = network(keras.layers.Dense(2))
    model.compile(loss="mse")
    result = export_model(model, tmp_path / "dist", calibrate=photos, formats="tflite", precisions="int8")
    assert (tmp_path / "dist" / "report.html").is_file()
    assert result.bundle.manifest.meaning == "values"


def test_features_have_no_names_and_maps_are_no_answers(tmp_path):
    import keras

    with pytest.raises(UsageError, match="--labels"):
        export_model(network(), tmp_path / "dist", precisions="float32", scores="embedding", labels=list("abcdef"))
    maps = keras.Sequential([keras.Input((32, 32, 3)), *network().layers[:2]])
    with pytest.raises(InputError, match="--output-layer"):
        export_model(maps, tmp_path / "dist", precisions="float32", scores="embedding")
    with pytest.raises(InputError, match="segmentation"):
        export_model(keras.Sequential([maps, keras.layers.Softmax()]), tmp_path / "dist", precisions="float32")


def test_a_classifier_of_one_position_becomes_one_of_vectors(tmp_path):
    import keras

    kl = keras.layers
    head = [kl.Reshape((1, 1, 6)), kl.Conv2D(4, 1), kl.Softmax()]
    model = network(*head)
    made = export_model(model, tmp_path / "dist", precisions="float32", report=False, resize="squash").bundle
    assert (made.manifest.meaning, made.manifest.classes) == ("classes", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    with made.open(backend="litert") as opened:
        np.testing.assert_allclose(opened.predict(pixels), np.reshape(model(pixels), (1, 4)), atol=1e-5)


def test_output_beside_o_is_a_layer_and_alone_a_folder(tmp_path):
    import keras

    file = tmp_path / "net.keras"
    network(keras.layers.Dense(3, "softmax", name="top")).save(file)
    options = ["--precisions", "float32", "--formats", "tflite", "--no-report"]
    for words in (["-o", "cut", "--output", "pool"], ["-o", "too", "--output-layer", "pool"], ["--output", "whole"]):
        words[1] = str(tmp_path / words[1])
        assert run("export", str(file), *words, *options).exit_code == 0
    for folder, meaning in (("cut", "embedding"), ("too", "embedding"), ("whole", "classes")):
        assert Bundle.read(tmp_path / folder).manifest.meaning == meaning
    assert run("export", str(file), *options).exit_code == 2
    both = run("export", str(file), "-o", str(tmp_path / "x"), "--output", "pool", "--output-layer", "top", *options)
    assert both.exit_code == 2
    assert "pool" in both.stderr
