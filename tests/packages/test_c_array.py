"""`bundle c-array`: real compilers take what is written, TensorFlow Lite Micro runs it in the arena that is stated."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import export_models as models
import numpy as np
import pytest
from c_programs import MICRO_STUBS, compiled, compiler
from cli_run import run
from runtime_models import edit_manifest

from mbn_deploy import export_model
from mbn_deploy.errors import MissingExtraError, UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.models.api import build
from mbn_deploy.packages.micro.c_source import identifier, identifier_of, string
from mbn_deploy.packages.micro.code import PIXEL_OFFSET, RESOLVERS
from mbn_deploy.packages.micro.package import without_conversions, write_c_array_package
from mbn_deploy.packages.micro.trial import ALIGNMENT, try_micro
from mbn_deploy.runtime import load_pixels
from mbn_deploy.runtime.backends import open_backend

SHARED = Path(__file__).resolve().parents[3] / "shared"
NASTY = ('quote " and \\', "trigraph ??/", "two\tcolumns", "ünï 猫", "*/ // ${x} %s")
tflm = pytest.importorskip("tflite_micro", reason="tflite-micro has no wheel for this machine", exc_type=ImportError)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("micro")
    pictures = models.write_pictures(root / "pictures")
    export_model(
        models.small_model("mobilenet_v1"), root / "bundle", preprocess=Preprocess.parse("tf"), name="Tiny Net-1",
        calibrate=pictures, labels=NASTY, formats=["tflite"], precisions=["int8", "float32"],
    )  # fmt: skip
    return root / "bundle"


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "package"
    result = run("bundle", "c-array", source, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)


DUMP = """
#include <stdio.h>
#include "NAME.h"
int main(void) { fwrite(NAME_model, 1, NAME_BYTES, stdout); return 0; }
"""
LABELS = """
#include <stdio.h>
#include "tiny_net_1_32_labels.h"
int main(void) {
  for (int i = 0; i < TINY_NET_1_32_CLASSES; ++i) puts(tiny_net_1_32_labels[i]);
  return 0;
}
"""
MAIN = """
#include "tiny_net_1_32_golden.h"
#include <stdio.h>
int main() {
  uint8_t rgb[TINY_NET_1_32_HEIGHT * TINY_NET_1_32_WIDTH * TINY_NET_1_32_CHANNELS] = {};
  rgb[5] = 200;
  tiny_net_1_32_resolver r;
  if (tiny_net_1_32_register(r) != kTfLiteOk) return 1;
  (void)tiny_net_1_32_labels;
  const size_t image = sizeof tiny_net_1_32_golden_input, answer = sizeof tiny_net_1_32_golden_output;
  printf("%d %u %zu %zu", classify(rgb), r.count, image, answer);
  return 0;
}
"""
ATTEMPT = """
import sys, numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=int(sys.argv[2]))
interpreter.set_input(np.zeros((1, 32, 32, 3), np.int8), 0)
interpreter.invoke()
"""


@compiler
@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_array_is_the_file(made, tmp_path, language):
    out, facts = made
    code = DUMP.replace("NAME_BYTES", "TINY_NET_1_32_MODEL_BYTES").replace("NAME", "tiny_net_1_32")
    source = out / "tiny_net_1_32.c"
    data = compiled(tmp_path, code, f"-I{out}", "-x", language, source, language=language)
    assert len(data) == facts["model_bytes"]
    assert open_backend(data, "tflite").input.dtype == "int8"


@compiler
def test_labels_are_the_bytes_they_were(made, tmp_path):
    out, _ = made
    assert compiled(tmp_path, LABELS, f"-I{out}").decode().splitlines() == list(NASTY)


@compiler
def test_the_readme_compiles_and_registers_what_there_is(made, tmp_path):
    """Against declarations with the signatures of tflite-micro's headers, whose package holds none."""
    out, facts = made
    headers = tmp_path / "tensorflow/lite/micro"
    headers.mkdir(parents=True)
    for name, text in MICRO_STUBS.items():
        ops = "\n".join(f"OP({name})" for name in RESOLVERS.values())
        (headers / name).write_text(text.replace("OPS", ops))
    (code,) = re.findall(r"```cpp\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    model = tmp_path / "model.cc"
    shutil.copy(out / "tiny_net_1_32.c", model)
    printed = compiled(tmp_path, code + MAIN, f"-I{out}", f"-I{tmp_path}", model, language="c++").decode()
    assert printed == f"3 {len(facts['operators'])} {32 * 32 * 3} 5"


def arrays(path):
    """Every int8 array of a header."""
    found = re.findall(r"\[[^\]]*\] = \{(.*?)\};", path.read_text(), re.DOTALL)
    return [np.array([int(word) for word in text.replace(",", " ").split()], np.int16) for text in found]


def test_the_arena_is_the_least_that_works(source, made):
    out, facts = made
    data = without_conversions((source / facts["source"]).read_bytes(), "m")
    image, answer = arrays(out / "tiny_net_1_32_golden.h")
    inputs = image.astype(np.int8).reshape(1, 32, 32, 3)
    found = try_micro(data, inputs, "m")
    assert found.arena == facts["arena"]
    assert found.arena % ALIGNMENT == 0
    np.testing.assert_array_equal(found.outputs[0], answer)
    model = out.parent / "model.tflite"
    model.write_bytes(data)
    for arena, works in ((found.arena, True), (found.arena - ALIGNMENT, False)):
        words = [sys.executable, "-c", ATTEMPT, str(model), str(arena)]
        assert (subprocess.run(words, capture_output=True, check=False).returncode == 0) == works


def test_what_is_said_is_what_is_there(source, made):
    out, facts = made
    assert {path.name for path in out.iterdir()} == {*facts["files"], "package.json"}
    assert facts["operators"] == ["CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "RESHAPE", "SOFTMAX"]
    assert "QUANTIZE" not in (out / "README.md").read_text()
    assert facts["differs"] <= 8
    assert b"mbn_deploy" not in without_conversions((source / facts["source"]).read_bytes(), "m"), "metadata cost flash"


def test_nothing_of_the_interpreter_is_on_the_screen(source, tmp_path):
    code = "from mbn_deploy.cli.main import main; main()"
    command = [sys.executable, "-c", code, "bundle", "c-array", source, "-o", tmp_path / "p", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr == ""


def test_the_screen(source, tmp_path):
    result = run("bundle", "c-array", source, "-o", tmp_path / "p", "--name", "flowers")
    assert result.exit_code == 0, result.stderr
    assert "in flash, arena" in result.stdout
    assert (tmp_path / "p" / "flowers.c").is_file()
    assert (tmp_path / "p.tar.gz").is_file()


@pytest.mark.parametrize("name", ["int", "9lives", "Über", "a b", "", "_x", "a-b", "x;y"])
def test_names_that_c_does_not_take(source, tmp_path, name):
    result = run("bundle", "c-array", source, "-o", tmp_path / "p", "--name", name)
    assert result.exit_code == 2
    assert "cannot be a C name" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_bundle_without_int8(tmp_path):
    export_model(models.small_model(), tmp_path / "b", preprocess=Preprocess.parse("tf"), precisions=["float32"])
    result = run("bundle", "c-array", tmp_path / "b", "-o", tmp_path / "p")
    assert result.exit_code == 2
    assert "needs tflite/int8" in result.stderr
    assert not (tmp_path / "p").exists()


def test_a_bundle_of_batches(source, tmp_path):
    batches = shutil.copytree(source, tmp_path / "b")
    edit_manifest(batches, lambda data: [file["input"]["shape"].__setitem__(0, 4) for file in data["files"]])
    with pytest.raises(UsageError, match="--batch 1"):
        write_c_array_package(batches, tmp_path / "p")


def test_without_the_package(source, tmp_path, monkeypatch):
    monkeypatch.setattr("mbn_deploy.packages.micro.trial.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mbn-deploy\[micro\]'"):
        write_c_array_package(source, tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_any_text_is_one_c_string():
    assert string('a"b\\c?\n1é') == '"a\\"b\\134c\\077\\0121\\303\\251"'.replace('\\"', "\\042")
    assert identifier_of("MobileNet V1 0.25/96") == "mobilenet_v1_0_25_96"
    assert identifier_of("96 px") == "model_96_px"
    assert identifier_of("int") == "model_int"
    assert identifier(identifier_of("猫")) == "model"
    with pytest.raises(UsageError):
        identifier("class")


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models and photographs are not beside the checkout")
def test_a_real_network_of_96_pixels(tmp_path):
    """V1 0.25 as microcontrollers run it, on 50 photographs: level for level what TFLite's own kernels answer.

    XNNPACK rounds in another way and is further off: see the command's own words.
    """
    images = SHARED / "imagenet"
    weights = SHARED / "models/float/mobilenet_v1_0.25_224.h5"
    export_model(build("mobilenet_v1", alpha=0.25, size=96, weights=weights), tmp_path / "b", formats=["tflite"],
           precisions=["int8"], calibrate=images / "calibration", labels=images / "labels.txt")  # fmt: skip
    result = run("bundle", "c-array", tmp_path / "b", "-o", tmp_path / "p", "--json")
    facts = json.loads(result.stdout)
    assert 100_000 < facts["arena"] < 150_000
    (entry,) = (tmp_path / "b").glob("*.tflite")
    data, paths = without_conversions(entry.read_bytes(), "m"), sorted((images / "validation").glob("*/*.jpg"))[::14]
    assert len(paths) == 50
    pixels = np.stack([load_pixels(path, (96, 96), Preprocess(resize="squash")) for path in paths])
    inputs = (pixels.astype(np.int16) - PIXEL_OFFSET).astype(np.int8)
    theirs = try_micro(data, inputs, "m").outputs.astype(np.int16)
    assert np.abs(theirs - _built_in(data, inputs)).max() <= 1


def _built_in(data, inputs):
    """What the kernels of TFLite answer, without XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for image in inputs:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(result["index"])[0].astype(np.int16))
    return np.stack(answers)
