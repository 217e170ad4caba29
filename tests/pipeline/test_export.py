"""The main job on small models: what comes out, that it comes out the same every time, and what stops it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from export_models import CLASSES, LABELS, SIZE, small_model, write_labelled, write_pictures

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UnknownNameError, UsageError, VerificationError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.verify.bundle_check import verify_bundle

STEM = "mobilenet_v2_0.35_32"
FILES = [
    f"{STEM}_float32.tflite",
    f"{STEM}_float16.tflite",
    f"{STEM}_dynamic.tflite",
    f"{STEM}_int8.tflite",
    f"{STEM}_float32.onnx",
    f"{STEM}_int8.onnx",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("photos") / "calibration")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("labelled") / "validation")


@pytest.fixture(scope="module")
def images(photos, labelled):
    return {"calibrate": photos, "evaluate": labelled, "labels": LABELS}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def bundle(result):
    return result.bundle


@pytest.fixture(scope="module")
def result(model, images, tmp_path_factory):
    """Everything that there is, made once."""
    folder = tmp_path_factory.mktemp("out") / "dist"
    return export_model(model, folder, **images, seed=3)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_bundle_holds_every_file_and_says_what_is_in_it(bundle):
    assert [file.path for file in bundle.files] == FILES
    assert set(content(bundle.folder)) == {*FILES, "manifest.json", "labels.txt", "golden.npz", "report.html"}
    assert (bundle.manifest.model, bundle.manifest.classes, bundle.manifest.scores) == (STEM, CLASSES, "softmax")
    assert (bundle.folder / "labels.txt").read_text() == "ant\nbee\ncat\ndog\neel\n"
    again = Bundle.read(bundle.folder)
    assert again.manifest == bundle.manifest
    assert again.labels == LABELS
    assert bundle.file("onnx", "int8").path == FILES[5]
    with pytest.raises(UnknownNameError, match="onnx/int8"):
        bundle.file("onnx", "int4")


def test_int8_files_take_pixels_and_are_integer_throughout(bundle):
    for file_format in ("tflite", "onnx"):
        file = bundle.file(file_format, "int8")
        assert file.input.dtype == "uint8"
        assert file.input.zero_point == file.preprocess.mean[0] == 128
        assert file.input.scale == pytest.approx(1 / 127.5)
        assert inspect_file(bundle.path(file)).all_integer


def test_every_file_is_measured_against_keras(bundle):
    metrics = bundle.metrics
    assert (metrics["dataset"], metrics["images"], metrics["confidence"]) == ("validation", 15, 0.95)
    assert set(metrics["files"]) == set(FILES)
    exact = metrics["files"][FILES[0]]
    assert exact["agreement"]["value"] == 1.0
    assert exact["top1"] == metrics["reference"]["top1"]
    assert exact["kl"] < 1e-6 < metrics["files"][FILES[3]]["kl"] < 0.1
    assert all(f["top1"]["low"] <= f["top1"]["value"] <= f["top1"]["high"] for f in metrics["files"].values())


def test_metrics_are_what_the_runtime_answers(bundle, labelled):
    """Counted anew, picture by picture, through the device's own way."""
    with bundle.open(precision="int8", backend="litert") as classifier:
        right = [classifier.classify(picture, 1)[0].label == picture.parent.name for picture in labelled.rglob("*.png")]
    assert bundle.metrics["files"][FILES[3]]["top1"]["value"] == round(float(np.mean(right)), 6)


def test_the_manifest_says_where_it_comes_from(result, model):
    manifest = result.bundle.manifest
    assert manifest.source["parameters"] == model.count_params()
    assert len(manifest.source["weights_sha256"]) == 64
    assert manifest.source["preprocess"]["mean"] == [127.5, 127.5, 127.5]
    assert manifest.quantization["calibration"]["images"] == 12
    assert {"mbn-deploy", "keras", "onnx", "ai-edge-litert", "numpy"} <= set(manifest.tools)
    assert "seconds" not in manifest.to_json()
    assert set(result.seconds) >= {"read the model", "quantize", "try the files", "write the bundle"}
    few, guessing = result.warnings  # the weights are random
    assert few.startswith("12 calibration images")
    assert "a guess on 20 %: are the labels in the order" in guessing


def test_a_bundle_edited_by_hand_is_refused(bundle, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / "dist")
    for name, before, after in (
        ("labels.txt", b"ant", b"ape"),
        (FILES[3], b"TFL3", b"TFL4"),
        ("manifest.json", b"[", b"("),
    ):
        path = tmp_path / "dist" / name
        whole = path.read_bytes()
        path.write_bytes(whole.replace(before, after, 1))
        with pytest.raises(InputError, match=name):
            Bundle.read(tmp_path / "dist")
        path.write_bytes(whole)
    assert Bundle.read(tmp_path / "dist").manifest == bundle.manifest


def test_the_golden_vectors_hold(bundle):
    assert [result.passed for result in verify_bundle(bundle.folder).files] == [True] * 6


def test_the_same_input_gives_the_same_bytes(bundle, model, images, tmp_path):
    small_model("mobilenet_v1")  # Keras counts names over all models of a process
    twin = small_model()
    twin.set_weights(model.get_weights())
    export_model(twin, tmp_path / "dist", **images, seed=3)
    both = [content(folder) for folder in (tmp_path / "dist", bundle.folder)]
    for files in both:
        assert files.pop("report.html")  # holds measured times
    assert both[0] == both[1]


def test_a_lone_file_carries_labels_and_preprocessing(bundle, labelled):
    from mbn_deploy.runtime import Classifier

    picture = next(labelled.rglob("*.png"))
    expected = bundle.open(precision="int8", backend="onnx").classify(picture)
    with Classifier.open(bundle.path(bundle.file("onnx", "int8"))) as lone:
        assert lone.classify(picture) == expected
        assert expected[0].label in LABELS


@pytest.mark.parametrize("inputs", [("int8", "nhwc", 1), ("float32", "nchw", 3)])
def test_other_inputs(model, images, tmp_path, inputs):
    input_dtype, layout, batch = inputs
    options = {"precisions": ["int8"], "input": input_dtype, "layout": layout, "batch": batch}
    made = export_model(model, tmp_path / "dist", **images, **options).bundle
    onnx = made.file("onnx", "int8")
    assert [file.input.dtype for file in made.files] == [input_dtype] * 2
    assert onnx.layout == layout
    assert onnx.input.shape == ((batch, SIZE, SIZE, 3) if layout == "nhwc" else (batch, 3, SIZE, SIZE))
    assert made.file("tflite", "int8").input.shape[0] == batch
    assert all(f["agreement"]["value"] > 0.8 for f in made.metrics["files"].values())
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    with made.open(backend="litert") as one, made.open(backend="onnx") as other:
        np.testing.assert_allclose(one.predict(pixels), other.predict(pixels), atol=1.5 / 256)


def test_a_users_file_of_another_shape(tmp_path):
    import keras

    source = keras.Input((24, 40, 1))
    x = keras.layers.Rescaling(1 / 255)(source)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(source, keras.layers.Dense(3)(x), name="other").save(tmp_path / "my net.keras")
    photos = write_pictures(tmp_path / "photos")
    made = export_model(
        tmp_path / "my net.keras", tmp_path / "dist", calibrate=photos, resize="letterbox", scores="classes"
    ).bundle
    assert made.files[0].path == "my_net_24x40_float32.tflite"
    assert made.manifest.scores == "logits"
    assert made.manifest.source["file"]["name"] == "my net.keras"
    assert made.files[0].preprocess == Preprocess((0.0,), (255.0,), resize="letterbox")
    with made.open(precision="int8") as int8, made.open(precision="float32") as exact:
        picture = next(photos.iterdir())
        assert int8.classify(picture, 3)[0].score == pytest.approx(exact.classify(picture, 3)[0].score, abs=0.05)


def test_what_the_file_does_not_say_is_asked_for(tmp_path):
    import keras

    source = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(source))
    net = keras.Model(source, keras.layers.Dense(2, activation="softmax")(x), name="net")
    floats = {"precisions": ["float32"]}
    with pytest.raises(InputError, match="--size"):
        export_model(net, tmp_path / "dist", **floats)
    with pytest.raises(UsageError, match="--preprocess"):
        export_model(net, tmp_path / "dist", size=32, **floats)
    made = export_model(
        net, tmp_path / "dist", size=(32, 48), preprocess=Preprocess.parse("unit"), name="mine", **floats
    ).bundle
    assert [f.path for f in made.files] == ["mine_32x48_float32.tflite", "mine_32x48_float32.onnx"]
    assert made.files[0].preprocess.std == (255.0,) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--calibrate.*--precisions float32,float16,dynamic"),
        ({"precisions": ["int8"]}, "--precisions float32"),
        ({"formats": ["tflight"]}, "'tflight'.*tflite"),
        ({"precisions": ["float23"]}, "'float23'.*float32"),
        ({"precisions": []}, "--precisions"),
        ({"formats": ["onnx"], "precisions": ["float16"]}, "--formats onnx.*--precisions float16"),
        ({"precisions": ["float32"], "input": "uint9"}, "--input 'uint9'"),
        ({"precisions": ["float32"], "layout": "nwhc"}, "--layout 'nwhc'"),
        ({"precisions": ["float32"], "batch": 0}, "--batch"),
        ({"precisions": ["float32"], "resize": "stretch"}, "--resize 'stretch'"),
        ({"precisions": ["float32"], "evaluate_resize": "stretch"}, "--evaluate-resize 'stretch'"),
        ({"precisions": ["float32"], "filter": "box"}, "--filter 'box'"),
        ({"precisions": ["float32"], "crop_fraction": 2.0}, "2.0"),
    ],
)
def test_options_that_make_no_sense(model, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        export_model(model, tmp_path / "dist", **options)
    assert not any(tmp_path.iterdir())


def test_inputs_that_cannot_be_used(model, photos, labelled, tmp_path):
    out = tmp_path / "dist"
    with pytest.raises(InputError, match="4 labels"):
        export_model(model, out, precisions=["float32"], labels=LABELS[:4])
    (tmp_path / "labels.txt").write_text("\n".join([*LABELS, "fox"]))
    with pytest.raises(InputError, match=r"labels\.txt"):
        export_model(model, out, precisions=["float32"], labels=tmp_path / "labels.txt")
    with pytest.raises(InputError, match="5 classes"):
        export_model(model, out, precisions=["float32"], evaluate=labelled)
    with pytest.raises(InputError, match="none"):
        export_model(model, out, calibrate=tmp_path / "none")
    with pytest.raises(InputError, match="evaluation set"):
        export_model(model, out, calibrate=labelled, evaluate=labelled, labels=LABELS)
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match=r"broken\.keras"):
        export_model(tmp_path / "broken.keras", out, precisions=["float32"])
    assert not out.exists()


def test_calibration_images_that_are_evaluated_on_are_left_out(model, photos, labelled, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in photos.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    (mixed / "copy.png").write_bytes(next(labelled.rglob("*.png")).read_bytes())
    made = export_model(
        model,
        tmp_path / "dist",
        calibrate=mixed,
        evaluate=labelled,
        labels=LABELS,
        formats=["onnx"],
        precisions=["int8"],
    )
    assert "copy.png" in made.warnings[0]
    assert made.bundle.manifest.quantization["calibration"]["images"] == 12


def test_synsets_name_the_folders(model, tmp_path):
    write_pictures(tmp_path / "val" / "n03", 2)
    (tmp_path / "synsets.txt").write_text("n01 ant\nn02 bee\nn03 cat\nn04 dog\nn05 eel\n")
    options = {"precisions": ["float32"], "formats": ["onnx"], "evaluate": tmp_path / "val"}
    made = export_model(
        model, tmp_path / "dist", synsets=tmp_path / "synsets.txt", evaluate_resize="squash", **options
    ).bundle
    assert (made.metrics["images"], made.metrics["resize"]) == (2, "squash")


STEPS = ("read the model", "load calibration images", "calibrate", "write onnx int8", "try the files",
         "evaluate", "write the bundle")  # fmt: skip


@pytest.mark.parametrize("stop", STEPS)
def test_ctrl_c_at_any_step_leaves_what_stood_there(model, images, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    export_model(model, tmp_path / "dist", precisions=["float32"], formats=["onnx"])
    before = content(tmp_path)

    def interrupt(step, done, total):
        if step == stop:
            raise KeyboardInterrupt

    options = {"formats": ["onnx"], "precisions": ["int8"], "overwrite": True}
    with pytest.raises(KeyboardInterrupt):
        export_model(model, tmp_path / "dist", **images, **options, progress=interrupt)
    assert content(tmp_path) == before


CHILD = """
import sys
import time
sys.path.insert(0, sys.argv[1])
from export_models import small_model
from mbn_deploy.pipeline.export import export_model
def progress(step, done, total):
    print(step, done, flush=True)
    if f"{step} {done}" == sys.argv[4]:
        time.sleep(20)  # the signal comes now, not after the step
export_model(small_model(), sys.argv[3], calibrate=sys.argv[2], overwrite=True, progress=progress)
"""


@pytest.mark.parametrize("moment", ["calibrate 3", "try the files 0"])
def test_a_real_ctrl_c(photos, tmp_path, moment):
    """SIGINT for the process and its children, as a terminal sends it."""
    (tmp_path / "tmp").mkdir()
    here = str(Path(__file__).parents[1] / "helpers")
    command = [sys.executable, "-c", CHILD, here, str(photos), str(tmp_path / "dist"), moment]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "TF_CPP_MIN_LOG_LEVEL": "3"},
    ) as process:  # fmt: skip
        for line in process.stdout:
            if line.strip() == moment:
                os.killpg(process.pid, signal.SIGINT)
                break
        _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert process.returncode != 0
    # Interpreters leave files of their own in the temporary folder.
    assert [p.name for p in tmp_path.rglob("*") if "dist" in p.name or "mbn" in p.name] == []


def test_values_that_are_not_finite_are_refused(tmp_path):
    net = small_model()
    weights = net.get_weights()
    weights[-2] = weights[-2] * 1e38  # finite, and its products are not
    net.set_weights(weights)
    with pytest.raises(VerificationError, match=r"float32\.onnx"):
        export_model(net, tmp_path / "dist", formats=["onnx"], precisions=["float32"])
    assert not any(tmp_path.iterdir())


def test_a_target_that_must_not_be_replaced_is_told_before_the_work(model, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    told = []
    with pytest.raises(UsageError, match="no bundle"):
        export_model(model, tmp_path, precisions=["float32"], progress=lambda *step: told.append(step))
    assert not told
