"""Every interpreter behind the same protocol, with real files."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import runtime_models as models
from tflite_files import OPS, written

from mbn_deploy.errors import InputError, MissingExtraError, UnknownNameError, UsageError
from mbn_deploy.runtime import backends
from mbn_deploy.runtime.backends import BACKENDS, choose_backend, default_threads, open_backend
from mbn_deploy.runtime.preprocess import normalize

FILES = {
    ("litert", "float32"): ("tflite", models.float_tflite),
    ("litert", "uint8"): ("tflite", models.int8_tflite),
    ("litert", "int8"): ("tflite", lambda: models.int8_tflite("int8")),
    ("onnx", "float32"): ("onnx", lambda: models.float_onnx("nhwc")),
    ("onnx", "uint8"): ("onnx", models.int8_onnx),
}
CASES = pytest.mark.parametrize("case", FILES, ids="-".join)


def opened(case, **options):
    file_format, make = FILES[case]
    return open_backend(make(), file_format, name=case[0], **options)


def tensor(backend, index=0):
    pixels = models.pictures()[index : index + 1]
    if backend.input.dtype == "float32":
        return normalize(pixels, models.TF)
    return pixels if backend.input.dtype == "uint8" else (pixels.astype(int) - 128).astype(np.int8)


@CASES
def test_facts(case):
    backend = opened(case, threads=1)
    assert (backend.name, backend.input.dtype, backend.threads) == (*case, 1)
    assert backend.input.shape == (1, *models.SIZE, 3)
    assert backend.output.shape == (1, models.CLASSES)
    assert b'"model": "tiny"' in backend.metadata["mbn_deploy"]
    if case[0] == "litert" and case[1] != "float32":
        assert backend.input.scale == 1 / 128
        assert backend.input.zero_point == (128 if case[1] == "uint8" else 0)
        assert backend.output.scale is not None


@CASES
def test_results_are_copies(case):
    backend = opened(case, threads=1)
    first = backend.run(tensor(backend, 0))
    kept = first.copy()
    second = backend.run(tensor(backend, 1))
    assert (first == kept).all()
    assert (first != second).any()
    first[:] = 0  # and writable
    assert (backend.run(tensor(backend, 0)) == kept).all()


@CASES
def test_threads_do_not_change_the_answer(case):
    one, two = opened(case, threads=1), opened(case, threads=2)
    for index in range(5):
        np.testing.assert_allclose(one.run(tensor(one, index)), two.run(tensor(two, index)), atol=1e-6)


@CASES
def test_other_shapes_and_types_are_refused(case):
    backend = opened(case)
    good = tensor(backend)
    for bad in (good[0], good[:, :5], np.concatenate([good, good]), good.astype(np.float64)):
        with pytest.raises(UsageError, match=re.escape(f"{bad.dtype} of shape {bad.shape}")):
            backend.run(bad)


@CASES
def test_tensors_that_do_not_lie_in_a_row(case):
    backend = opened(case)
    good = tensor(backend)
    scattered = np.asfortranarray(good)
    assert (backend.run(scattered) == backend.run(good)).all()


@CASES
def test_from_a_path(case, tmp_path):
    file_format, make = FILES[case]
    path = tmp_path / f"m.{file_format}"
    path.write_bytes(make())
    backend = open_backend(path, file_format, name=case[0], threads=1)
    assert (backend.run(tensor(backend)) == opened(case, threads=1).run(tensor(backend))).all()
    backend.close()


def test_nchw_onnx_equals_nhwc():
    nchw, nhwc = open_backend(models.float_onnx("nchw"), "onnx"), open_backend(models.float_onnx("nhwc"), "onnx")
    x = tensor(nhwc)
    moved = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(nchw.run(moved), nhwc.run(x), atol=1e-6)


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_damaged_files_are_input_errors(file_format, tmp_path):
    data = {"tflite": models.float_tflite, "onnx": models.float_onnx}[file_format]()
    path = tmp_path / f"cut.{file_format}"
    for part in (b"", b"text", data[:100], data[: len(data) // 2], bytes(len(data))):
        path.write_bytes(part)
        with pytest.raises(InputError, match=rf"cut\.{file_format}"):
            open_backend(path, file_format)
    with pytest.raises(InputError, match="missing"):
        open_backend(tmp_path / "missing", file_format)


FUZZ = """
import sys, numpy as np
from mbn_deploy.errors import MbnError
from mbn_deploy.runtime.backends import open_backend
data, kind = open(sys.argv[1], "rb").read(), sys.argv[2]
rng = np.random.default_rng(0)
refused = 0
for _ in range(150):
    try:
        open_backend(data[: rng.integers(0, len(data))], kind, threads=1)
    except MbnError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_no_truncation_ends_the_process(file_format, tmp_path):
    path = tmp_path / "whole"
    path.write_bytes({"tflite": models.float_tflite, "onnx": models.float_onnx}[file_format]())
    run = subprocess.run([sys.executable, "-c", FUZZ, path, file_format], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    # A protobuf may end before its last entries and still be one; a .tflite has its tables at the front.
    assert int(run.stdout) >= {"tflite": 150, "onnx": 100}[file_format]


def test_a_model_with_two_outputs_is_no_classifier():
    from mbn_deploy.export.onnx.writer import write_onnx

    with pytest.raises(InputError, match="2 outputs"):
        open_backend(write_onnx(models.graph(), extra_outputs=["c"]), "onnx")


def foreign_onnx(inputs):
    """One operation of ONNX on inputs given as (name, element type, shape)."""
    from onnx import TensorProto, helper

    names = [name for name, *_ in inputs]
    infos = [helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape) for name, kind, shape in inputs]
    output = helper.make_tensor_value_info("y", infos[0].type.tensor_type.elem_type, inputs[0][2])
    node = helper.make_node("Add" if len(names) == 2 else "Identity", names, ["y"])
    made = helper.make_model(
        helper.make_graph([node], "g", infos, [output]), ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    )
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([("x", "FLOAT", [1, 4, 4, 3]), ("more", "FLOAT", [1, 4, 4, 3])], r"x, more"),
        ([("x", "INT64", [1, 4])], r"'x'.*int64"),
        ([("x", "FLOAT", ["n", "h", "w", 3])], r"'x'.*'h'"),
        ([("x", "FLOAT", [])], r"'x'.*\(\)"),
    ],
)
def test_onnx_files_that_no_picture_fits(inputs, said):
    with pytest.raises(InputError, match=said):
        open_backend(foreign_onnx(inputs), "onnx")


def _open_side(model, _):
    model.subgraphs[0].tensors[0].shapeSignature = [1, -1, 6, 4]


def _scaled_by_channel(model, schema):
    made = model.subgraphs[0].tensors[0].quantization = schema.QuantizationParametersT()
    made.scale, made.zeroPoint, made.quantizedDimension = [0.1, 0.2, 0.3, 0.4], [0] * 4, 3


PACK, NOTHING = OPS["pack"], lambda *_: None
TWO_INPUTS = replace(PACK, inputs=(PACK.inputs[0], replace(PACK.inputs[0])))


@pytest.mark.parametrize(
    ("operation", "change", "said"),
    [
        (TWO_INPUTS, NOTHING, r"t0, t1"),
        (OPS["relu"], _open_side, "'t0'.*size"),
        (OPS["quantize"], _scaled_by_channel, "'t0'.*scale"),
    ],
    ids=["inputs", "size", "scales"],
)
def test_tflite_files_that_no_picture_fits(operation, change, said):
    data = written(operation, change)
    with pytest.raises(InputError, match=rf"^m\.tflite.*{said}"):
        open_backend(data, "tflite", threads=1, vouched=True, where="m.tflite")


def test_an_open_batch_is_one():
    opened = open_backend(foreign_onnx([("x", "FLOAT", ["n", 2])]), "onnx")
    assert opened.input.shape == (1, 2)
    np.testing.assert_array_equal(opened.run(np.float32([[3, 4]])), [[3, 4]])


def test_choosing():
    assert choose_backend("tflite") == "litert"
    assert choose_backend("tflite", "tflite") == "tflite"
    with pytest.raises(UnknownNameError, match="litert"):
        choose_backend("tflite", "litrt")
    with pytest.raises(UsageError, match=r"onnx.*\.tflite"):
        choose_backend("tflite", "onnx")
    with pytest.raises(UsageError, match="0"):
        open_backend(models.float_tflite(), "tflite", threads=0)


def test_what_is_not_installed_has_an_install_line(monkeypatch):
    monkeypatch.setattr(backends, "installed", lambda name: name == "tflite")
    assert choose_backend("tflite") == "tflite"
    with pytest.raises(MissingExtraError, match=r"pip install 'mbn-deploy\[onnx\]'"):
        choose_backend("onnx")
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mbn-deploy\[litert\]'"):
        open_backend(models.float_tflite(), "tflite", name="litert")
    with pytest.raises(MissingExtraError, match=r"pip install 'mbn-deploy\[onnx\]'"):
        open_backend(models.float_onnx(), "onnx")


@pytest.mark.skipif(find_spec("tflite_runtime") is not None, reason="tflite-runtime is installed here")
def test_tflite_runtime_missing_has_an_install_line():
    with pytest.raises(MissingExtraError, match=r"pip install 'mbn-deploy\[tflite\]'"):
        open_backend(models.float_tflite(), "tflite", name="tflite")


@pytest.mark.skipif(
    find_spec("tflite_runtime") is None or np.__version__ >= "2", reason="needs tflite-runtime and numpy below 2"
)
@pytest.mark.parametrize("make", [models.float_tflite, models.int8_tflite])
def test_tflite_runtime(make):
    ours, theirs = open_backend(make(), "tflite", name="litert"), open_backend(make(), "tflite", name="tflite")
    x = tensor(ours)
    np.testing.assert_allclose(ours.run(x), theirs.run(x), atol=1 if ours.output.scale else 1e-5)


def test_default_threads(monkeypatch):
    monkeypatch.setattr(backends, "usable_processors", lambda: 64)
    assert default_threads() == 4
    monkeypatch.setattr(backends, "usable_processors", lambda: 1)
    assert default_threads() == 1
    assert set(BACKENDS) == {"tflite", "onnx"}


LAZY = """
import sys
import mbn_deploy.runtime
seen = set(sys.modules)
assert not seen & {"PIL", "numpy"}, seen & {"PIL", "numpy"}
from mbn_deploy.runtime import Classifier, load_pixels
heavy = {"tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime", "typer", "rich"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
c = Classifier.open(sys.argv[1])
heavy -= {"ai_edge_litert"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_imports_are_lazy_and_light(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(models.float_tflite())
    run = subprocess.run([sys.executable, "-c", LAZY, path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
