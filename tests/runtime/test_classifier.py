"""The Classifier on bundles and lone files, and what it says where something is wrong."""

import io
import threading

import numpy as np
import pytest
import runtime_models as models
from PIL import Image

from mbn_deploy.errors import InputError, MissingExtraError, UnknownNameError, UsageError
from mbn_deploy.export.tflite.writer import write_tflite
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime import Classifier, file_choice
from mbn_deploy.runtime.bundle import check_file, open_bundle
from mbn_deploy.runtime.preprocess import load_pixels
from mbn_deploy.runtime.ranking import FEW, softmax, top_indices

PIXELS = models.pictures()
# The logits of the int8 files have a step of 24 / 255. One step off in two logits, in opposite directions,
# moves a probability by at most a quarter of their sum (the slope of the softmax): 0.047, and rounding.
INT8 = 0.05


def lone(folder, data, name="m.tflite"):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "dist"
    files = [
        ("f32.onnx", "onnx", "float32", models.float_onnx("nchw"), models.TF, "nchw"),
        ("f32.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc"),
        ("i8.tflite", "tflite", "int8", models.int8_tflite(), models.PIXELS, "nhwc"),
    ]
    models.write_bundle(folder, files)
    return folder


def reference():
    """Probabilities of PIXELS by the float file."""
    from mbn_deploy.runtime.backends import open_backend
    from mbn_deploy.runtime.preprocess import normalize

    backend = open_backend(models.float_tflite(), "tflite", threads=1)
    return np.concatenate([backend.run(normalize(image[None], models.TF)) for image in PIXELS])


EVERY_FILE = {
    "float tflite": (models.float_tflite, "m.tflite", 1e-5),
    "logits": (lambda: models.float_tflite("logits"), "m.tflite", 1e-5),
    "batch of 4": (lambda: models.float_tflite(batch=4), "m.tflite", 1e-5),
    "uint8 tflite": (models.int8_tflite, "m.tflite", INT8),
    "int8 tflite": (lambda: models.int8_tflite("int8"), "m.tflite", INT8),
    "float ends": (lambda: models.int8_tflite("float32"), "m.tflite", INT8),
    "nchw onnx": (models.float_onnx, "m.onnx", 1e-5),
    "nhwc onnx": (lambda: models.float_onnx("nhwc"), "m.onnx", 1e-5),
    "uint8 onnx": (models.int8_onnx, "m.onnx", INT8),
    "int8 onnx": (lambda: models.int8_onnx("int8"), "m.onnx", INT8),
    "int8 nchw onnx": (lambda: models.int8_onnx("uint8", "nchw"), "m.onnx", INT8),
}


@pytest.mark.parametrize("name", EVERY_FILE)
def test_every_lone_file_gives_the_probabilities(name, tmp_path):
    make, file, tolerance = EVERY_FILE[name]
    with Classifier.open(lone(tmp_path, make(), file)) as classifier:
        got = classifier.predict(PIXELS)
        assert got.shape == (len(PIXELS), models.CLASSES)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, reference(), atol=tolerance)
        assert classifier.labels == models.LABELS
        for image, scores in zip(PIXELS[:6], got, strict=False):
            found = classifier.classify(image, 3)
            assert [p.index for p in found] == top_indices(scores, 3)
            assert [p.label for p in found] == [models.LABELS[p.index] for p in found]
            np.testing.assert_allclose([p.score for p in found], scores[[p.index for p in found]], atol=1e-6)


def test_raw_tensors_pass_untouched(tmp_path):
    classifier = Classifier.open(lone(tmp_path, models.int8_tflite("int8")))
    tensor = (PIXELS[:1].astype(int) - 128).astype(np.int8)
    raw = classifier.run_raw(tensor)
    assert raw.dtype == np.int8
    info = classifier.info.output
    real = (raw.astype(int) - info.zero_point) * info.scale
    np.testing.assert_allclose(real, classifier.predict(PIXELS[:1]), atol=1e-6)
    with pytest.raises(UsageError, match="int8"):
        classifier.run_raw(PIXELS[:1])


def test_a_picture_is_resized_as_the_file_says(tmp_path):
    image = Image.fromarray(PIXELS[0]).resize((90, 60))
    crop = Preprocess(mean=models.TF.mean, std=models.TF.std, resize="crop")
    text = models.description("float32", crop).to_json()
    data = write_tflite(models.graph(), "float32", metadata={"mbn_deploy": text.encode()})
    classifier = Classifier.open(lone(tmp_path, data))
    expected = classifier.predict(load_pixels(image, models.SIZE, crop)[None])[0]
    assert [p.score for p in classifier.classify(image, 5)] == sorted(expected.tolist(), reverse=True)
    squash = Classifier.open(lone(tmp_path, data), resize="squash")
    assert squash.info.preprocess.resize == "squash"
    assert squash.info.preprocess.mean == crop.mean


def test_batches(tmp_path):
    for batch in (1, 4):
        classifier = Classifier.open(lone(tmp_path, models.float_tflite(batch=batch)))
        each = [classifier.classify(image, 2) for image in PIXELS[:6]]
        together = classifier.classify_batch(iter(PIXELS[:6]), 2)
        assert [[p.index for p in row] for row in together] == [[p.index for p in row] for row in each]
        assert classifier.classify_batch([]) == []
        assert classifier.predict(PIXELS[:0]).shape == (0, models.CLASSES)


def test_facts_of_what_runs(tmp_path):
    info = Classifier.open(lone(tmp_path, models.float_onnx(), "m.onnx"), threads=1).info
    assert (info.model, info.format, info.precision, info.backend) == ("tiny", "onnx", "float32", "onnx")
    assert (info.threads, info.layout, info.size, info.channels, info.classes) == (1, "nchw", models.SIZE, 3, 5)
    assert info.preprocess == models.TF


# --- bundles


def test_a_bundle_opens_its_int8_file_first(bundle):
    classifier = Classifier.open(bundle)
    assert classifier.info.path.endswith("i8.tflite")
    assert classifier.labels == models.LABELS
    np.testing.assert_allclose(classifier.predict(PIXELS), reference(), atol=INT8)


def test_options_choose_among_a_bundles_files(bundle):
    assert Classifier.open(bundle, precision="float32").info.format == "tflite"
    assert Classifier.open(bundle, backend="onnx").info.path.endswith("f32.onnx")
    with pytest.raises(UnknownNameError, match="float32"):
        Classifier.open(bundle, precision="float64")
    with pytest.raises(UnknownNameError, match="litert"):
        Classifier.open(bundle, backend="litr")
    with pytest.raises(UsageError, match=r"'onnx'.*onnx/float32"):
        Classifier.open(bundle, backend="onnx", precision="int8")


def test_what_is_installed_decides(bundle, monkeypatch):
    monkeypatch.setattr(file_choice, "installed", lambda name: name == "onnx")
    assert Classifier.open(bundle).info.format == "onnx"
    monkeypatch.setattr(file_choice, "installed", lambda name: False)
    monkeypatch.setattr("mbn_deploy.runtime.backends.installed", lambda name: False)
    with pytest.raises(MissingExtraError, match="pip install"):
        Classifier.open(bundle)


def test_unknown_files_are_ignored(bundle):
    (bundle / "notes.txt").write_text("mine")
    assert len(open_bundle(bundle).manifest.files) == 3


@pytest.mark.parametrize("name", ["i8.tflite", "labels.txt"])
def test_an_edited_bundle_names_the_file(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[-2] ^= 1
    (bundle / name).write_bytes(data)
    for check in (open_bundle, Classifier.open):
        with pytest.raises(InputError, match=name):
            check(bundle)
    (bundle / name).write_bytes(data[:-2])
    with pytest.raises(InputError, match=name):
        open_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(InputError, match=name):
        open_bundle(bundle)


def test_only_the_file_that_runs_is_read(bundle):
    (bundle / "f32.onnx").unlink()
    assert Classifier.open(bundle).info.precision == "int8"
    entry = open_bundle(bundle, check_files=False).manifest.files[0]
    with pytest.raises(InputError, match=r"f32\.onnx"):
        check_file(bundle, entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(files=[]), "dist"),
        (lambda m: m.update(classes=6), "6 classes"),
        (lambda m: m["files"][2].update(path="../i8.tflite"), "\\.\\./i8"),
        (lambda m: m["files"][2]["input"].update(shape=[1, 12, 16, 3]), "i8.tflite"),
        (lambda m: m.update(schema_version=99), "99"),
        (lambda m: m["files"][2].pop("sha256"), "sha256"),
        (lambda m: m["files"][2].update(layout="NHWC"), "'NHWC'"),
        (lambda m: m["files"][2]["input"].update(scale=0), "scale 0.0"),
        (lambda m: m["files"][2]["output"].update(scale=float("nan")), "scale nan"),
        (lambda m: m["files"][2]["output"].update(zero_point=10**30), "zero point 1000"),
        (lambda m: m["files"][2]["preprocess"].update(mean=[float("nan")] * 3), "mean"),
    ],
)
def test_a_wrong_manifest_says_what(bundle, change, message):
    models.edit_manifest(bundle, change)
    with pytest.raises(InputError, match=message):
        Classifier.open(bundle)


def test_folders_that_are_no_bundle(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json"):
        Classifier.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json"):
        Classifier.open(tmp_path)
    with pytest.raises(InputError, match="missing"):
        open_bundle(tmp_path / "missing")


# --- lone files that say little


def test_a_float_file_that_says_nothing_asks(tmp_path):
    path = lone(tmp_path, write_tflite(models.graph(), "float32"))
    with pytest.raises(UsageError, match=r"--preprocess.*--resize"):
        Classifier.open(path)
    with pytest.raises(UsageError, match="--resize"):
        Classifier.open(path, preprocess="tf")
    with pytest.raises(UsageError, match="--preprocess"):
        Classifier.open(path, resize="crop")
    classifier = Classifier.open(path, preprocess="tf", resize="squash")
    np.testing.assert_allclose(classifier.predict(PIXELS), reference(), atol=1e-5)
    assert classifier.labels is None
    assert classifier.classify(PIXELS[0], 1)[0].label == str(reference()[0].argmax())
    whole = Classifier.open(path, preprocess=models.TF)
    assert whole.info.preprocess == models.TF


def test_a_uint8_file_that_says_nothing_takes_pixels(tmp_path):
    path = lone(tmp_path, models.int8_tflite(described=False))
    with pytest.raises(UsageError, match="--resize"):
        Classifier.open(path)
    np.testing.assert_allclose(Classifier.open(path, resize="squash").predict(PIXELS), reference(), atol=INT8)
    told = Classifier.open(path, resize="squash", preprocess="tf")  # quantized from real numbers: nearly the same
    np.testing.assert_allclose(told.predict(PIXELS), reference(), atol=INT8 + 0.02)


def test_an_int8_file_that_says_nothing_asks(tmp_path):
    path = lone(tmp_path, models.int8_tflite("int8", described=False))
    with pytest.raises(UsageError, match="--preprocess"):
        Classifier.open(path, resize="squash")
    told = Classifier.open(path, resize="squash", preprocess="128/128")
    np.testing.assert_allclose(told.predict(PIXELS), reference(), atol=INT8)


def test_options_win_over_the_file(tmp_path):
    path = lone(tmp_path, models.float_tflite())
    info = Classifier.open(path, preprocess="torch", resize="letterbox").info
    assert info.preprocess.mean == Preprocess.parse("torch").mean
    assert info.preprocess.resize == "letterbox"
    with pytest.raises(UnknownNameError, match="resize"):
        Classifier.open(path, resize="stretch")
    with pytest.raises(UnknownNameError, match="torch"):
        Classifier.open(path, preprocess="torhc")
    with pytest.raises(UsageError, match="'int8'"):
        Classifier.open(path, precision="int8")


def test_labels_given_by_file_or_sequence(tmp_path):
    path = lone(tmp_path, models.float_tflite())
    text = tmp_path / "names.txt"
    text.write_bytes("eins\r\nzwei\r\ndrei\r\nvier\r\nfünf\r\n\r\n".encode())
    assert Classifier.open(path, labels=text).labels == ("eins", "zwei", "drei", "vier", "fünf")
    assert Classifier.open(path, labels=list("abcde")).labels == tuple("abcde")
    with pytest.raises(InputError, match=r"4 labels.*5 classes.*'background'"):
        Classifier.open(path, labels=list("abcd"))
    with pytest.raises(InputError, match=r"6 labels.*'background'"):
        Classifier.open(path, labels=list("abcdef"))
    with pytest.raises(InputError, match=r"2 labels.*5 classes$"):
        Classifier.open(path, labels=list("ab"))
    with pytest.raises(InputError, match=r"missing\.txt"):
        Classifier.open(path, labels=tmp_path / "missing.txt")
    text.write_bytes("\u00e9t\u00e9\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"names\.txt.*UTF-8"):
        Classifier.open(path, labels=text)
    text.write_bytes(b"\n")
    with pytest.raises(InputError, match=r"names\.txt"):
        Classifier.open(path, labels=text)


def test_a_files_own_labels_must_match(tmp_path):
    with pytest.raises(InputError, match="2 labels"):
        Classifier.open(lone(tmp_path, models.float_tflite(labels=("a", "b"))))


def test_damaged_metadata_name_the_file(tmp_path):
    data = write_tflite(models.graph(), "float32", metadata={"mbn_deploy": b'{"model": 1}'})
    with pytest.raises(InputError, match=r"m\.tflite.*mbn_deploy"):
        Classifier.open(lone(tmp_path, data))


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(InputError, match=r"missing\.tflite"):
        Classifier.open(tmp_path / "missing.tflite")
    for name, data in (("m.keras", b"PK"), ("m.tflite", b"text"), ("m.onnx", b"text"), ("m.tflite", b"")):
        with pytest.raises(InputError, match=name):
            Classifier.open(lone(tmp_path, data, name))


# --- use


def test_bad_pictures_and_counts(tmp_path):
    classifier = Classifier.open(lone(tmp_path, models.float_tflite()))
    with pytest.raises(InputError, match="4 bytes"):
        classifier.classify(b"text")
    with pytest.raises(UsageError, match="top_k"):
        classifier.classify(PIXELS[0], 0)
    assert len(classifier.classify(PIXELS[0], 100)) == models.CLASSES
    with pytest.raises(UsageError, match="pixels"):
        classifier.predict(PIXELS.astype(np.float32))
    with pytest.raises(UsageError, match="pixels"):
        classifier.predict(PIXELS[:, :5])


def test_closed_is_closed(tmp_path):
    with Classifier.open(lone(tmp_path, models.float_tflite())) as classifier:
        pass
    classifier.close()
    with pytest.raises(UsageError, match="closed"):
        classifier.classify(PIXELS[0])


def test_many_threads_on_one_classifier(tmp_path):
    classifier = Classifier.open(lone(tmp_path, models.int8_tflite()), threads=1)
    expected = [classifier.classify(image) for image in PIXELS]
    wrong = []

    def work(shift):
        for round_ in range(30):
            index = (shift + round_) % len(PIXELS)
            if classifier.classify(PIXELS[index]) != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_jpeg_bytes_and_array_of_the_same_picture_agree(tmp_path):
    classifier = Classifier.open(lone(tmp_path, models.float_tflite()))
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).resize((640, 480)).save(buffer, "PNG")
    array = np.asarray(Image.open(buffer))
    assert classifier.classify(buffer.getvalue()) == classifier.classify(array)


# --- ranking


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float32, np.float16])
@pytest.mark.parametrize("count", [1, 5, FEW, FEW + 1, 1000])
def test_ranking_is_a_stable_sort(dtype, count):
    rng = np.random.default_rng(0)
    for high in (2, 50):
        scores = rng.integers(0, high, 100).astype(dtype)
        expected = sorted(range(100), key=lambda i: (-float(scores[i]), i))[:count]
        assert top_indices(scores, count) == expected
        assert scores.max() < high  # the row itself is left alone


def test_softmax_of_large_logits():
    np.testing.assert_allclose(softmax(np.array([1000, 1000, -1000], np.float32)), [0.5, 0.5, 0])
