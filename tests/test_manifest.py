"""What a manifest and the description inside a model file accept, refuse, and look like as text."""

import json
import re
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import PREPROCESS_MODES, Description, Manifest, ModelFile, Preprocess, TensorInfo, plain_name

PREPROCESS = Preprocess.parse("tf")
FILE = ModelFile(
    "m.tflite", "tflite", "int8", "0" * 64, 10, TensorInfo("x", (1, 4, 5, 3), "int8", 0.5, -128),
    TensorInfo("y", (1, 2), "float32"), PREPROCESS,
)  # fmt: skip
MANIFEST = Manifest("m", 2, "softmax", (FILE,), labels="labels.txt", metrics={"b": 1, "a": "é"})
DESCRIPTION = Description("m", "int8", "softmax", PREPROCESS, labels=("é", "b"))


@pytest.mark.parametrize("mode", PREPROCESS_MODES)
def test_modes_are_those_of_keras(mode):
    from keras.applications.imagenet_utils import preprocess_input

    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.float32)
    ours = Preprocess.parse(mode)
    got = ((pixels[..., ::-1] if ours.channels == "bgr" else pixels) - np.array(ours.mean)) / np.array(ours.std)
    known = {"raw": pixels, "unit": pixels / 255}
    expected = known[mode] if mode in known else preprocess_input(pixels.copy(), mode=mode)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_what_is_assumed_where_nothing_is_said():
    expected = {
        "mean": (0.0,) * 3, "std": (1.0,) * 3, "channels": "rgb", "resize": "crop", "crop_fraction": 0.875,
        "filter": "bilinear",
    }  # fmt: skip
    assert asdict(Preprocess()) == expected
    assert Preprocess.parse("torch", resize="squash").resize == "squash"
    assert Preprocess.parse("1/2", crop_fraction=0.5) == Preprocess((1.0,) * 3, (2.0,) * 3, crop_fraction=0.5)
    assert Preprocess.parse("1,2,3/4,5,6") == Preprocess((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


@pytest.mark.parametrize("value", [PREPROCESS, FILE, FILE.input, MANIFEST, DESCRIPTION])
def test_nothing_is_changed_in_place(value):
    name, other = fields(value)[0].name, replace(value)
    assert other == value
    for made in (value, other):
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, getattr(made, name))
    assert hash(value) == hash(other) if value is not MANIFEST else True


def numbers(mean, std):
    return lambda: Preprocess(mean=mean, std=std)


@pytest.mark.parametrize(
    "made",
    [
        *(numbers((m,) * n, (s,) * n) for n in (1, 3) for m in (-9e29, 9e29) for s in (2e-30, 9e29)),
        lambda: Preprocess(crop_fraction=1.0),
        lambda: Preprocess(crop_fraction=1e-9),
    ],
)
def test_the_last_numbers_that_are_taken(made):
    assert made()


@pytest.mark.parametrize(
    "made",
    [
        numbers((1e30,), (1.0,)),
        numbers((-1e30,), (1.0,)),
        numbers((float("nan"),), (1.0,)),
        numbers((0.0,), (9e-31,)),
        numbers((0.0,), (1e30,)),
        numbers((0.0,), (-1.0,)),
        numbers((0.0, 0.0, 0.0), (1.0, 1.0, 0.0)),
        numbers((0.0, 1e30, 0.0), (1.0, 1.0, 1.0)),
        numbers((0.0,), (1.0, 1.0, 1.0)),
        numbers((0.0, 0.0), (1.0, 1.0)),
        numbers((), ()),
        lambda: Preprocess(crop_fraction=0.0),
        lambda: Preprocess(crop_fraction=1.0001),
        lambda: Preprocess.parse("1,2/3,4"),
        lambda: Preprocess.parse("1,2,3/4,5,6,7"),
        lambda: Preprocess.parse("a/b"),
        lambda: Preprocess.parse("1"),
        lambda: replace(FILE, layout="hwc"),
        lambda: replace(FILE, format="pb"),
        lambda: replace(MANIFEST, scores="maybe"),
        lambda: replace(DESCRIPTION, scores="maybe"),
        lambda: replace(DESCRIPTION, layout="hwc"),
    ],
)
def test_the_first_that_are_refused(made):
    with pytest.raises(UsageError):
        made()


def test_the_picture_of_each_layout():
    assert FILE.picture == (4, 5, 3)
    chw = replace(FILE.input, shape=(1, 3, 4, 5))
    assert replace(FILE, layout="nchw", input=chw).picture == (4, 5, 3)


def test_text_comes_back_and_is_sorted():
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert Description.from_json(DESCRIPTION.to_json(), "m") == DESCRIPTION
    bare = replace(DESCRIPTION, labels=None)
    assert Description.from_json(bare.to_json(), "m") == bare
    text = MANIFEST.to_json()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert json.loads(text)["schema_version"] == 1
    line = DESCRIPTION.to_json()
    assert line == json.dumps(json.loads(line), sort_keys=True, ensure_ascii=False)
    with pytest.raises(ValueError, match="nan"):
        replace(MANIFEST, metrics={"top1": float("nan")}).to_json()


def changed(data, path, value):
    *parents, last = path
    for key in parents:
        data = data[key]
    data[last] = value


TENSOR = ("files", 0, "input")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*TENSOR, "scale"), 0),
        ((*TENSOR, "scale"), -1),
        ((*TENSOR, "scale"), 1e30),
        ((*TENSOR, "scale"), float("nan")),
        ((*TENSOR, "zero_point"), 2**31 + 1),
        ((*TENSOR, "zero_point"), -(2**31) - 1),
        ((*TENSOR, "shape"), [float("inf")]),
        (TENSOR, [1]),
        (("files",), None),
        (("files", 0, "preprocess"), "tf"),
        (("files", 0, "preprocess"), []),
        (("files", 0, "preprocess", "mean"), [10**400]),
        (("files", 0, "size"), "large"),
        (("labels",), "a/b"),
        (("golden",), "."),
        (("scores",), "maybe"),
        (("schema_version",), 2),
        (("schema_version",), 0),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_the_file(path, value):
    data = json.loads(MANIFEST.to_json())
    changed(data, path, value)
    with pytest.raises(InputError, match=r"^here\.json: "):
        Manifest.from_json(json.dumps(data), "here.json")


@pytest.mark.parametrize("zero", [2**31, -(2**31), 0])
def test_the_last_zero_points_and_scales_that_are_taken(zero):
    data = json.loads(MANIFEST.to_json())
    changed(data, (*TENSOR, "zero_point"), zero)
    changed(data, (*TENSOR, "scale"), 9e29)
    assert Manifest.from_json(json.dumps(data)).files[0].input.zero_point == zero


@pytest.mark.parametrize("text", ["", "[]", "1", "{}", "[" * 100_000, '"text"'])
@pytest.mark.parametrize("read", [Manifest.from_json, Description.from_json])
def test_text_that_is_neither(read, text):
    with pytest.raises(InputError, match=r"^here: "):
        read(text, "here")


@pytest.mark.parametrize(
    ("key", "value"),
    [("preprocess", "tf"), ("preprocess", {"mean": [10**400], "std": [1]}), ("layout", "hwc"), ("labels", 3)],
)
def test_a_damaged_description_is_refused(key, value):
    data = json.loads(DESCRIPTION.to_json()) | {key: value}
    with pytest.raises(InputError, match=r"^here: .*mbn_deploy"):
        Description.from_json(json.dumps(data), "here")


def test_what_may_be_left_out():
    data = json.loads(MANIFEST.to_json())
    for key in (
        "labels",
        "labels_sha256",
        "golden",
        "golden_sha256",
        "source",
        "quantization",
        "metrics",
        "tools",
        "threads",
    ):
        del data[key]
    del data["files"][0]["layout"]
    assert Manifest.from_json(json.dumps(data)) == replace(MANIFEST, labels=None, metrics={})


@pytest.mark.parametrize("name", ["", ".", "..", "a/", "/a", *(f"a{mark}b" for mark in "\\/:\0\n\r")])
def test_names_that_could_lead_elsewhere(name):
    for what in (lambda: plain_name("file", name), lambda: replace(FILE, path=name)):
        with pytest.raises(InputError, match=re.escape(repr(name))):
            what()
    assert plain_name("file", "...") == "..."
