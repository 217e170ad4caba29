"""Golden vectors: the same bytes every time, read without pickle, and a replay that notices a changed answer."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from export_models import SIZE, small_model

from mbn_deploy.errors import InputError, UnknownNameError
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.manifest import GOLDEN_NAME, MANIFEST_NAME, Preprocess
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.verify.bundle_check import verify_bundle
from mbn_deploy.verify.evaluate import keras_predictor
from mbn_deploy.verify.golden import (
    Golden,
    golden_bytes,
    read_golden,
)
from mbn_deploy.verify.golden_inputs import golden_pixels
from mbn_deploy.verify.tolerance import float_tolerance, tolerance

TF = Preprocess.parse("tf")
PIXELS = golden_pixels(None, (SIZE, SIZE), 3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle without int8: no calibration images are needed."""
    folder = tmp_path_factory.mktemp("golden") / "dist"
    export_model(small_model(), folder, precisions=("float32", "dynamic"))
    return folder


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy that a test may spoil."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def replace_golden(folder, golden):
    """Put other vectors into the bundle, with a right checksum."""
    data = golden_bytes(golden)
    (folder / GOLDEN_NAME).write_bytes(data)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["golden_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))


def test_bytes_are_the_same_every_time_and_come_back():
    golden = Golden(PIXELS, {"a.tflite": np.ones((5, 3), np.uint8)}, {"a.tflite": 1.0})
    data = golden_bytes(golden)
    assert data == golden_bytes(golden)
    back = read_golden(data, "here")
    np.testing.assert_array_equal(back.pixels, PIXELS)
    np.testing.assert_array_equal(back.outputs["a.tflite"], golden.outputs["a.tflite"])
    assert back.outputs["a.tflite"].dtype == np.uint8
    assert back.tolerances == {"a.tflite": 1.0}


def test_rescalings_come_back_and_a_lost_one_is_noticed():
    halved = Rescaling(np.array([0.5, 0.25]), np.array([0.0, 1.0]))
    golden = Golden(PIXELS, {}, {}, rescalings={"int8": {"block/add": halved, "conv": halved}, "int16x8": {}})
    data = golden_bytes(golden)
    back = read_golden(data, "here").rescalings
    assert {precision: set(by_tensor) for precision, by_tensor in back.items()} == {
        "int8": {"block/add", "conv"}, "int16x8": set()
    }  # fmt: skip
    np.testing.assert_array_equal(back["int8"]["block/add"].to_array(), halved.to_array())
    assert read_golden(golden_bytes(Golden(PIXELS, {}, {})), "here").rescalings == {}
    lost = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(lost, "w") as archive:
        for name in whole.namelist():
            if name != "rescaling:int8:conv.npy":
                archive.writestr(name, whole.read(name))
    with pytest.raises(InputError, match=r"here: .*int8"):
        read_golden(lost.getvalue(), "here")


def test_pixels_are_chosen_images_and_noise():
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    found = golden_pixels(images, (8, 8), 3, seed=1)
    np.testing.assert_array_equal(found[:4], images[:4])
    assert len(found) == 5
    assert found[4].std() > 50
    assert PIXELS[:4].std((1, 2)).min() > 10
    np.testing.assert_array_equal(PIXELS, golden_pixels(None, (SIZE, SIZE), 3))


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x03\x04" + bytes(50)])
def test_damaged_files_are_refused(data):
    with pytest.raises(InputError, match="here: not a file of golden vectors"):
        read_golden(data, "here")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [(b"\x93NUMPY", b"\xffNUMPY", "is no array"), (b"}     ", b"\xb4     ", "multi-line")],
)
def test_members_that_are_no_arrays_are_refused(old, new, message):
    """Both were found by tests/fuzz/golden.py; the second is what numpy's reader, of Python's tokens, says."""
    data = golden_bytes(Golden(PIXELS, {"a.tflite": np.ones((5, 3), np.uint8)}, {"a.tflite": 1.0}))
    broken = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as sound, zipfile.ZipFile(broken, "w") as archive:
        for name in sound.namelist():
            archive.writestr(name, sound.read(name).replace(old, new, 1))
    with pytest.raises(InputError, match=f"here: not a file of golden vectors: .*{message}"):
        read_golden(broken.getvalue(), "here")


def test_files_with_other_arrays_are_refused():
    with pytest.raises(InputError, match="golden vectors"):
        read_golden(golden_bytes(Golden(PIXELS, {"a": PIXELS}, {})), "here")
    with pytest.raises(InputError, match="float32"):
        read_golden(golden_bytes(Golden(PIXELS.astype(np.float32), {}, {})), "here")


def test_tolerances():
    integers, floats = np.zeros((2, 3), np.uint8), np.full((2, 3), 0.5, np.float32)
    assert tolerance(integers, "int8", 1 / 256, [9], probabilities=True) == 1
    assert tolerance(floats, "int8", 1 / 256, [9], probabilities=True) == pytest.approx(1 / 256)
    assert tolerance(floats, "dynamic", None, [9], probabilities=True) == 1 / 256
    wide = np.array([[0.0, 64.0]], np.float32)
    assert tolerance(wide, "dynamic", None, [9], probabilities=False) == 0.25
    eps = float(np.finfo(np.float32).eps)
    assert float_tolerance(wide, [9, 16], probabilities=False) == pytest.approx(4 * eps * 5 * 64)


def test_a_sound_bundle_passes_on_every_backend(exported):
    results = verify_bundle(exported).files
    assert [(r.backend, r.images, r.same_top1) for r in results] == [("litert", 5, 1.0)] * 2 + [("onnx", 5, 1.0)]
    assert all(r.passed and r.kernels for r in results)
    assert [r.file for r in verify_bundle(exported, backend="onnx").files] == [results[2].file]
    with pytest.raises(UnknownNameError, match="backend"):
        verify_bundle(exported, backend="onyx")


def test_the_float_tolerance_allows_another_engine_and_not_another_weight(exported):
    """XNNPACK, ONNX Runtime and Keras sum in different orders: that is what the tolerance is derived for."""
    golden = read_golden((exported / GOLDEN_NAME).read_bytes(), "golden")
    onnx, tflite = sorted(name for name in golden.outputs if "float32" in name)
    allowed = golden.tolerances[tflite]
    model = small_model()
    answer = keras_predictor(model, TF)(golden.pixels)
    for other in (golden.outputs[onnx], answer):
        assert np.abs(golden.outputs[tflite] - other).max() <= allowed
    weights = model.get_weights()
    weights[0] = weights[0] * 1.001
    model.set_weights(weights)
    assert np.abs(golden.outputs[tflite] - keras_predictor(model, TF)(golden.pixels)).max() > allowed


def test_another_answer_fails(bundle):
    golden = read_golden((bundle / GOLDEN_NAME).read_bytes(), "golden")
    name = next(iter(golden.outputs))
    moved = {**golden.outputs, name: golden.outputs[name] + np.float32(2 * golden.tolerances[name])}
    replace_golden(bundle, Golden(golden.pixels, moved, golden.tolerances))
    assert {r.file: r.passed for r in verify_bundle(bundle).files} == {n: n != name for n in golden.outputs}


def test_vectors_of_another_model_are_refused(bundle):
    golden = read_golden((bundle / GOLDEN_NAME).read_bytes(), "golden")
    outputs = {name: array[:, :3] for name, array in golden.outputs.items()}
    replace_golden(bundle, Golden(golden.pixels, outputs, golden.tolerances))
    with pytest.raises(InputError, match="not of this file"):
        verify_bundle(bundle)


def test_edited_files_are_refused(bundle):
    data = bytearray((bundle / GOLDEN_NAME).read_bytes())
    data[2000] ^= 1
    (bundle / GOLDEN_NAME).write_bytes(data)
    with pytest.raises(InputError, match=r"golden\.npz: sha256 is not what the manifest says"):
        verify_bundle(bundle)
    model = next(bundle.glob("*.onnx"))
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"\.onnx: .* the manifest says"):
        verify_bundle(bundle)


def test_a_bundle_without_vectors(bundle):
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest | {"golden": None, "golden_sha256": None}))
    with pytest.raises(InputError, match="no golden vectors"):
        verify_bundle(bundle)
