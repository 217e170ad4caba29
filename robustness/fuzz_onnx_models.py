"""Build .onnx files from scratch, well formed and of doubtful meaning: `onnx_file(seed, number)`.

A file takes a picture and gives a row of scores. In between stands one operation with inputs that are valid at first:
those of the onnx package's own tests of operations, or of its schema in onnxruntime where there is no test. Then
nothing, or some twists of `fuzz_onnx_twists.py`, make it strange.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import onnx
from fuzz_onnx_graph_twists import GRAPH_TWISTS
from fuzz_onnx_ops import described_uses
from fuzz_onnx_twists import twist
from fuzz_tflite_ops import LETTERS, TensorUse
from google.protobuf.message import Error as Message  # type: ignore[import-untyped]
from onnx import NodeProto, TensorProto, helper, numpy_helper

IMAGE = (1, 3, 4, 4)
OPSET, IR = 23, 10  # what onnxruntime 1.32 runs for certain
OPSETS = (OPSET, OPSET, 21, 18)  # of some operations it has kernels of an older one only
DOMAINS = ("", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml")
_TWISTS = (0, 1, 1, 1, 2, 2, 3, 5)  # how many, evenly
_MOST_NODES = 3  # of a test that is taken
_LARGEST = 20_000  # values of an input of a test that is taken
_TYPES = {
    "tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2", "tensor(int8)": "i1", "tensor(uint8)": "u1",
    "tensor(int16)": "i2", "tensor(uint16)": "u2", "tensor(int32)": "i4", "tensor(uint32)": "u4", "tensor(int64)": "i8",
    "tensor(uint64)": "u8", "tensor(bool)": "?", "tensor(string)": "U",
}  # fmt: skip
_SHAPES = ((), (1,), (2,), (3,), (4,), (8,), (1, 4), (2, 3), (4, 8), (1, 4, 8), (2, 3, 4), (1, 3, 4, 4), (1, 2, 4, 8))


@dataclass(frozen=True)
class OnnxUse:
    """A use of an operation: its nodes, and a value for each name that they read (None: left out)."""

    name: str
    nodes: tuple[NodeProto, ...]
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    opsets: dict[str, int] = field(default_factory=dict)


@lru_cache(maxsize=1)
def use_makers() -> list[tuple[str, list[Callable[[random.Random], OnnxUse]]]]:
    """Return the operations, and for each the ways to make a use of it."""
    found: dict[str, list[Callable[[random.Random], OnnxUse]]] = {}
    schemas = _schemas()
    for use in _tested():
        if use.name in schemas:
            found.setdefault(use.name, []).append(lambda _, use=use: use)  # type: ignore[misc]
    for name, inputs, outputs, attributes in described_uses():
        make = partial(_from_line, schemas[name], inputs, outputs, attributes)
        found.setdefault(name, []).extend([make] * 9)  # nine times likelier than the one by chance
    for name, schema in schemas.items():
        found.setdefault(name, []).append(partial(_from_schema, schema))
    return sorted(found.items())


def onnx_file(seed: int, number: int) -> tuple[str, tuple[str, ...], bytes]:
    """Return (operation, names of the twists, bytes of the file); the same ones for the same seed and number."""
    makers = use_makers()
    for attempt in range(20):
        rng = random.Random(f"onnx {seed} {number} {attempt}")  # noqa: S311 (no secret)
        name, ways = makers[number % len(makers)] if attempt == 0 else rng.choice(makers)
        try:
            model = classifier(rng.choice(ways)(rng), rng)
            names = [twist(model, rng) for _ in range(rng.choice(_TWISTS))]
            if rng.random() < 0.04:
                chosen = rng.choice(GRAPH_TWISTS)
                names.append(chosen.__name__)
                chosen(model, rng)
            return name, tuple(names), model.SerializeToString()
        except (ValueError, TypeError, IndexError, OverflowError, AttributeError, Message):
            continue  # a number that its field cannot hold, or a twist of what another has removed
    raise AssertionError(f"no file for seed {seed}, number {number}")


def classifier(use: OnnxUse, rng: random.Random) -> Any:
    """Return a model with a picture, the nodes, and a row of scores that depends on them."""
    nodes = [helper.make_node("ReduceMean", ["picture"], ["picture_mean"], keepdims=0)]
    constants: list[Any] = []
    for name, value in use.inputs.items():
        _add_input(name, value, nodes, constants, rng)
    nodes += use.nodes
    result = use.outputs[0] if rng.random() < 0.9 else rng.choice(use.outputs)
    flat, row, scores = "picture_flat", "picture_row", "picture_scores"
    if rng.random() < 0.25:
        constants.append(numpy_helper.from_array(np.array([1, -1]), "as_row"))
        nodes += [
            helper.make_node("Cast", [result], [flat], to=1),
            helper.make_node("Reshape", [flat, "as_row"], [row]),
        ]
        width: int | str = "classes"
    else:
        nodes += [
            helper.make_node("Cast", [result], ["result_real"], to=1),
            helper.make_node("ReduceSum", ["result_real"], ["result_sum"], keepdims=0),
            helper.make_node("Flatten", ["picture"], [flat]),
            helper.make_node("Add", [flat, "result_sum"], [row]),
        ]
        width = int(np.prod(IMAGE))
    nodes.append(helper.make_node("Softmax", [row], [scores]))
    graph = helper.make_graph(
        nodes,
        "fuzz",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, IMAGE)],
        [helper.make_tensor_value_info(scores, TensorProto.FLOAT, [1, width])],
        constants,
    )
    opsets = {"": OPSET, "com.microsoft": 1, **use.opsets}
    if opsets[""] == OPSET:
        opsets[""] = rng.choice(OPSETS)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR)


def _add_input(name: str, value: Any, nodes: list[Any], constants: list[Any], rng: random.Random) -> None:
    """Add a value that the nodes read: a constant, a sequence of constants, or computed from the picture."""
    if value is None:
        return
    if isinstance(value, list):
        parts = [f"{name}_{number}" for number in range(len(value))]
        for part, one in zip(parts, value, strict=True):
            _add_input(part, one, nodes, constants, rng)
        nodes.append(helper.make_node("SequenceConstruct" if parts else "SequenceEmpty", parts, [name]))
        return
    if isinstance(value, TensorProto):
        constants.append(TensorProto.FromString(value.SerializeToString()))
        constants[-1].name = name
        return
    array = np.asarray(value)
    if array.dtype != np.float32 or rng.random() < 0.3:
        constants.append(numpy_helper.from_array(array, name))
        return
    constants.append(numpy_helper.from_array(array, f"{name}_constant"))
    nodes.append(helper.make_node("Add", [f"{name}_constant", "picture_mean"], [name]))


def _tested() -> list[OnnxUse]:
    """Return the uses in the onnx package's tests of operations."""
    from onnx.backend.test.case.node import collect_testcases

    np.random.seed(0)  # noqa: NPY002 (what those tests draw from)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = []
    for case in sorted(cases, key=lambda case: case.name):
        graph = case.model.graph
        if len(graph.node) > _MOST_NODES or case.model.functions or not case.data_sets or not graph.output:
            continue
        values = case.data_sets[0][0]
        if len(values) != len(graph.input) or any(np.size(v) > _LARGEST for v in values if isinstance(v, np.ndarray)):
            continue
        inputs = {described.name: value for described, value in zip(graph.input, values, strict=True)}
        inputs |= {tensor.name: tensor for tensor in graph.initializer}
        opsets = {o.domain: o.version for o in case.model.opset_import}
        opsets[""] = min(max(opsets.get("", OPSET), 13), OPSET)
        outputs = tuple(value.name for value in graph.output if not value.type.HasField("sequence_type"))
        if not outputs:
            outputs = ("length",)
            graph.node.append(helper.make_node("SequenceLength", [graph.output[0].name], ["length"]))
        found.append(OnnxUse(graph.node[0].op_type, tuple(graph.node), inputs, outputs, opsets))
    return found


def _schemas() -> dict[str, Schema]:
    """Return the newest schema of each operation that onnxruntime has a kernel for, by domain and name."""
    from mbn_deploy.runtime.backends.modules import load_interpreter

    state = load_interpreter("onnx").capi.onnxruntime_pybind11_state
    last: dict[tuple[str, str], int] = {}
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            key = kernel.domain, kernel.op_name
            last[key] = max(last.get(key, 0), min(kernel.version_range[1], 2**20))
    found: dict[str, Schema] = {}
    for schema in sorted(state.get_all_operator_schema(), key=lambda schema: schema.since_version):
        end = last.get((schema.domain, schema.name), 2**20)  # without a kernel it may be a function of others
        newest = OPSET if not schema.domain else 5
        known = (schema.domain, schema.name) in last or not schema.domain
        fits = schema.since_version <= min(end, newest) and schema.domain in DOMAINS
        if known and fits and not schema.deprecated:
            name = f"{schema.domain}:{schema.name}" if schema.domain else schema.name
            found[name] = Schema(schema, min(end, newest))
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Schema:
    """A schema of onnxruntime, and the newest opset in which it has a kernel."""

    schema: Any
    opset: int

    def opsets(self) -> dict[str, int]:
        """Return the versions that a file must import."""
        domain = self.schema.domain
        if domain == "com.microsoft":
            return {}
        return {domain: max(self.opset, 13) if not domain else self.schema.since_version}

    def node(self, inputs: list[str], outputs: list[str], attributes: dict[str, Any]) -> NodeProto:
        """Return a node."""
        return helper.make_node(self.schema.name, inputs, outputs, domain=self.schema.domain, **attributes)


def _from_line(
    schema: Schema, tensors: list[TensorUse | None], count: int, attributes: dict[str, str], rng: random.Random
) -> OnnxUse:
    """Return the use that a line of `fuzz_onnx_ops.py` describes."""
    names = [f"x{number}" if tensor is not None else "" for number, tensor in enumerate(tensors)]
    inputs = {
        name: _line_values(tensor, rng) for name, tensor in zip(names, tensors, strict=True) if tensor is not None
    }
    outputs = [f"y{number}" for number in range(count)]
    kinds = {name: str(a.type).rpartition(".")[2] for name, a in schema.schema.attributes.items()}
    values = {name: _parsed(kinds[name], text) for name, text in attributes.items()}
    full = f"{schema.schema.domain}:{schema.schema.name}" if schema.schema.domain else schema.schema.name
    return OnnxUse(full, (schema.node(names, outputs, values),), inputs, tuple(outputs), schema.opsets())


def _line_values(tensor: TensorUse, rng: random.Random) -> Any:
    kind = LETTERS[tensor.letter][1] or "f4"
    return (
        np.array(tensor.values).reshape(tensor.shape).astype(kind)
        if tensor.values
        else _values(kind, tensor.shape, rng)
    )


def _parsed(kind: str, text: str) -> Any:
    one = {"INT": int, "FLOAT": float, "STRING": str}[kind.rstrip("S") if kind.endswith("S") else kind]
    return [one(word) for word in text.split(",")] if kind.endswith("S") else one(text)


def _from_schema(found: Schema, rng: random.Random) -> OnnxUse:
    """Return a node with inputs of allowed types, of one shape in most cases, and the attributes that it needs."""
    schema = found.schema
    kinds = {c.type_param_str: _allowed(c.allowed_type_strs, rng) for c in schema.type_constraints}
    shape, names, inputs = rng.choice(_SHAPES), [], {}
    least, most = schema.min_input, min(schema.max_input, len(schema.inputs), 14)
    for number in range(rng.choice((least, least, most, rng.randint(least, max(least, most))))):
        formal = schema.inputs[min(number, len(schema.inputs) - 1)]
        name = f"x{number}"
        if number >= least and rng.random() < 0.4:
            names.append("")
            continue
        names.append(name)
        kind = kinds.get(formal.typeStr, _TYPES.get(formal.typeStr, "f4"))
        size = shape if rng.random() < 0.5 else rng.choice(_SHAPES)
        inputs[name] = _values(kind, size, rng)
    outputs = [f"y{number}" for number in range(rng.choice((schema.min_output or 1, min(schema.max_output, 4) or 1)))]
    node = helper.make_node(schema.name, names, outputs, domain=schema.domain)
    for name, attribute in sorted(schema.attributes.items()):
        if attribute.required or rng.random() < 0.5:
            value = _attribute(str(attribute.type).rpartition(".")[2], rng)
            if value is not None:
                node.attribute.append(helper.make_attribute(name, value))
    name = f"{schema.domain}:{schema.name}" if schema.domain else schema.name
    return OnnxUse(name, (node,), inputs, tuple(outputs), found.opsets())


def _allowed(types: Any, rng: random.Random) -> str:
    known = [_TYPES[kind] for kind in sorted(types) if kind in _TYPES]
    return "f4" if "f4" in known and rng.random() < 0.6 else rng.choice(known or ["f4"])


def _values(kind: str, shape: tuple[int, ...], rng: random.Random) -> Any:
    count = int(np.prod(shape))
    numbers = [rng.choice((0, 1, 1, 2, 3)) for _ in range(count)]
    if kind == "U":
        return helper.make_tensor("", TensorProto.STRING, shape, [b"a%d" % n for n in numbers])
    return np.array(numbers).reshape(shape).astype(kind)


def _attribute(kind: str, rng: random.Random) -> Any:  # noqa: PLR0911 (a case a kind)
    if kind == "INT":
        return rng.choice((0, 1, 1, 2, 4, 8, 32))
    if kind == "FLOAT":
        return rng.choice((0.0, 0.5, 1.0))
    if kind == "STRING":
        return rng.choice(("", "NOTSET", "linear", "SAME_UPPER", "sum", "NONE", "float", "a"))
    if kind == "INTS":
        return [rng.choice((0, 1, 1, 2, 3)) for _ in range(rng.choice((1, 2, 2, 4)))]
    if kind == "FLOATS":
        return [rng.choice((0.0, 0.5, 1.0)) for _ in range(rng.choice((1, 2, 4)))]
    if kind == "STRINGS":
        return [rng.choice(("a", "b")) for _ in range(rng.choice((1, 2, 4)))]
    if kind == "GRAPH":
        node = helper.make_node("Identity", ["picture"], ["inner"])
        return helper.make_graph([node], "g", [], [helper.make_tensor_value_info("inner", 1, None)])
    return numpy_helper.from_array(np.ones(2, np.float32)) if kind == "TENSOR" else None


def onnx_version() -> str:
    """Return the version of the onnx package, whose tests the files come from."""
    return str(onnx.__version__)
