"""What a beginner gets wrong is answered with what to do, and before anything slow begins."""

import subprocess
import sys
from unittest import mock

import pytest
from cli_run import run

from mbn_deploy.verify.chance import chance_level_warning
from mbn_deploy.verify.evaluate import Accuracy
from mbn_deploy.verify.statistics import proportion


@pytest.mark.parametrize(
    ("right", "images", "classes", "told"),
    [
        (14, 500, 10, True),  # labels in another order
        (42, 500, 10, True),  # wrong normalization
        (80, 500, 10, False),
        (1, 3, 10, True),  # three images do not tell, and the sentence says how many there were
        (2, 3, 10, False),
        (0, 500, 1000, True),
        (5, 500, 1000, False),
        (500, 500, 1, False),  # one class is always right
    ],
)
def test_a_model_that_only_guesses_is_told(right, images, classes, told):
    said = chance_level_warning(Accuracy(images, {"top1": proportion(right, images)}), "classes", classes)
    assert (said is not None) == told
    assert said is None or f"{100 * right / images:.1f} % of {images} images" in said


@pytest.mark.parametrize("command", [("run",), ("inspect",), ("export", "-o", "dist")])
def test_a_file_that_is_not_there_has_a_near_one(command, tmp_path, picture):
    """The name that was meant is told, with its folder."""
    suffix = ".keras" if command[0] == "export" else ".tflite"
    (tmp_path / f"flowers{suffix}").write_bytes(b"")
    asked = tmp_path / f"flower{suffix}"
    result = run(command[0], asked, *([picture] if command[0] == "run" else []), *command[1:])
    assert result.exit_code == 3
    assert str(tmp_path / f"flowers{suffix}") in result.stderr


def test_the_package_is_the_command():
    ran = subprocess.run([sys.executable, "-m", "mbn_deploy", "list"], capture_output=True, text=True, check=False)
    assert (ran.returncode, "mobilenet_v2" in ran.stdout) == (0, True)


@pytest.fixture
def no_frameworks():
    """Importing Keras is an error: what is asked is answered without it."""
    with mock.patch.dict(sys.modules, {"keras": None, "tensorflow": None}):
        yield


@pytest.mark.usefixtures("no_frameworks")
@pytest.mark.parametrize(
    ("line", "named"),
    [
        (("missing.keras",), "missing.keras"),
        (("labels.txt",), "labels.txt"),
        (("model.keras", "--preprocess", "tf", "--calibrate", "missing"), "missing"),
        (("model.keras", "--preprocess", "tf", "--evaluate", "missing"), "missing"),
        (("model.keras", "--preprocess", "tf", "--labels", "missing.txt"), "missing.txt"),
        (("model.keras", "--preprocess", "tf", "--synsets", "."), "."),
    ],
)
def test_export_names_what_is_missing_before_keras_is_loaded(line, named, model_folder):
    result = run("export", *line, "-o", "out")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: {named}")
    assert not (model_folder / "out").exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("saved")
    source = keras.Input((8, 8, 3))
    scores = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(source))
    keras.Model(source, scores).save(folder / "model.keras")
    (folder / "labels.txt").write_text("cat\ndog\n")
    return folder


@pytest.fixture
def model_folder(saved, monkeypatch):
    monkeypatch.chdir(saved)
    return saved


def test_a_folder_or_a_keras_model_is_not_inspected(bundle, model_folder):
    name = min(path.name for path in bundle.glob("*.onnx"))
    said = run("inspect", bundle)
    assert said.exit_code == 3
    assert name in said.stderr  # what can be inspected
    said = run("inspect", model_folder / "model.keras")
    assert said.exit_code == 3
    assert "export" in said.stderr  # what to do with a Keras model


def test_files_for_folders_and_folders_for_files(bundle, tmp_path):
    model = next(bundle.glob("*_int8.tflite"))
    for line, named in (
        (("verify", model), str(model)),
        (("run", bundle, tmp_path), f"folder:{tmp_path}"),  # what to give to --camera
        (("check-apk", bundle), str(bundle)),
    ):
        result = run(*line)
        assert result.exit_code == 3
        assert named in result.stderr.replace("\n", "")
