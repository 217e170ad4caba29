"""`check-apk`: label files that lie loose in an archive, against the labels of the bundle."""

import json
from functools import partial

import apk_files as made
import pytest
import runtime_models as models
from apk_files import the_problem
from cli_run import run

WORDS = models.LABELS
SWAPPED = (WORDS[1], WORDS[0], *WORDS[2:])
TFLITE, ONNX = models.int8_tflite(described=False), models.float_onnx()


@pytest.fixture
def bundle(tmp_path):
    files = [
        ("flowers.tflite", "tflite", "int8", TFLITE, models.PIXELS, "nhwc"),
        ("flowers.onnx", "onnx", "float32", ONNX, models.TF, "nchw"),
    ]
    models.write_bundle(tmp_path / "bundle", files)
    return tmp_path / "bundle"


@pytest.fixture
def checked(tmp_path, bundle):
    return partial(made.check, tmp_path, bundle=bundle)


def lines(words):
    return "\n".join(words).encode() + b"\n"


def as_json(words):
    return json.dumps(list(words)).encode()


def as_object(words):
    return json.dumps({"id2label": {str(i): word for i, word in enumerate(words)}}).encode()


def numbered(words):
    return lines([f"{i} {word}" for i, word in enumerate(words)])


def in_utf16(words):
    return lines(words).decode().encode("utf-16")


FORMS = (lines, as_json, as_object, numbered, in_utf16)
PLACES = ("assets/labels.txt", "assets/m/classes.names", "res/raw/x1.txt", "assets/deep/er/data", "res/0A.json")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("model", [("assets/m/a.tflite", TFLITE), ("assets/m/a.onnx", ONNX)], ids=["tflite", "onnx"])
def test_the_order_counts(checked, form, place, model):
    files = dict([model])
    assert checked(files | {place: form(WORDS)}).passed
    assert place in the_problem(checked(files | {place: form(SWAPPED)}))


@pytest.mark.parametrize("wrong", [
    WORDS[::-1], (*WORDS[:-1], "else"), WORDS[:-1], ("background", *WORDS), tuple(w.upper() for w in WORDS),
    ("oak", "elm", "ash", "fir", "yew"),
], ids=["reversed", "renamed", "fewer", "more", "capitals", "others"])  # fmt: skip
@pytest.mark.parametrize("place", ["assets/a/labels.txt", "assets/other/my_labels.txt", "assets/list.txt"])
def test_other_words_and_other_counts(checked, wrong, place):
    problem = the_problem(checked({"assets/a/m.tflite": TFLITE, place: lines(wrong)}))
    assert problem.startswith(place)


def test_the_difference_is_named(checked, bundle):
    problem = the_problem(checked({"assets/m.tflite": TFLITE, "assets/labels.txt": lines(SWAPPED)}))
    assert all(word in problem for word in ("class 0", *map(repr, WORDS[:2]), str(bundle)))


@pytest.mark.parametrize("name", ["app.aab", "app.aar", "app.apk"])
def test_every_kind_of_archive_with_exit_code_5(tmp_path, bundle, name):
    files = {"assets/m.tflite": TFLITE, "assets/labels.txt": lines(SWAPPED)}
    if name == "app.aab":
        files = {f"base/{path}": data for path, data in files.items()}
        files["BundleConfig.pb"] = made.bundle_config(["**.tflite"])
    if name == "app.aar":
        files["AndroidManifest.xml"] = made.TEXT_MANIFEST
    path = tmp_path / name
    path.write_bytes((made.apk if name == "app.apk" else made.archive)(files))
    result = run("check-apk", path, "--bundle", bundle)
    assert result.exit_code == 5
    assert "labels.txt" in result.stdout


def test_other_texts_of_an_app_are_left_alone(checked):
    texts = {
        "assets/LICENSE.txt": b"Licensed under\nmany words\n" * 30,
        "assets/readme.md": lines(["# flowers", "This app tells flowers apart.", *WORDS[:2], "x" * 200]),
        "play.properties": b"version=1\nclient=play\na=1\nb=2\nc=3\n",
        "assets/config.json": b'{"threads": 4, "names": ["x", "y"]}',
        "assets/empty": b"", "assets/blank.txt": b"\n\n", "assets/page.html": b"<p>\n" * 9, "assets/bad.json": b"[{",
        "res/layout.xml": b"\x03\x00\x08\x00" + bytes(40),
    }  # fmt: skip
    assert checked({"assets/m.tflite": TFLITE, "assets/labels.txt": lines(WORDS)} | texts).passed


def test_labels_of_another_model_of_the_app(checked):
    other = models.int8_tflite("int8", described=False)
    files = {"assets/a/flowers2.onnx": ONNX, "assets/b/trees.tflite": other}
    trees = lines(["oak", "elm", "ash", "fir", "yew"])
    assert checked(files | {"assets/b/labels.txt": trees, "assets/a/labels.txt": lines(WORDS)}).passed
    assert not checked(files | {"assets/b/labels.txt": lines(SWAPPED)}).passed


def test_against_labels_inside_the_model(tmp_path):
    check = partial(made.check, tmp_path)
    files = {"assets/m.tflite": models.int8_tflite()}
    assert check(files | {"assets/l.txt": lines(WORDS)}).passed
    assert "assets/m.tflite" in the_problem(check(files | {"assets/l.txt": lines(SWAPPED)}))
