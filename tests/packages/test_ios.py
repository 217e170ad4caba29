"""`bundle ios`: what is packed is what was exported, and nothing in a bundle can become Swift code."""

import json
import re
import struct
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import runtime_models as models
from cli_run import run

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import Resize
from mbn_deploy.packages.ios.package import write_ios_package
from mbn_deploy.packages.ios.swift_source import string, type_name
from mbn_deploy.runtime import Classifier

NASTY = 'a"; fatalError("x") //\n\\(evil) é猫'


def bundle_of(folder, *files):
    models.write_bundle(folder, files)
    return folder


@pytest.fixture
def plain(tmp_path):
    """A bundle without golden vectors, with int8 files of uint8 and of int8 input and a float one."""
    return bundle_of(
        tmp_path / "bundle",
        ("tiny_int8.tflite", "tflite", "int8", models.int8_tflite(), models.PIXELS, "nhwc"),
        ("tiny_float32.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc"),
        ("tiny.onnx", "onnx", "float32", models.float_onnx(), models.TF, "nchw"),
    )


def swift(package):
    return (package.folder / f"{package.name}.swift").read_text()


def test_files_are_those_of_the_bundle(exported, tmp_path):
    source, facts = exported
    result = run("bundle", "ios", source, "-o", tmp_path / "p", "--class-name", "Digits", "--json")
    assert result.exit_code == 0, result.stderr
    made = json.loads(result.stdout)
    assert made["compiled"] is False
    names = {path.relative_to(tmp_path / "p").as_posix() for path in (tmp_path / "p").rglob("*") if path.is_file()}
    assert names == {*made["files"], "package.json"}
    folder, file = tmp_path / "p" / "DigitsModels", made["source"]
    assert (folder / file).read_bytes() == (source / file).read_bytes()
    assert (folder / "labels.txt").read_bytes() == (source / "labels.txt").read_bytes()
    assert (tmp_path / "p.tar.gz").is_file()
    assert facts["manifest"]["model"] in (tmp_path / "p" / "Digits.swift").read_text()


def test_golden_vectors_are_what_the_runtime_answers(exported, tmp_path):
    made = write_ios_package(exported[0], tmp_path / "p", name="Digits")
    data = (made.folder / "DigitsModels" / f"{made.source.path}.golden").read_bytes()
    count, size, classes, tolerance = struct.unpack_from(">iiif", data)
    assert (size, classes) == (32 * 32 * 3, 10)
    assert len(data) == 16 + count * (size + 4 * classes)
    with Classifier.open(exported[0], precision="int8") as classifier:
        for index in range(count):
            at = 16 + index * (size + 4 * classes)
            pixels = np.frombuffer(data, np.uint8, size, at).reshape(32, 32, 3)
            scores = np.frombuffer(data, ">f4", classes, at + size)
            found = sorted(classifier.classify(pixels, top_k=classes), key=lambda p: p.index)
            assert np.abs(scores - [p.score for p in found]).max() <= tolerance
    text = (made.folder / "DigitsGolden.swift").read_text()
    assert f'"{made.source.path}.golden"' in text
    assert "XCTAssertTrue(try Digits().golden().passed)" in (made.folder / "README.md").read_text()


def test_constants_are_the_manifests(plain, tmp_path):
    made = write_ios_package(plain, tmp_path / "p")
    assert made.source.path == "tiny_int8.tflite"
    text = swift(made)
    output = made.source.output
    for line in ("width = 12", "height = 16", "channels = 3", "classes = 5", 'file = "tiny_int8.tflite"'):
        assert f"public static let {line}\n" in text
    assert f"Float(Int(level) - {output.zero_point}) * {output.scale!r}" in text
    assert "Data(pixels)" in text
    assert "way: .squash, cropFraction: 0.875, filter: .bilinear" in text
    assert not (made.folder / "TinyClassifierGolden.swift").exists()
    assert "golden" not in (made.folder / "README.md").read_text().lower().replace("golden vectors compare", "")


@pytest.mark.parametrize(("preprocess", "scores", "words"), [
    (replace(models.TF, resize="crop", crop_fraction=0.5), "softmax", "way: .crop, cropFraction: 0.5"),
    (replace(models.TF, resize="keras-crop"), "softmax", "way: .kerasCrop"),
    (replace(models.TF, filter="nearest"), "softmax", "filter: .nearest"),
    (replace(models.TF, channels="bgr"), "softmax", "[pixels[$0 + 2], pixels[$0 + 1], pixels[$0]]"),
    (replace(models.TF, mean=(1e-7, 2.5, 3.0)), "softmax", "mean: [Float] = [1e-07, 2.5, 3.0]"),
    (models.TF, "logits", "let sum = powers.reduce(0, +)"),
])  # fmt: skip
def test_every_kind_of_preprocessing(tmp_path, preprocess, scores, words):
    data = models.float_tflite(scores)
    source = bundle_of(tmp_path / "b", ("m.tflite", "tflite", "float32", data, preprocess, "nhwc"))
    models.edit_manifest(source, lambda manifest: manifest.update(scores=scores))
    text = swift(write_ios_package(source, tmp_path / "p"))
    assert words in text
    assert "§" not in text


@pytest.mark.parametrize("resize", get_args(Resize))
def test_swift_knows_every_way_to_resize(tmp_path, resize):
    way = replace(models.TF, resize=resize)
    source = bundle_of(tmp_path / "b", ("m.tflite", "tflite", "float32", models.float_tflite(), way, "nhwc"))
    made = write_ios_package(source, tmp_path / "p")
    (chosen,) = re.findall(r"way: \.(\w+)", swift(made))
    resizer = (made.folder / f"{made.name}Resize.swift").read_text()
    assert re.search(rf"case [^}}\n]*\b{chosen}\b", resizer)
    assert "§" not in resizer


def test_grey_pictures(plain, tmp_path):
    def grey(manifest):
        file = manifest["files"][1]
        file["input"]["shape"] = [1, 16, 12, 1]
        file["preprocess"] |= {"mean": [127.5], "std": [127.5]}

    models.edit_manifest(plain, grey)
    text = swift(write_ios_package(plain, tmp_path / "p", precision="float32"))
    assert "channels = 1\n" in text
    assert "mean: [Float] = [127.5]\n" in text


def test_the_same_every_time(plain, tmp_path):
    first, second = (write_ios_package(plain, tmp_path / name / "p") for name in "ab")
    assert first.archive.read_bytes() == second.archive.read_bytes()


def test_names_of_the_bundle_stay_text(plain, tmp_path):
    models.edit_manifest(plain, lambda manifest: manifest.update(model=NASTY))
    made = write_ios_package(plain, tmp_path / "p")
    assert re.fullmatch(r"[A-Z][A-Za-z0-9_]*", made.name)
    for path in made.folder.glob("*.swift"):
        for line in path.read_text().splitlines():
            assert not re.search("evil|fatalError", line) or line.startswith("// ")


def test_a_file_name_is_one_string(tmp_path):
    name = 'a"(x)é.tflite'
    data = models.int8_tflite()
    source = bundle_of(tmp_path / "b", (name, "tflite", "int8", data, models.PIXELS, "nhwc"))
    text = swift(write_ios_package(source, tmp_path / "p"))
    assert 'let file = "a\\u{22}(x)\\u{E9}.tflite"' in text


def test_strings():
    assert string('a"b\\(c)\n\r$é猫\u202e') == '"a\\u{22}b\\u{5C}(c)\\u{A}\\u{D}$\\u{E9}\\u{732B}\\u{202E}"'


@pytest.mark.parametrize("name", ["flowers", "9Lives", "A B", "", "Über", "A;B", "Self", "Interpreter", "A" * 65, "_A"])
def test_names_that_swift_or_the_code_does_not_take(plain, tmp_path, name):
    with pytest.raises(UsageError):
        type_name(name)
    result = run("bundle", "ios", plain, "-o", tmp_path / "p", "--class-name", name)
    assert result.exit_code == 2
    assert not (tmp_path / "p").exists()


def test_int8_ends_cannot_be_fed(tmp_path):
    source = bundle_of(
        tmp_path / "b", ("m.tflite", "tflite", "int8", models.int8_tflite("int8"), models.PIXELS, "nhwc")
    )
    result = run("bundle", "ios", source, "-o", tmp_path / "p")
    assert result.exit_code == 2
    assert "with --input uint8" in result.stderr
    assert not (tmp_path / "p").exists()


def test_choices_that_cannot_be_met(plain, tmp_path):
    result = run("bundle", "ios", plain, "-o", tmp_path / "p", "--precision", "int9")
    assert result.exit_code == 2
    assert "did you mean int8" in result.stderr
    only = bundle_of(tmp_path / "o", ("m.onnx", "onnx", "float32", models.float_onnx(), models.TF, "nchw"))
    assert run("bundle", "ios", only, "-o", tmp_path / "p").exit_code == 2
    double = bundle_of(
        tmp_path / "d", ("m.tflite", "tflite", "float32", models.float_tflite(batch=2), models.TF, "nhwc")
    )
    assert "--batch 1" in run("bundle", "ios", double, "-o", tmp_path / "p").stderr
    (plain / "tiny_float32.tflite").write_bytes(b"x")
    with pytest.raises(InputError, match=r"tiny_float32\.tflite"):
        write_ios_package(plain, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_package_is_replaced_on_request_only(plain, tmp_path):
    write_ios_package(plain, tmp_path / "p")
    with pytest.raises(UsageError, match="--overwrite"):
        write_ios_package(plain, tmp_path / "p")
    assert write_ios_package(plain, tmp_path / "p", precision="float32", overwrite=True).source.precision == "float32"
    assert not (tmp_path / "p" / "TinyClassifierModels" / "tiny_int8.tflite").exists()


def test_the_screen_says_that_nothing_was_compiled(plain, tmp_path):
    result = run("bundle", "ios", plain, "-o", tmp_path / "p")
    assert result.exit_code == 0, result.stderr
    assert "was not compiled" in result.stdout
    assert "was not compiled" in (tmp_path / "p" / "README.md").read_text()
