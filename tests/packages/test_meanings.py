"""Packages of models whose answers are labels, yes or no, values or an embedding: what runs on a phone and in C."""

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import android_tools as tools
import export_models as models
import keras
import numpy as np
import pytest
from c_programs import MICRO_STUBS, compiled, compiler
from PIL import Image

from mbn_deploy import Bundle, Classifier, export_model
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.packages.android.package import AndroidOptions, write_android_package
from mbn_deploy.packages.ios.package import write_ios_package
from mbn_deploy.packages.micro.code import RESOLVERS
from mbn_deploy.packages.micro.package import write_c_array_package
from mbn_deploy.packages.pi import package as pi_package
from mbn_deploy.packages.pi.rpicam import stage_files

HEADS = {  # meaning: (number of outputs, labels)
    "labels": (4, ("cloud", "sea", "sand", "tree")),
    "binary": (1, ("cat", "dog")),
    "values": (2, ("age", "height")),
    "embedding": (16, None),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Return the folder of a bundle for each meaning: int8, ending without a softmax or sigmoid."""
    root = tmp_path_factory.mktemp("bundles")
    pictures = models.write_pictures(root / "pictures")
    keras.utils.set_random_seed(3)
    for meaning, (outputs, labels) in HEADS.items():
        layers = keras.layers
        x = inputs = keras.Input((32, 32, 3))
        x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, 2)(layers.Rescaling(1 / 255)(x))))
        x = layers.Dense(outputs, kernel_initializer="he_normal")(layers.GlobalAveragePooling2D()(x))
        export_model(
            keras.Model(inputs, x, name=meaning), root / meaning, scores=meaning, labels=labels, calibrate=pictures,
            precisions=["int8"], formats=["tflite"], resize="squash", report=False,
        )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(2)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    return np.asarray(coarse.resize((60, 45), Image.Resampling.BICUBIC))


@tools.compiling
@pytest.mark.android
@pytest.mark.slow
def test_the_class_for_android_answers_as_python_does(bundles, picture, tmp_path):
    assets, test_assets, sources = tmp_path / "assets", tmp_path / "test_assets", []
    for meaning in HEADS:
        name = f"{meaning.capitalize()}Classifier"
        options = AndroidOptions(class_name=name, package=f"com.example.{meaning}")
        folder = tmp_path / meaning
        write_android_package(bundles / meaning, folder, options)
        sources += [path for kind in ("kt", "java") for path in sorted(folder.rglob(f"*.{kind}"))]
        shutil.copytree(folder / "src/main/assets", assets, dirs_exist_ok=True)
        shutil.copytree(folder / "src/androidTest/assets", test_assets, dirs_exist_ok=True)
    stubs = tools.compile_stubs(tmp_path / "stubs")
    harness = tools.STUBS / "harness/answers/Harness.kt"
    classes = tools.compile_package([*sources, harness], stubs, tmp_path / "classes")
    tools.run_harness(classes, stubs, "tests", assets, test_assets)
    argb = np.concatenate([np.full((45, 60, 1), 255, np.uint8), picture], axis=-1)
    data = struct.pack(">ii", 60, 45) + argb.tobytes()
    out = tools.run_harness(classes, stubs, "answer", assets, test_assets, data)
    for meaning, threshold in (
        ("labels", None),
        ("labels", 0.0),
        ("binary", None),
        ("values", None),
        ("embedding", None),
    ):
        (length,) = struct.unpack(">H", out.read(2))
        said = [line.split("\t") for line in out.read(length).decode().splitlines()]
        with Classifier.open(bundles / meaning) as classifier:
            answer = classifier.answer(np.rot90(picture, -1), threshold=threshold)
        if meaning == "embedding":
            expected = [(str(index), feature) for index, feature in enumerate(answer)]
        else:
            expected = [(a.label, a.value if meaning == "values" else a.score) for a in answer]
        assert [name for name, _ in said] == [name for name, _ in expected]
        np.testing.assert_allclose([float(n) for _, n in said], [n for _, n in expected], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("meaning", ["binary", "values", "embedding"])
def test_mediapipe_says_that_it_only_classifies(bundles, meaning, tmp_path):
    with pytest.raises(UsageError, match=meaning):
        write_android_package(bundles / meaning, tmp_path / "out", AndroidOptions(runtime="mediapipe"))


@pytest.mark.parametrize("meaning", ["values", "embedding"])
def test_rpicam_says_that_it_shows_names(bundles, meaning):
    bundle = Bundle.read(bundles / meaning)
    (entry,) = bundle.files
    with pytest.raises(InputError, match=meaning):
        stage_files((bundle.folder / entry.path).read_bytes(), entry, bundle.manifest.answers, bundle.labels)


def test_every_package_for_ios_has_the_method_of_its_answers(bundles, tmp_path):
    methods = {"labels": "classify", "binary": "classify", "values": "predict", "embedding": "embed"}
    for meaning, method in methods.items():
        write_ios_package(bundles / meaning, tmp_path / meaning, name="Model")
        swift = (tmp_path / meaning / "Model.swift").read_text()
        assert f"public func {method}(" in swift
        assert "§" not in swift
        assert f"classifier.{method}(" in (tmp_path / meaning / "README.md").read_text()


def test_the_example_for_the_pi_prints_answers_of_every_meaning(bundles, picture, tmp_path):
    script = Path(pi_package.__file__).with_name("templates") / "classify.py"
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture).save(tmp_path / "photos" / "a.png")
    for meaning, (outputs, labels) in HEADS.items():
        folder = tmp_path / meaning
        shutil.copytree(bundles / meaning, folder / "models")
        shutil.copy(script, folder)
        command = [sys.executable, str(folder / script.name), f"folder:{tmp_path / 'photos'}"]
        if meaning == "labels":
            command += ["--sure", "0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        named = [label for label in labels or () if repr(label) in done.stdout]
        assert len(named) == {"labels": 4, "binary": 1, "values": 2, "embedding": 0}[meaning]
        assert (f"{outputs} features" in done.stdout) == (meaning == "embedding")
        assert ("%" in done.stdout) == (meaning in ("labels", "binary"))
        assert done.stdout.endswith("a.png'\n")


C_PROGRAM = """
#include <cstdio>
int main() {
  static uint8_t picture[32 * 32 * 3];
  float answers[16];
  if (!FUNCTION(picture, answers)) return 1;
  for (int i = 0; i < NAME_CLASSES; ++i) std::printf("%.6f\\n", answers[i]);
}
"""


@compiler
@pytest.mark.parametrize("meaning", HEADS)
def test_the_readme_for_c_computes_the_answers(meaning, bundles, tmp_path):
    """Against declarations of tflite-micro that answer 0, 1, 2 ... as int8."""
    pytest.importorskip("tflite_micro")
    out = tmp_path / "out"
    write_c_array_package(bundles / meaning, out, name="model")
    headers = tmp_path / "tensorflow/lite/micro"
    headers.mkdir(parents=True)
    for name, text in MICRO_STUBS.items():
        ops = "\n".join(f"OP({name})" for name in RESOLVERS.values())
        counting = text.replace("out[3] = in[5];", "for (int i = 0; i < 16; ++i) out[i] = (int8_t)i;")
        (headers / name).write_text(counting.replace("OPS", ops))
    (code,) = re.findall(r"```cpp\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    function = {"values": "predict", "embedding": "embed"}.get(meaning, "classify")
    program = code + C_PROGRAM.replace("FUNCTION", function).replace("NAME", "MODEL")
    model = tmp_path / "model.cc"
    shutil.copy(out / "model.c", model)
    printed = compiled(tmp_path, program, f"-I{out}", f"-I{tmp_path}", model, language="c++").decode().split()
    header = (out / "model.h").read_text()
    scale = float(re.search(r"OUTPUT_SCALE (\S+)f", header)[1])
    zero = int(re.search(r"OUTPUT_ZERO_POINT \((\S+)\)", header)[1])
    real = (np.arange(HEADS[meaning][0]) - zero) * scale
    expected = 1 / (1 + np.exp(-real)) if meaning in ("labels", "binary") else real
    np.testing.assert_allclose([float(word) for word in printed], expected, atol=2e-5 * max(1, np.abs(real).max()))
    names = (out / "model_labels.h").read_text()
    assert all(f'"{label}"' in names for label in HEADS[meaning][1] or ())
