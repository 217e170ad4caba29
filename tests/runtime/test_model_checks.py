"""What a model file is asked before this process opens it: sound files pass, and damaged ones end no process."""

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runtime_models as models

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.builder import schema
from mbn_deploy.runtime.backends import check_model, open_backend
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.runtime.backends.trial import try_model
from mbn_deploy.runtime.formats.flatbuffer import root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER

ROOT = Path(__file__).parents[2]
CONV, MEAN, DENSE, SOFTMAX = range(4)  # the operations of `runtime_models.graph`


class Editor:
    """Numbers of a .tflite file's first graph, changed in place."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.model = root(data, IDENTIFIER)
        self.graph = self.model.tables(2)[0]

    def operator(self, number):
        return self.graph.tables(3)[number]

    def tensor(self, operator, field, number):
        return self.graph.tables(0)[int(self.operator(operator).numbers(field, "i")[number])]

    def put(self, place, code, value):
        struct.pack_into(f"<{code}", self.data, place, value)
        return bytes(self.data)

    def element(self, table, field, number, value, code="i"):
        start, _ = table.vector(field, struct.calcsize(code))
        return self.put(start + struct.calcsize(code) * number, code, value)

    def length(self, table, field, value):
        return self.put(table.vector(field, 4)[0] - 4, "I", value)


def edit(make):
    return lambda data: make(Editor(data))


DAMAGE = {
    "an input that is missing": edit(lambda e: e.length(e.operator(CONV), 1, 2)),
    "an input that is marked as missing": edit(lambda e: e.element(e.operator(SOFTMAX), 1, 0, -1)),
    "two outputs in one tensor": edit(
        lambda e: e.element(e.operator(DENSE), 2, 0, int(e.operator(CONV).numbers(2, "i")[0]))
    ),
    "a result over a constant": edit(
        lambda e: e.element(e.operator(DENSE), 2, 0, int(e.operator(DENSE).numbers(1, "i")[1]))
    ),
    "an operation of another kind": edit(lambda e: e.element(e.operator(MEAN), 1, 1, 0)),
    "a filter of other channels": edit(lambda e: e.element(e.tensor(CONV, 1, 1), 0, 3, 2)),
    "a longer bias": edit(lambda e: e.element(e.tensor(CONV, 1, 2), 0, 0, 9)),
    "a stride of 0": edit(lambda e: e.put(e.operator(CONV).table(4).field_position(1), "i", 0)),
    "options of another operation": edit(lambda e: e.put(e.operator(CONV).field_position(3), "B", 9)),
    "an operation of later days": edit(lambda e: e.put(e.model.tables(1)[0].field_position(3), "i", 206)),
    "control flow": edit(lambda e: e.put(e.model.tables(1)[0].field_position(0), "b", 119)),
    "a string without end": edit(lambda e: e.length(e.graph, 4, 2)),
}


STRUCTURE = {
    "two outputs in one tensor": "is written to although something stands in it",
    "a result over a constant": "is written to although something stands in it",
    "a filter of other channels": "'c/kernel' of shape [8, 3, 3, 2] has 864 bytes",
    "a longer bias": "'c/bias' of shape [9] has 32 bytes",
    "a string without end": "has no end",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tflite_file_is_refused(damage):
    """Whatever finds it: the check of the structure, the interpreter, or the end of the process that tried the file."""
    with pytest.raises(InputError, match=r"m\.tflite: "):
        try_model(DAMAGE[damage](models.float_tflite()), "tflite", name="litert", where="m.tflite")


@pytest.mark.parametrize("damage", STRUCTURE)
def test_damage_of_the_structure_is_named(damage):
    with pytest.raises(InputError, match=rf"m\.tflite: .*{re.escape(STRUCTURE[damage])}"):
        check_model(DAMAGE[damage](models.float_tflite()), "tflite", "m.tflite")


def test_an_output_over_the_models_own_bytes_is_refused():
    """The interpreter reads constants where they stand in the file, and would write to them."""
    edited = Editor(models.float_tflite())
    kernel = edited.operator(CONV).numbers(1, "i")[1]
    data = edited.element(edited.operator(SOFTMAX), 2, 0, int(kernel))
    data = Editor(data).element(Editor(data).graph, 2, 0, int(kernel))
    with pytest.raises(InputError, match="something stands in it"):
        check_model(data, "tflite", "m.tflite")


def test_tables_that_are_named_again_and_again_end():
    """Each of many operators could name the same large table."""
    edited = Editor(models.float_tflite())
    start, _ = edited.graph.vector(0, 4)
    place = edited.graph.field_position(0)
    position = edited.graph.tables(0)[0].position
    count = 300_000
    at = len(edited.data) + -len(edited.data) % 4
    edited.data += bytes(at - len(edited.data)) + struct.pack("<I", count) + bytes(4 * count)
    assert start < position
    with pytest.raises(InputError, match="tables are named"):
        check_model(edited.put(place, "I", at - place), "tflite", "m.tflite")


def test_a_long_vector_that_many_tables_name_is_not_read_each_time():
    """Two thousand tensors with one list of a million scales: 4 MB that would be read as 8 GB."""
    from flatbuffers import Builder

    s, builder = schema(), Builder()
    shape = builder.CreateNumpyVector(np.array([10**6], np.int32))
    scales = builder.CreateNumpyVector(np.ones(10**6, np.float32))
    tensors = []
    for _ in range(2000):
        s.QuantizationParametersStart(builder)
        s.QuantizationParametersAddScale(builder, scales)
        quantization = s.QuantizationParametersEnd(builder)
        s.TensorStart(builder)
        s.TensorAddShape(builder, shape)
        s.TensorAddQuantization(builder, quantization)
        tensors.append(s.TensorEnd(builder))
    s.SubGraphStartTensorsVector(builder, len(tensors))
    for tensor in tensors:
        builder.PrependUOffsetTRelative(tensor)
    named = builder.EndVector()
    s.SubGraphStart(builder)
    s.SubGraphAddTensors(builder, named)
    graph = s.SubGraphEnd(builder)
    s.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    s.BufferStart(builder)
    empty = s.BufferEnd(builder)
    s.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(empty)
    buffers = builder.EndVector()
    s.ModelStart(builder)
    s.ModelAddVersion(builder, 3)
    s.ModelAddSubgraphs(builder, graphs)
    s.ModelAddBuffers(builder, buffers)
    builder.Finish(s.ModelEnd(builder), IDENTIFIER)
    with pytest.raises(InputError, match="again and again"):
        check_model(bytes(builder.Output()), "tflite", "m.tflite")


def onnx_of(change):
    import onnx

    model = onnx.load_from_string(models.float_onnx())
    change(model, onnx)
    return model.SerializeToString()


def _external(model, onnx):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def _external_within(model, onnx):
    hidden = onnx.helper.make_tensor("hidden", onnx.TensorProto.FLOAT, [1], [1.0])
    hidden.ClearField("float_data")
    hidden.data_location = onnx.TensorProto.EXTERNAL
    inner = onnx.helper.make_graph([], "inner", [], [], initializer=[hidden])
    model.graph.node.append(onnx.helper.make_node("If", [model.graph.input[0].name], ["z"], then_branch=inner))


def _attribute(name, values):
    def change(model, onnx):
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        del conv.attribute[:]
        conv.attribute.append(onnx.helper.make_attribute(name, values))

    return change


def _constant(value):
    return lambda model, onnx: model.graph.node.append(onnx.helper.make_node("Constant", [], ["z"], value=value))


def _listed(count, dims):
    """A constant whose values are listed one by one, not as bytes."""

    def change(model, onnx):
        tensor = model.graph.initializer.add()
        tensor.name, tensor.data_type = "listed", onnx.TensorProto.FLOAT
        tensor.dims.extend(dims)
        tensor.float_data.extend([0.5] * count)

    return change


def _amounts(model, onnx):
    shape = next(tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64)
    shape.raw_data = struct.pack("<2q", 2**20, 2**20)


def _wide(model, onnx):
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = 2**20


ONNX_STRUCTURE = {
    "data in another file": (_external, "the constant 'c/kernel' lies in another file"),
    "data in another file, of a constant in a branch": (_external_within, "'hidden' lies in another file"),
    "a constant that is too short": (
        lambda model, onnx: model.graph.initializer[0].dims.__setitem__(0, 2**20),
        "the constant 'c/kernel' of shape [1048576, 3, 3, 3] has 864 bytes",
    ),
    "a list that is too short": (_listed(3, [2, 2]), "the constant 'listed' of shape [2, 2] has 3 values"),
    "a constant of another type": (
        lambda model, onnx: setattr(model.graph.initializer[0], "data_type", 11),
        "the constant 'c/kernel' of shape [8, 3, 3, 3] has 864 bytes",
    ),
    "a negative shape": (
        lambda model, onnx: model.graph.initializer[0].dims.__setitem__(0, -1), "'c/kernel' has shape [-1, 3, 3, 3]"
    ),
}  # fmt: skip
ONNX_MEANING = {
    "an input of nowhere": lambda model, onnx: model.graph.node[0].input.__setitem__(0, "nowhere"),
    "a cycle": lambda model, onnx: model.graph.node[0].input.__setitem__(0, model.graph.node[-1].output[0]),
    "a value twice": lambda model, onnx: model.graph.node[-1].output.__setitem__(0, model.graph.node[0].output[0]),
    "a huge input": lambda model, onnx: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**40),
    "a large input": _wide,
    "endless padding": _attribute("pads", [2**40] * 4),
    "a stride of 0": _attribute("strides", [0, 0]),
    "a shape without end": _amounts,
    "somebody's own operations": lambda model, onnx: setattr(model.graph.node[0], "domain", "my.own"),
    "an output of nowhere": lambda model, onnx: setattr(model.graph.output[0], "name", "nowhere"),
}


@pytest.mark.parametrize("damage", ONNX_STRUCTURE)
def test_damage_of_an_onnx_file_is_named(damage):
    change, answer = ONNX_STRUCTURE[damage]
    with pytest.raises(InputError, match=rf"m\.onnx: .*{re.escape(answer)}"):
        check_model(onnx_of(change), "onnx", "m.onnx")


@pytest.mark.parametrize("damage", ONNX_MEANING)
def test_an_onnx_file_without_meaning_is_refused(damage):
    with pytest.raises(InputError, match=r"m\.onnx: "):
        try_model(onnx_of(ONNX_MEANING[damage]), "onnx", name="onnx", where="m.onnx")


def test_constants_may_be_listed_and_stand_in_an_attribute():
    import onnx

    check_model(onnx_of(_listed(4, [2, 2])), "onnx", "m.onnx")
    value = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [2], [0.5, 1])
    check_model(onnx_of(_constant(value)), "onnx", "m.onnx")
    value.dims[0] = 3
    with pytest.raises(InputError, match="has 2 values"):
        check_model(onnx_of(_constant(value)), "onnx", "m.onnx")


def test_a_file_that_onnx_runtime_saved_is_accepted(tmp_path):
    """Its optimizer, which its quantizer runs first, declares domains that nothing in the file is of."""
    import onnx

    onnxruntime = load_interpreter("onnx")

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    onnxruntime.InferenceSession(models.float_onnx(), options, providers=["CPUExecutionProvider"])
    saved = (tmp_path / "saved.onnx").read_bytes()
    assert len(onnx.load_from_string(saved).opset_import) > 3
    check_model(saved, "onnx", "saved.onnx")


def framed(number, data):
    """A field of protobuf that has a length below 16,384."""
    return bytes([number << 3 | 2, len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def onnx_with(constant):
    """ModelProto, GraphProto, TensorProto by hand: what no library writes."""
    return framed(7, framed(5, constant) + framed(1, b"") + framed(12, framed(1, b"y")))


@pytest.mark.parametrize(
    ("constant", "answer"),
    [
        (framed(2, b"\x01"), "field 2 of a constant is of another type"),
        (framed(1, bytes(5000)), "a list of 5000 bytes where a shape is expected"),
        (framed(1, b"\x02\x03") + b"\x10\x01" + framed(9, bytes(20)), "of shape [2, 3] has 20 bytes"),  # packed
        (framed(1, b"\x02") + b"\x10\x06" + b"\x28\x01", "of shape [2] has 1 values"),  # not packed
        (framed(1, b"\x02") + b"\x10\x06" + framed(5, b"\x80\x01\x02\x03"), "of shape [2] has 3 values"),
        (b"\x08" + b"\xff" * 12, "a number at byte"),
    ],
)
def test_constants_that_no_library_writes(constant, answer):
    with pytest.raises(InputError, match=re.escape(answer)):
        check_model(onnx_with(constant), "onnx", "m.onnx")


def test_fields_without_end():
    """Fields that nobody knows cost time, too."""
    with pytest.raises(InputError, match="more than 500000 fields"):
        check_model(b"\x78\x00" * 500_001, "onnx", "m.onnx")


def test_nested_messages_without_end():
    data = b""
    for _ in range(200):
        data = b"\x3a" + bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data
    with pytest.raises(InputError, match=r"m\.onnx"):
        check_model(data, "onnx", "m.onnx")


@pytest.mark.parametrize("make", [models.float_tflite, models.int8_tflite, models.float_onnx, models.int8_onnx])
def test_our_own_files_pass(make):
    check_model(make(), "tflite" if "tflite" in make.__name__ else "onnx", "m")


def test_every_file_of_an_export_passes(demo_bundles):
    files = [path for bundle in demo_bundles for path in bundle.glob("*.*") if path.suffix in (".tflite", ".onnx")]
    assert len(files) == 12
    for path in files:
        check_model(path.read_bytes(), path.suffix[1:], path.name)


@pytest.mark.shared
def test_published_files_pass():
    folder = ROOT.parent / "shared/models/published"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the checkout")
    for path in folder.glob("*.tflite"):
        check_model(path.read_bytes(), "tflite", path.name)


def test_a_file_that_a_manifest_vouches_for_is_not_checked_again():
    """The check and the interpreter have their own words for a string without an end."""
    data = DAMAGE["a string without end"](models.float_tflite())
    with pytest.raises(InputError, match="has no end"):
        open_backend(data, "tflite", threads=1)
    with pytest.raises(InputError, match="the interpreter does not accept it"):
        open_backend(data, "tflite", threads=1, vouched=True)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process for each file")
@pytest.mark.slow
def test_mutated_files_end_no_process(tmp_path):
    made = {"f.tflite": models.float_tflite(), "q.tflite": models.int8_tflite()}
    made |= {"f.onnx": models.float_onnx(), "q.onnx": models.int8_onnx()}
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, ROOT / "robustness/fuzz_models.py", *map(tmp_path.joinpath, made)]
    options = ["--count", "50", "--columns", "ours", "--json"]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    counts = [group["ours"] for group in json.loads(ran.stdout)["formats"].values()]
    assert sum(count["answer"] + count["error"] for count in counts) == 200
    assert all(min(count["answer"], count["error"]) > 0 for count in counts)


def test_the_same_seed_gives_the_same_damage(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "robustness"))
    from fuzz_mutations import KINDS, damaged

    path = tmp_path / "m.tflite"
    path.write_bytes(models.float_tflite())
    first = [damaged(path, [path], 3, number) for number in range(200)]
    assert first == [damaged(path, [path], 3, number) for number in range(200)]
    assert {kind for kind, _ in first} == {*(kind.__name__ for kind in KINDS), "splice"}
    assert np.mean([data != path.read_bytes() for _, data in first]) > 0.8  # a byte may be what it was
