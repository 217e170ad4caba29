"""Twists of an .onnx model: each changes one thing of a valid model so that it stays well formed and means nonsense.

A twist gets the ModelProto and a random number generator.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz_onnx_graph_twists import add_flag
from fuzz_tflite_picks import NUMBERS, REALS
from onnx import AttributeProto, TensorProto, helper, numpy_helper

Rng = random.Random
Twist = Callable[[Any, Rng], None]
LENGTHS = (0, 0, 1, 2, 3, 4, 5, 7, 16, 100)
CLAIMS = (0, 1, 2, 3, 1000, 65536, 2**20, 2**26, 2**31 - 1, 2**31, 2**40, 2**62, -1)
LONG = (2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
KINDS = ("f4", "f8", "f2", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "?")
_LARGEST = 100_000  # values of a constant that a twist makes


def twist(model: Any, rng: Rng) -> str:
    """Apply one twist, likelier ones more often; return its name."""
    chosen = rng.choices(list(TWISTS), weights=list(TWISTS.values()))[0]
    chosen(model, rng)
    return chosen.__name__


def _node(model: Any, rng: Rng) -> Any:
    """Return a node: of the operation under test in most cases."""
    helpers = {"Cast", "ReduceSum", "ReduceMean", "Flatten", "Softmax", "Add", "Reshape"}
    tested = [node for node in model.graph.node if node.op_type not in helpers]
    return rng.choice(tested if tested and rng.random() < 0.85 else model.graph.node)


def _constant(model: Any, rng: Rng) -> Any:
    return rng.choice(model.graph.initializer)


def _array(tensor: Any) -> Any:
    """Return a constant's values as numbers; zeros for text, and where they lie in another file, which is not read."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return np.zeros(4, np.float32)
    array = numpy_helper.to_array(tensor)
    return array if array.dtype.kind in "fiub" else np.zeros(array.shape, np.float32)


def _replace(tensor: Any, array: Any) -> None:
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))


def number(model: Any, rng: Rng) -> None:
    """Change values of a constant: an axis, an amount, an index, a scale, a weight."""
    whole = [t for t in model.graph.initializer if t.data_type in (6, 7)]
    tensor = rng.choice(whole) if whole and rng.random() < 0.6 else _constant(model, rng)
    array = _array(tensor).copy()
    if not array.size:
        return
    flat = array.reshape(-1)
    for _ in range(rng.choice((1, 1, 1, 2, min(flat.size, 1000)))):
        value: Any = rng.choice(REALS) if array.dtype.kind == "f" else rng.choice(NUMBERS)
        if array.dtype.kind in "iu":
            bounds = np.iinfo(array.dtype)
            if array.dtype == np.int64 and rng.random() < 0.2:
                value = rng.choice(LONG)
            value = min(max(int(value), int(bounds.min)), int(bounds.max))
        with np.errstate(all="ignore"):
            flat[rng.randrange(flat.size)] = value
    _replace(tensor, array)


def large(model: Any, rng: Rng) -> None:
    """Multiply all amounts of a constant, which then claims much memory or time."""
    whole = [t for t in model.graph.initializer if t.data_type in (6, 7)]
    if whole:
        tensor = rng.choice(whole)
        factor = rng.choice((8, 64, 100, 1000, 4000, 20000, 100000, 2**24, 2**30))
        with np.errstate(all="ignore"):
            _replace(tensor, (_array(tensor).astype(np.int64) * factor).astype(_array(tensor).dtype))


def shape(model: Any, rng: Rng) -> None:
    """Give a constant another shape, whose values are zeros or repeat the old ones."""
    tensor = _constant(model, rng)
    array = _array(tensor)
    sizes = list(array.shape)
    choice = rng.randrange(5)
    if choice == 0 and sizes:
        sizes[rng.randrange(len(sizes))] = rng.choice(LENGTHS)
    elif choice == 1:
        sizes = [rng.choice(LENGTHS) for _ in range(rng.randrange(7))]
    elif choice == 2:
        sizes = [1] * rng.randrange(9) + sizes
    elif choice == 3:
        sizes = sizes[1:]
    else:
        sizes = []
    if np.prod(sizes) <= _LARGEST:
        _replace(tensor, np.resize(array, sizes) if array.size else np.zeros(sizes, array.dtype))


def empty(model: Any, rng: Rng) -> None:
    """Make a constant empty."""
    tensor = _constant(model, rng)
    array = _array(tensor)
    sizes = list(array.shape) or [1]
    sizes[rng.randrange(len(sizes))] = 0
    _replace(tensor, np.zeros(sizes, array.dtype))


def type_(model: Any, rng: Rng) -> None:
    """Give a constant another type."""
    tensor = _constant(model, rng)
    with np.errstate(all="ignore"):
        _replace(tensor, _array(tensor).astype(rng.choice(KINDS)))


def types(model: Any, rng: Rng) -> None:
    """Give all constants of one type another one; casts follow the picture."""
    old, new = _constant(model, rng).data_type, rng.choice(KINDS)
    for tensor in model.graph.initializer:
        if tensor.data_type == old:
            with np.errstate(all="ignore"):
                _replace(tensor, _array(tensor).astype(new))


def claimed(model: Any, rng: Rng) -> None:
    """Let a constant's shape or type claim what its content is not."""
    tensor = _constant(model, rng)
    if rng.random() < 0.5 and len(tensor.dims):
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(CLAIMS)
    else:
        tensor.data_type = rng.randrange(24)


def attribute(model: Any, rng: Rng) -> None:
    """Set an attribute to an extreme value, or to one of another type."""
    nodes = [n for n in model.graph.node if n.attribute]
    tested = [n for n in nodes if n.op_type not in ("Cast", "ReduceSum", "ReduceMean", "Softmax")]
    if not nodes:
        return
    found = rng.choice(rng.choice(tested or nodes).attribute)
    value = found
    if rng.random() < 0.05:
        found.type = rng.randrange(15)
    elif value.type == AttributeProto.INT:
        found.i = rng.choice((*NUMBERS, *NUMBERS, *LONG))
    elif value.type == AttributeProto.FLOAT:
        found.f = rng.choice(REALS)
    elif value.type == AttributeProto.INTS:
        sizes = list(found.ints)
        if sizes and rng.random() < 0.7:
            sizes[rng.randrange(len(sizes))] = rng.choice((*NUMBERS, *NUMBERS, *LONG))
        else:
            sizes = [rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 2, 3, 9)))]
        found.ints[:] = sizes
    elif value.type == AttributeProto.FLOATS:
        found.floats[:] = [rng.choice(REALS) for _ in range(rng.choice((0, len(found.floats), 9)))]
    elif value.type == AttributeProto.STRING:
        found.s = rng.choice((b"", b"SAME_UPPER", b"VALID", b"cubic", b"linear", b"a" * 3000, b"\xff\xfe", b"reflect"))
    elif value.type == AttributeProto.TENSOR:
        with np.errstate(all="ignore"):
            _replace(found.t, _array(found.t).astype(rng.choice(KINDS)))


def more_attributes(model: Any, rng: Rng) -> None:
    """Add an attribute that many operations have, or remove one."""
    node = _node(model, rng)
    if len(node.attribute) and rng.random() < 0.5:
        del node.attribute[rng.randrange(len(node.attribute))]
        return
    names = ("axis", "axes", "group", "strides", "pads", "dilations", "kernel_shape", "keepdims", "ceil_mode", "to",
             "num_outputs", "size", "blocksize", "alpha", "epsilon", "output_shape", "storage_order")  # fmt: skip
    name = rng.choice(names)
    plain = rng.choice(NUMBERS)
    values = [rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 2, 4)))]
    node.attribute.append(helper.make_attribute(name, plain if rng.random() < 0.5 or not values else values))


def left_out(model: Any, rng: Rng) -> None:
    """Leave an input out, or remove the last ones."""
    node = _node(model, rng)
    if len(node.input):
        at = rng.randrange(len(node.input))
        if rng.random() < 0.5:
            node.input[at] = ""
        else:
            del node.input[at:]


def surplus(model: Any, rng: Rng) -> None:
    """Add inputs or outputs."""
    node = _node(model, rng)
    names = [t.name for t in model.graph.initializer] + ["picture", "", "picture_mean"]
    for at in range(rng.choice((1, 1, 2, 30))):
        if rng.random() < 0.7:
            node.input.append(rng.choice(names))
        else:
            node.output.append(rng.choice((f"more{at}", "", "picture")))


def other_input(model: Any, rng: Rng) -> None:
    """Let a node read another value: any, a later one, its own, one that is not there."""
    node = _node(model, rng)
    names = [t.name for t in model.graph.initializer] + [o for n in model.graph.node for o in n.output]
    if len(node.input):
        node.input[rng.randrange(len(node.input))] = rng.choice((*names, *names, "picture", "nowhere"))


def other_output(model: Any, rng: Rng) -> None:
    """Let a node write a name that is taken, or none."""
    node = _node(model, rng)
    names = [t.name for t in model.graph.initializer] + [o for n in model.graph.node for o in n.output]
    node.output[rng.randrange(len(node.output))] = rng.choice((*names, "picture", "picture_scores", ""))


def operation(model: Any, rng: Rng) -> None:
    """Make another operation of one, or put it into another domain or opset."""
    from fuzz_onnx_models import use_makers

    node, choice = _node(model, rng), rng.randrange(4)
    if choice < 2:
        domain, _, name = rng.choice(use_makers())[0].rpartition(":")
        node.op_type, node.domain = name, domain
    elif choice == 2:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc", "custom", ""))
    else:
        chosen = rng.choice(model.opset_import)
        chosen.version = rng.choice((1, 2, 5, 7, 9, 11, 13, 17, 18, 19, 21, 100, 0, -1))


def picture(model: Any, rng: Rng) -> None:
    """Give the input another shape: empty, huge, open, none, or another type."""
    kind = model.graph.input[0].type.tensor_type
    choice = rng.randrange(5)
    if choice == 0:
        kind.elem_type = rng.choice((2, 3, 6, 7, 8, 10, 11, 0, 99))
    elif choice == 1:
        kind.ClearField("shape")
    elif choice == 2:
        kind.shape.dim[rng.randrange(4)].dim_param = rng.choice(("N", "", "picture"))
    elif choice == 3:
        kind.shape.dim[rng.choice((0, 2, 3))].dim_value = rng.choice((0, 1, 3, 64, 224, 2000))
    else:
        kind.shape.dim[rng.randrange(4)].dim_value = rng.choice(CLAIMS)


def described(model: Any, rng: Rng) -> None:
    """Claim any shape or type of a value or of the output."""
    sizes = [rng.choice((*LENGTHS, *CLAIMS)) for _ in range(rng.randrange(5))]
    kind = rng.choice((1, 1, 1, 2, 6, 7, 9, 11))
    if rng.random() < 0.3:
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("picture_scores", kind, sizes))
        return
    names = [o for n in model.graph.node for o in n.output if o]
    model.graph.value_info.append(helper.make_tensor_value_info(rng.choice(names), kind, sizes))


def ends(model: Any, rng: Rng) -> None:
    """Change the inputs and outputs of the graph: twice the same, constants, values in between, none."""
    choice = rng.randrange(5)
    graph = model.graph
    names = [o for n in graph.node for o in n.output if o]
    if choice == 0:
        graph.output.append(graph.output[0])
    elif choice == 1:
        graph.output[0].name = rng.choice([*names, "picture", *(t.name for t in graph.initializer)])
    elif choice == 2:
        graph.input.append(graph.input[0])
    elif choice == 3 and graph.initializer:
        tensor = _constant(model, rng)
        graph.input.append(helper.make_tensor_value_info(tensor.name, rng.choice((tensor.data_type, 1)), [2, 2]))
    else:
        del graph.output[:]


def constant_twice(model: Any, rng: Rng) -> None:
    """Have a constant twice, or once more as a sparse one."""
    tensor = _constant(model, rng)
    if rng.random() < 0.5:
        model.graph.initializer.append(tensor)
        return
    indices = np.array([rng.choice((0, 1, 2, 100, -1, 2**40)) for _ in range(2)])
    values = numpy_helper.from_array(np.ones(2, np.float32), rng.choice((tensor.name, "sparse")))
    dims = [rng.choice((3, 100, 2**20, 2**40, 0, -1))]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(indices), dims))


def external(model: Any, rng: Rng) -> None:
    """Let a constant's data lie in another file."""
    tensor = _constant(model, rng)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", rng.choice(("/etc/passwd", "../x", "weights.bin", "", "*/_ORT_MEM_ADDR_/*"))),
        ("offset", rng.choice(("0", "-1", str(2**62), "4096"))),
        ("length", rng.choice(("0", "4", str(2**62), "-1"))),
    ):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def order(model: Any, rng: Rng) -> None:
    """Shuffle the nodes."""
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def named(model: Any, rng: Rng) -> None:
    """Add strange names, metadata and versions."""
    entry = model.metadata_props.add()
    entry.key, entry.value = rng.choice(("", "a", "mbn_deploy")), rng.choice(("", "x" * 9000, "{}"))
    model.ir_version = rng.choice((1, 3, 8, 10, 13, 100))
    model.graph.node[0].name = rng.choice(("", "n" * 5000, "\x1b[31m"))


def looped(model: Any, rng: Rng) -> None:
    """Put a node into the body of a Loop, an If or a Scan."""
    node = _node(model, rng)
    at = list(model.graph.node).index(node)
    inner = type(node)()
    inner.CopyFrom(node)
    outputs = list(node.output)
    results = [helper.make_tensor_value_info(name, 1, None) for name in outputs if name]
    kind = rng.choice(("If", "Loop", "Scan"))
    if kind == "If":
        wrapped = _if(model, inner, results, rng)
    elif kind == "Loop":
        wrapped = _loop(model, inner, results, rng)
    else:
        body = helper.make_graph([inner], "body", [helper.make_tensor_value_info("line", 1, None)], results)
        wrapped = helper.make_node(
            "Scan", ["picture"], outputs, body=body, num_scan_inputs=rng.choice((0, 1, 1, 1, 2, 2**31))
        )
    model.graph.node[at].CopyFrom(wrapped)


def _if(model: Any, inner: Any, results: list[Any], rng: Rng) -> Any:
    branch = helper.make_graph([inner], "branch", [], results)
    other = helper.make_graph([inner] if rng.random() < 0.8 else [], "other", [], results[: rng.choice((1, 1, 0))])
    flag = add_flag(model, value=rng.random() < 0.5)
    return helper.make_node("If", [flag], list(inner.output), then_branch=branch, else_branch=other)


def _loop(model: Any, inner: Any, results: list[Any], rng: Rng) -> Any:
    """Return a loop whose body collects the results of a node: some turns, very many, or without an end."""
    turns, count = (
        rng.choice((0, 1, 1, 2, 3, 3, 3, 10, 10, 100, 100, 1000, 2**62, -1)),
        f"turns{len(model.graph.initializer)}",
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(turns), count))
    body = helper.make_graph(
        [inner, helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info("turn", 7, []), helper.make_tensor_value_info("go", 9, [])],
        [helper.make_tensor_value_info("on", 9, []), *results],
    )
    names = [count if rng.random() < 0.97 else "", add_flag(model, value=True)]
    return helper.make_node("Loop", names, [name for name in inner.output if name], body=body)


def function(model: Any, rng: Rng) -> None:
    """Put a node into a function of the file, which may call itself or hide an operation."""
    node = _node(model, rng)
    inner = type(node)()
    inner.CopyFrom(node)
    inputs = [f"a{n}" for n in range(len(node.input))]
    for n, name in enumerate(inputs):
        inner.input[n] = name
    domain, name = rng.choice((("own", "F"), ("own", "F"), ("", node.op_type), ("", "Softmax")))
    nodes = [inner]
    if rng.random() < 0.3:
        nodes = [helper.make_node(name, inputs, list(inner.output), domain=domain)]
    made = helper.make_function(domain, name, inputs, list(inner.output), nodes, list(model.opset_import))
    model.functions.append(made)
    if domain and not any(o.domain == domain for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(domain, 1))
    node.op_type, node.domain = name, domain
    del node.attribute[:]


TWISTS: dict[Twist, float] = {
    number: 5, large: 2, shape: 4, empty: 2, type_: 1.5, types: 1.5, claimed: 0.7, attribute: 5, more_attributes: 1.5,
    left_out: 1.5, surplus: 1, other_input: 1.5, other_output: 1, operation: 2, picture: 1.5, described: 1, ends: 0.7,
    constant_twice: 0.5, external: 0.4, order: 0.3, named: 0.3, looped: 1, function: 0.6,
}  # fmt: skip
