"""The export says how pictures are resized, and notices where the preprocessing is not that of the training."""

import json

import keras
import numpy as np
import pytest
from cli_run import run
from PIL import Image

from mbn_deploy import Classifier, export_model
from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.models.api import build

COLOURS = ("blue", "green", "red")
ONE = {"precisions": "float32", "formats": "tflite"}


def colour_model(*, rescaling=True):
    """A model that tells which colour is strongest in a picture of 32 by 32 pixels, in [0, 1] or rescaled to it."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs) if rescaling else inputs
    x = keras.layers.Conv2D(3, 1, name="colours")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Softmax()(x), name="colours")
    bias = np.array([3.0, 0.0, 0.0]) - 10.0  # blue wins where the input is the same everywhere
    model.get_layer("colours").set_weights([30 * np.eye(3)[::-1].reshape(1, 1, 3, 3), bias])
    return model


def write_colours(folder, *, count=12, kind="jpg", exif=None):
    """Write pictures of 60 by 40 pixels, in a folder a colour."""
    rng = np.random.default_rng(1)
    for index, name in enumerate(COLOURS):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(40, 140, (40, 60, 3))
            pixels[..., 2 - index] += 80
            options = {"exif": exif, "quality": 95} if kind == "jpg" and exif is not None else {}
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.{kind}", **options)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours") / "photos")


def test_a_users_file_is_resized_as_keras_does_and_that_is_said(tmp_path):
    colour_model().save(tmp_path / "mine.keras")
    result = run("export", tmp_path / "mine.keras", "-o", tmp_path / "out", "--precisions", "float32")
    assert result.exit_code == 0, result.stderr
    assert "--resize keras" in result.stdout
    assert "--resize keras is assumed" in result.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert {file["preprocess"]["resize"] for file in manifest["files"]} == {"keras"}
    assert manifest["source"]["resize_from"] == "assumed"
    with Classifier.open(tmp_path / "out") as classifier:
        assert any("--resize" in assumption for assumption in classifier.info.assumptions)
    with Classifier.open(tmp_path / "out", resize="squash") as classifier:
        assert not classifier.info.assumptions


@pytest.mark.parametrize(
    ("options", "resize"),
    [
        ({"resize": "keras-crop"}, "keras-crop"),
        ({"crop_fraction": 0.9}, "crop"),
        ({"preprocess": Preprocess(resize="letterbox")}, "letterbox"),
        ({"preprocess": "raw", "resize": "torchvision"}, "torchvision"),
    ],
)
def test_what_is_given_is_not_assumed(tmp_path, options, resize):
    made = export_model(colour_model(), tmp_path / "out", **ONE, report=False, **options)
    assert made.bundle.files[0].preprocess.resize == resize
    assert made.bundle.manifest.source["resize_from"] == "option"
    assert not any("--resize" in warning for warning in made.warnings)


def test_a_named_model_is_cropped(tmp_path):
    model = build("mobilenet_v1", alpha=0.25, size=32, classes=3, weights=None)
    made = export_model(model, tmp_path / "out", **ONE, report=False)
    assert made.bundle.files[0].preprocess.resize == "crop"
    assert made.bundle.manifest.source["resize_from"] == "model"


def test_a_filter_that_the_assumed_loader_does_not_have(tmp_path):
    with pytest.raises(UsageError, match="lanczos"):
        export_model(colour_model(), tmp_path / "out", **ONE, filter="lanczos")


def exported(tmp_path, folder, model=None, **options):
    options = {"labels": COLOURS, "evaluate": folder, "report": False} | options
    return export_model(model or colour_model(), tmp_path / "out", **ONE, **options)


@pytest.mark.parametrize("resize", ["keras", "keras-crop", "keras-pad", "keras-nearest"])
def test_keras_is_measured_on_its_own_loaders_pixels_too(tmp_path, pictures, resize):
    metrics = exported(tmp_path, pictures, resize=resize).bundle.metrics
    loader = metrics["reference_loader"]
    assert loader["loader"]
    assert loader["top1"]["value"] == metrics["reference"]["top1"]["value"] == 1
    assert loader["agreement"]["value"] == 1


def test_a_table_says_on_which_pixels_keras_was_measured(tmp_path, pictures):
    colour_model().save(tmp_path / "mine.keras")
    arguments = ("export", tmp_path / "mine.keras", "-o", tmp_path / "out", "--precisions", "float32")
    result = run(*arguments, "--labels", pictures, "--evaluate", pictures, "--resize", "keras-crop")
    assert result.exit_code == 0, result.stderr
    words = " ".join(result.stdout.split())
    assert "on these pixels" in words
    assert "on those of image_dataset_from_directory(crop_to_aspect_ratio=True)" in words
    result = run("evaluate", tmp_path / "out", "--data", pictures)
    assert result.exit_code == 0, result.stderr
    assert "keras-crop" in result.stdout


def test_no_loader_of_keras_squashes(tmp_path, pictures):
    assert "reference_loader" not in exported(tmp_path, pictures, resize="squash").bundle.metrics


def test_photographs_that_are_stored_turned_are_counted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    made = exported(tmp_path, write_colours(tmp_path / "photos", count=3, exif=exif), resize="keras")
    assert any("9 of 9" in warning and "EXIF" in warning for warning in made.warnings)


def preset_warnings(made):
    return [warning for warning in made.warnings if "--preprocess" in warning]


def test_a_preset_that_contradicts_the_model_is_noticed_with_labels(tmp_path, pictures):
    made = exported(tmp_path, pictures, preprocess="tf")
    (warning,) = [each for each in preset_warnings(made) if "--preprocess raw" in each]
    assert "100.0 %" in warning
    assert "33.3 %" in warning


def test_a_preset_that_contradicts_the_model_is_noticed_without_labels(tmp_path, pictures):
    options = {"calibrate": pictures, "precisions": "int8", "formats": "tflite", "report": False}
    made = export_model(colour_model(), tmp_path / "out", preprocess="tf", **options)
    assert any("--preprocess raw" in warning for warning in preset_warnings(made))


@pytest.mark.parametrize(("rescaling", "preprocess"), [(True, None), (True, "raw"), (False, "unit")])
def test_the_right_preset_is_left_alone(tmp_path, pictures, rescaling, preprocess):
    made = exported(tmp_path, pictures, colour_model(rescaling=rescaling), preprocess=preprocess)
    assert not preset_warnings(made)


def test_a_model_that_knows_nothing_prefers_no_preset(tmp_path, pictures):
    model = build("mobilenet_v2", alpha=0.35, size=32, classes=3, weights=None)
    assert not [w for w in preset_warnings(exported(tmp_path, pictures, model)) if w.startswith("with --preprocess")]
