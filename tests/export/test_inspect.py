"""Reading model files back: what they are entitled to be called, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_graphs import GRAPHS
from op_graphs import INPUT, conv, graph_of, op, quantized, rand

from mbn_deploy.errors import InputError
from mbn_deploy.export.inspect import inspect_file
from mbn_deploy.export.onnx.inspect import report_onnx
from mbn_deploy.export.onnx.qdq import write_onnx_int8
from mbn_deploy.export.onnx.writer import write_onnx
from mbn_deploy.export.tflite.builder import FILE_IDENTIFIER, ModelBuilder, schema
from mbn_deploy.export.tflite.delegate import probe_delegate
from mbn_deploy.export.tflite.inspect import report_tflite
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8
from mbn_deploy.graph.quantized import QuantizedGraph, QuantParams
from mbn_deploy.manifest import DESCRIPTION_KEY, Description, Preprocess
from mbn_deploy.runtime.backends.modules import load_part

SHARED = Path(__file__).parents[3] / "shared"
PUBLISHED = SHARED / "models" / "published"
# Large enough for dynamic-range weights, with a ReLU6 and a head.
GRAPH = graph_of(
    conv("c", "x", rand(3, 3, 4, 32), (1, 12, 11, 32), pads=(1, 1, 1, 1), activation="relu6"),
    op("global_average_pool", "g", "c", shape=(1, 32)),
    op("dense", "d", "g", shape=(1, 5), kernel=rand(32, 5), bias=rand(5)),
    op("softmax", "s", "d", shape=(1, 5)),
)
PARAMETERS = 3 * 3 * 4 * 32 + 32 + 32 * 5 + 5


@pytest.fixture(scope="module")
def made():
    return quantized(GRAPH, rand(*INPUT) * 8)


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic"])
def test_float_tflite_is_called_what_it_is(precision):
    report = report_tflite(write_tflite(GRAPH, precision), "m.tflite")
    assert (report.precision, report.all_integer, report.parameters) == (precision, False, PARAMETERS)
    assert report.inputs[0].shape == INPUT
    assert report.signatures == ("serving_default",)
    assert not report.relu6
    assert report.ops[-1].kind == "SOFTMAX"


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_int8_tflite_is_integer_but_for_its_ends(made, dtype):
    report = report_tflite(write_tflite_int8(made, input_dtype=dtype), "m.tflite")
    assert (report.precision, report.all_integer, report.parameters) == ("int8", True, PARAMETERS)
    assert report.inputs[0].dtype == report.outputs[0].dtype == dtype
    convolution = next(o for o in report.ops if o.kind == "CONV_2D")
    assert (convolution.name, convolution.activation) == ("c", "relu6")
    assert [(t.dtype, t.channels) for t in convolution.constants] == [("int8", 32), ("int32", 32)]
    assert convolution.inputs[0].scale == pytest.approx(made.activations["x"].scale)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("file", ["tflite", "onnx"])
def test_relu6_shows_whether_its_range_is_clean(made, dtype, file):
    for scale, clean in ((6 / 255, True), (5.5 / 255, False)):
        params = QuantParams(float(np.float32(scale)), -128)
        changed = QuantizedGraph(made.graph, made.activations | {"c": params}, made.weights)
        report = (
            report_tflite(write_tflite_int8(changed, input_dtype=dtype), "m")
            if file == "tflite"
            else report_onnx(write_onnx_int8(changed, activation_dtype=dtype), "m")
        )
        (found,) = report.relu6
        assert (found.tensor, found.clean) == ("c", clean)
        assert found.high == pytest.approx(255 * scale)


def test_an_integer_graph_with_a_float_island_is_mixed():
    build = ModelBuilder("island")
    integer = {"shape": (1, 4), "dtype": "int8", "scale": [0.1]}
    source, after = build.tensor("x", **integer), build.tensor("a", **integer)
    real, active = build.tensor("real", (1, 4), "float32"), build.tensor("active", (1, 4), "float32")
    back, result = build.tensor("back", **integer), build.tensor("y", **integer)
    build.operator("RELU", [source], [after])
    build.operator("DEQUANTIZE", [after], [real])
    build.operator("TANH", [real], [active])
    build.operator("QUANTIZE", [active], [back])
    build.operator("RELU", [back], [result])
    report = report_tflite(build.finish({"x": source}, {"y": result}, {}, ""), "island.tflite")
    assert not report.all_integer
    assert [o.kind for o in report.ops if not o.integer] == ["DEQUANTIZE", "TANH", "QUANTIZE"]
    assert report.float_islands is None  # no layer with weights is integer here: not an integer network


def test_what_lies_outside_and_what_it_costs(made, tmp_path):
    graph = graph_of(
        conv("c", "x", rand(1, 1, 4, 4), INPUT),
        op("hard_swish", "h", "c", shape=INPUT),
        conv("e", "h", rand(1, 1, 4, 4), INPUT),
    )
    path = tmp_path / "split.tflite"
    path.write_bytes(write_tflite_int8(quantized(graph, rand(*INPUT)), input_dtype="int8"))
    report = inspect_file(path, delegate=True)
    size = int(np.prod(INPUT))
    assert [o.macs for o in report.ops if o.constants] == [size * 4, size * 4]
    outside = report.outside_delegate
    assert (outside.macs, outside.ops) == (0.0, ("h",))
    assert outside.values == pytest.approx(1 / 3)
    assert report.to_dict()["outside_delegate"]["ops"] == ("h",)
    assert report.to_dict()["float_islands"] is None
    onnx_report = report_onnx(write_onnx_int8(made), "m.onnx")
    (convolution,) = (o for o in onnx_report.ops if o.kind == "Conv")
    assert convolution.macs == 12 * 11 * 32 * 3 * 3 * 4
    assert next(o for o in onnx_report.ops if o.kind == "Gemm").macs == 32 * 5


def test_a_float_island_has_its_share(made):
    changed = QuantizedGraph(made.graph, made.activations, made.weights, frozenset({"g", "d"}))
    for report in (report_tflite(write_tflite_int8(changed), "m"), report_onnx(write_onnx_int8(changed), "m")):
        islands = report.float_islands
        assert islands.macs == pytest.approx(160 / (160 + 12 * 11 * 32 * 36))
        assert "d" in islands.ops
        assert not any("QUANTIZE" in name for name in islands.ops)


def edited(data, change):
    """A .tflite file after `change` of its model object."""
    import flatbuffers

    model = schema().ModelT.InitFromPackedBuf(bytearray(data))
    change(model)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


@pytest.mark.parametrize(("name", "select", "custom"), [("FlexErf", ("FlexErf",), ()), ("Mine", (), ("Mine",))])
def test_foreign_ops_are_named_and_never_integer(made, name, select, custom):
    def change(model):
        code = next(c for c in model.operatorCodes if c.builtinCode == schema().BuiltinOperator.SOFTMAX)
        code.builtinCode = code.deprecatedBuiltinCode = schema().BuiltinOperator.CUSTOM
        code.customCode = name

    report = report_tflite(edited(write_tflite_int8(made), change), "m.tflite")
    assert (report.select_tf_ops, report.custom_ops, report.all_integer) == (select, custom, False)
    assert name in report.counts


def test_leftovers_of_a_dynamic_batch_are_found():
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten(), keras.layers.Dense(2)])
    function = tf.function(model, input_signature=[tf.TensorSpec((None, 4, 4, 2), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    found = report_tflite(converter.convert(), "plain.tflite").dynamic_leftovers
    assert found[0].startswith("input ")
    assert {entry.split()[0] for entry in found} >= {"SHAPE", "STRIDED_SLICE", "PACK"}
    assert report_tflite(write_tflite(GRAPH, "float32"), "ours").dynamic_leftovers == ()


def test_float_onnx():
    report = report_onnx(write_onnx(GRAPH, layout="nhwc"), "m.onnx")
    assert (report.precision, report.all_integer, report.parameters) == ("float32", False, PARAMETERS)
    assert report.producer.startswith("mbn-deploy ")
    assert report.inputs[0].shape == INPUT
    assert report.counts["Transpose"] == 1
    assert [(o.name, o.kind) for o in report.ops if o.constants] == [("c", "Conv"), ("d", "Gemm")]
    clip = next(o for o in report.ops if o.kind == "Clip")
    assert (clip.activation, clip.constants) == ("relu6", ())


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_qdq_onnx_is_read_as_runtimes_see_it(made, layout, dtype):
    report = report_onnx(write_onnx_int8(made, input_dtype=dtype, layout=layout), "m.onnx")
    assert (report.precision, report.all_integer, report.parameters) == ("int8", True, PARAMETERS)
    convolution = next(o for o in report.ops if o.kind == "Conv")
    assert (convolution.name, convolution.activation, convolution.outputs[0].name) == ("c", "relu6", "c")
    assert [(t.dtype, t.channels) for t in convolution.constants] == [("int8", 32), ("int32", 32)]
    assert convolution.outputs[0].zero_point == 0
    if dtype != "float32":
        assert report.inputs[0].scale == pytest.approx(made.activations["x"].scale)


def test_a_float_op_in_qdq_clothes_is_not_integer(made):
    model = onnx.load_from_string(write_onnx_int8(made))
    pool = next(n for n in model.graph.node if n.op_type == "GlobalAveragePool")
    pool.op_type = "GlobalMaxPool"  # ONNX Runtime has no integer kernel for it
    report = report_onnx(model.SerializeToString(), "m.onnx")
    assert (report.precision, report.all_integer) == ("int8-mixed", False)
    assert [o.kind for o in report.ops if not o.integer] == ["GlobalMaxPool"]


def test_files_of_onnxruntimes_own_quantizer(tmp_path):
    quantization = load_part("onnx", "quantization")

    class Reader:
        def __init__(self):
            self.rows = iter([{"x": rand(1, 4, 12, 11) * 8} for _ in range(3)])

        def get_next(self):
            return next(self.rows, None)

    for activation, name in ((GRAPH, "relu6"), (GRAPHS["hard_swish"], "hard_swish")):
        source, target = tmp_path / f"{name}.onnx", tmp_path / f"{name}_int8.onnx"
        source.write_bytes(write_onnx(activation))
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            per_channel=True,
        )
    report = inspect_file(tmp_path / "relu6_int8.onnx")
    assert report.all_integer
    assert report.ops[0].outputs[0].scale is not None
    assert not inspect_file(tmp_path / "hard_swish_int8.onnx").all_integer


def test_description_comes_back(made, tmp_path):
    said = Description("m", "int8", "softmax", Preprocess(), labels=("a", "b", "c", "d", "é"))
    text = said.to_json()
    files = {
        "m.tflite": write_tflite_int8(made, metadata={DESCRIPTION_KEY: text.encode()}),
        "m.onnx": write_onnx_int8(made, metadata={DESCRIPTION_KEY: text}),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        report = inspect_file(tmp_path / name)
        assert report.description == said
        assert DESCRIPTION_KEY in report.metadata
        assert report.size == len(data)
        assert json.loads(report.to_json())["description"]["labels"][-1] == "é"
        assert json.loads(report.to_json())["relu6"][0]["tensor"] == "c"


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m.bin"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not a model at all", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_model_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        inspect_file(tmp_path / name)


def test_unreadable_paths_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with pytest.raises(InputError, match=re.escape(str(path))):
            inspect_file(path)


@pytest.mark.parametrize("file", ["tflite", "onnx"])
def test_damage_is_an_input_error_or_harmless(made, file):
    data, read = (write_tflite_int8(made), report_tflite) if file == "tflite" else (write_onnx_int8(made), report_onnx)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for at in rng.integers(len(data), size=rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        try:
            read(bytes(damaged), "m")
        except InputError:
            refused += 1
    assert refused > 40
    for length in range(0, len(data), 97):
        with pytest.raises(InputError):
            read(data[:length], "m")


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0, -1])
def test_a_scale_that_is_no_positive_number(made, scale):
    model = onnx.load_from_string(write_onnx_int8(made))
    tensor = next(t for t in model.graph.initializer if t.name.endswith("/scale") and not t.dims)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(scale, np.float32), tensor.name))
    with pytest.raises(InputError, match=r"m: .*scale"):
        report_onnx(model.SerializeToString(), "m")


def test_no_module_of_the_folder_one_stands_in_is_run(made, tmp_path, monkeypatch):
    """A download folder may hold anything, an `ai_edge_litert.py`, too."""
    (tmp_path / "ai_edge_litert.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.tflite"
    path.write_bytes(write_tflite_int8(made))
    assert probe_delegate(path).error is None


def test_delegate_partitions(made, tmp_path):
    whole, split = tmp_path / "whole.tflite", tmp_path / "split.tflite"
    whole.write_bytes(write_tflite_int8(made, input_dtype="int8"))
    found = inspect_file(whole, delegate=True).delegate
    assert (found.partitions, found.error) == (1, None)
    graph = graph_of(
        conv("c", "x", rand(1, 1, 4, 4), INPUT),
        op("hard_swish", "h", "c", shape=INPUT),
        conv("e", "h", rand(1, 1, 4, 4), INPUT),
    )
    split.write_bytes(write_tflite_int8(quantized(graph, rand(*INPUT)), input_dtype="int8"))
    found = probe_delegate(split)
    # int8 HARD_SWISH is an op that XNNPACK leaves to the interpreter.
    assert (found.partitions, found.outside, found.error) == (2, ("HARD_SWISH",), None)


def test_a_file_that_the_interpreter_refuses(made, tmp_path):
    def change(model):
        code = next(c for c in model.operatorCodes if c.builtinCode == schema().BuiltinOperator.SOFTMAX)
        code.builtinCode = code.deprecatedBuiltinCode = schema().BuiltinOperator.CUSTOM
        code.customCode = "Unknown"

    (tmp_path / "m.tflite").write_bytes(edited(write_tflite_int8(made), change))
    found = inspect_file(tmp_path / "m.tflite", delegate=True).delegate
    assert "Unknown" in found.error


@pytest.mark.shared
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no ../shared/models/published")
@pytest.mark.parametrize(
    ("name", "precision", "classes"),
    [
        ("mobilenet_v1_0.25_128_quant.tflite", "int8", 1001),
        ("mobilenet_v1_0.25_224_float_with_metadata.tflite", "float32", 1001),
        ("mobilenet_v2_1.0_224_quant.tflite", "int8", 1001),
        ("mobilenet_v3_small_1.0_224_uint8.tflite", "int8", 1001),
        ("mlc_vww_96_int8.tflite", "int8", 2),
    ],
)
def test_published_files(name, precision, classes):
    report = inspect_file(PUBLISHED / name, delegate=True)
    assert (report.precision, report.outputs[0].shape[-1]) == (precision, classes)
    assert report.delegate.error is None
    assert all(item.clean for item in report.relu6)
    assert bool(report.relu6) == name.endswith("_quant.tflite")


def test_an_onnx_file_is_read_in_a_child_process_first(tmp_path, monkeypatch):
    """Where that process crashes, this one does not read the file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code = (
        "import sys, os; sys.path[:] = sys.argv[1:]; import mbn_deploy.export.onnx.inspect as inspect; "
        "inspect.load_onnx = lambda *_: os.abort(); from mbn_deploy.runtime.system.child import main; main()"
    )
    monkeypatch.setattr("mbn_deploy.runtime.system.child._CODE", code)
    data = write_onnx(GRAPH)
    (tmp_path / "m.onnx").write_bytes(data + b"\x1a\x00")  # with a producer_version: bytes that nobody has tried yet
    with pytest.raises(InputError, match=r"m\.onnx: .*crashed \(signal SIGABRT"):
        inspect_file(tmp_path / "m.onnx")


def test_an_onnx_file_is_checked_before_c_reads_it(tmp_path):
    """What `run` refuses, before onnx' own checker and inference of shapes see it."""
    model = onnx.load_from_string(write_onnx(GRAPH))
    model.graph.initializer[0].dims[0] = 2**40
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"m\.onnx: .*1099511627776"):
        inspect_file(tmp_path / "m.onnx")
