"""What a model file is asked before an interpreter sees it: sound files pass, and damaged ones end no process."""

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
from mbn_deploy.runtime.backends import check_model, open_backend
from mbn_deploy.runtime.backends.modules import load_interpreter
from mbn_deploy.runtime.formats.flatbuffer import root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER
from mbn_deploy.runtime.untrusted.tflite_schema import NAMES, OPERATIONS

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
    "a larger input": edit(lambda e: e.element(e.tensor(CONV, 1, 0), 0, 1, 40000)),
    "a filter of other channels": edit(lambda e: e.element(e.tensor(CONV, 1, 1), 0, 3, 2)),
    "a longer bias": edit(lambda e: e.element(e.tensor(CONV, 1, 2), 0, 0, 9)),
    "another output": edit(lambda e: e.element(e.tensor(CONV, 2, 0), 0, 1, 3)),
    "a stride of 0": edit(lambda e: e.put(e.operator(CONV).table(4).field_position(1), "i", 0)),
    "a stride without end": edit(lambda e: e.put(e.operator(CONV).table(4).field_position(1), "i", 2**31 - 1)),
    "options of another operation": edit(lambda e: e.put(e.operator(CONV).field_position(3), "B", 9)),
    "an operation of later days": edit(lambda e: e.put(e.model.tables(1)[0].field_position(3), "i", 206)),
    "control flow": edit(lambda e: e.put(e.model.tables(1)[0].field_position(0), "b", 119)),
    "a string without end": edit(lambda e: e.length(e.graph, 4, 2)),
}


TFLITE_ANSWERS = {
    "an input that is missing": "CONV_2D has 2 of 2 inputs",
    "an input that is marked as missing": "RESHAPE has 0 of 2 inputs",
    "two outputs in one tensor": "tensor 8 is read before anything is written to it",
    "a result over a constant": "tensor 8 is read before anything is written to it",
    "an operation of another kind": "MEAN 'g': axes None",
    "a larger input": "its output would have shape (1, 20000, 6, 8)",
    "a filter of other channels": "'c/kernel' of shape [8, 3, 3, 2] has 864 bytes",
    "a longer bias": "'c/bias' of shape [9] has 32 bytes",
    "another output": "its output would have shape (1, 8, 6, 8), not (1, 3, 6, 8)",
    "a stride of 0": "windows and steps of [2, 0]",
    "a stride without end": "windows and steps of [2, 2147483647]",
    "options of another operation": "its options are missing",
    "an operation of later days": "operation number 206",
    "control flow": "operation WHILE",
    "a string without end": "has no end",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tflite_file_is_refused(damage):
    wanted = rf"m\.tflite: .*{re.escape(TFLITE_ANSWERS[damage])}"
    with pytest.raises(InputError, match=wanted):
        check_model(DAMAGE[damage](models.float_tflite()), "tflite", "m.tflite")


def test_a_scale_that_is_too_small_for_the_kernels():
    edited = Editor(models.int8_tflite())
    number = next(n for n, o in enumerate(edited.graph.tables(3)) if len(o.numbers(1, "i")) == 3)
    data = edited.element(edited.tensor(number, 2, 0).table(4), 2, 0, 1e-9, "f")
    with pytest.raises(InputError, match="scale is too small"):
        check_model(data, "tflite", "m.tflite")


def test_an_output_of_another_type():
    edited = Editor(models.int8_tflite())
    number = next(n for n, o in enumerate(edited.graph.tables(3)) if len(o.numbers(1, "i")) == 3)
    with pytest.raises(InputError, match="types 9, 9 and 6"):
        check_model(edited.put(edited.tensor(number, 2, 0).field_position(1), "b", 6), "tflite", "m.tflite")


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


def _loop(model, onnx):
    inner = onnx.helper.make_graph([], "inner", [], [])
    model.graph.node.append(onnx.helper.make_node("If", [model.graph.input[0].name], ["z"], then_branch=inner))


def _attribute(name, values):
    def change(model, onnx):
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        del conv.attribute[:]
        conv.attribute.append(onnx.helper.make_attribute(name, values))

    return change


def _constant(value):
    return lambda model, onnx: model.graph.node.append(onnx.helper.make_node("Constant", [], ["z"], value=value))


def _graph_in_an_attribute(model, onnx):
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.type = "body", onnx.AttributeProto.GRAPH
    attribute.g.name = "inner"


def _sequence(model, onnx):
    kind = onnx.helper.make_tensor_sequence_value_info("more", onnx.TensorProto.FLOAT, [1])
    model.graph.input.append(kind)


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


ONNX_DAMAGE = {
    "data in another file": (_external, "the constant 'c/kernel' is text, a part, or lies outside of the file"),
    "text": (lambda model, onnx: model.graph.initializer[0].string_data.append(b"x"), "'c/kernel' is text"),
    "control flow": (_loop, "operation 'If'"),
    "a graph in an attribute": (_graph_in_an_attribute, "Conv: an attribute holds a graph"),
    "an input of nowhere": (
        lambda model, onnx: model.graph.node[0].input.__setitem__(0, "nowhere"),
        "Conv: nothing writes its input 'nowhere' before it",
    ),
    "a cycle": (
        lambda model, onnx: model.graph.node[0].input.__setitem__(0, model.graph.node[-1].output[0]),
        "Conv: nothing writes its input 's' before it",
    ),
    "a value twice": (
        lambda model, onnx: model.graph.node[-1].output.__setitem__(0, model.graph.node[0].output[0]),
        "Softmax: its output 'c/linear' is there already",
    ),
    "a constant twice": (
        lambda model, onnx: model.graph.initializer.append(model.graph.initializer[0]),
        "the constant 'c/kernel' is there twice",
    ),
    "a constant that is too short": (
        lambda model, onnx: model.graph.initializer[0].dims.__setitem__(0, 2**20),
        "the constant 'c/kernel' of shape [1048576, 3, 3, 3] has 864 bytes",
    ),
    "a list that is too short": (_listed(3, [2, 2]), "the constant 'listed' of shape [2, 2] has 3 values"),
    "a constant of another type": (
        lambda model, onnx: setattr(model.graph.initializer[0], "data_type", 11),
        "the constant 'c/kernel' of shape [8, 3, 3, 3] has 864 bytes",
    ),
    "complex numbers": (
        lambda model, onnx: setattr(model.graph.initializer[0], "data_type", 14), "'c/kernel' has type 14"
    ),
    "a negative shape": (
        lambda model, onnx: model.graph.initializer[0].dims.__setitem__(0, -1), "'c/kernel' has shape [-1, 3, 3, 3]"
    ),
    "a huge input": (
        lambda model, onnx: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**40),
        "'x' has an axis of length 1099511627776",
    ),
    "a large input": (_wide, "'x' has 3298534883328 values, too many"),
    "an input that is no tensor": (_sequence, "'more' is no tensor"),
    "endless padding": (_attribute("pads", [2**40] * 4), "Conv: pads is [1099511627776,"),
    "a stride of 0": (_attribute("strides", [0, 0]), "Conv: strides is [0, 0]"),
    "a shape without end": (_amounts, "Reshape: the amounts 'g/shape' are (1048576, 1048576)"),
    "somebody's own operations": (
        lambda model, onnx: setattr(model.graph.node[0], "domain", "my.own"), "operation 'Conv' of domain 'my.own'"
    ),
    "somebody's own operations, announced": (
        lambda model, onnx: model.opset_import.append(onnx.helper.make_opsetid("my.own", 1)),
        "operations of domain 'my.own'",
    ),
    "functions": (
        lambda model, onnx: setattr(model.functions.add(), "name", "f"), "functions and training of its own"
    ),
    "sparse constants": (
        lambda model, onnx: model.graph.sparse_initializer.add().dims.append(1), "sparse constants"
    ),
    "an output of nowhere": (
        lambda model, onnx: setattr(model.graph.output[0], "name", "nowhere"), "nothing writes the output 'nowhere'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", ONNX_DAMAGE)
def test_a_damaged_onnx_file_is_refused(damage):
    change, answer = ONNX_DAMAGE[damage]
    with pytest.raises(InputError, match=rf"m\.onnx: .*{re.escape(answer)}"):
        check_model(onnx_of(change), "onnx", "m.onnx")


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


def test_the_table_of_operations_is_the_schemas():
    from mbn_deploy.export.tflite.builder import schema

    assert {name: getattr(schema().BuiltinOperator, name) for name in OPERATIONS} == {n: c for c, n in NAMES.items()}


def test_a_file_that_a_manifest_vouches_for_is_not_checked_again():
    """The loose file has an operation that nothing is known of; the interpreter refuses it in its own words."""
    data = DAMAGE["an operation of later days"](models.float_tflite())
    with pytest.raises(InputError, match="number 206"):
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
