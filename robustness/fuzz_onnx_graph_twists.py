"""Twists of a whole .onnx model: depth, growth, size and time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

Rng = random.Random


def add_flag(model: Any, *, value: bool) -> str:
    """Add a constant true or false; return its name."""
    name = f"flag{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return name


def chain(model: Any, rng: Rng) -> None:
    """Make a deep chain of operations before the scores."""
    last, name = model.graph.node[-1].input[0], rng.choice(("Abs", "Neg", "Tanh", "Sigmoid", "Identity", "Erf", "Add"))
    nodes = []
    for number_ in range(rng.choice((100, 1000, 5000))):
        nodes.append(helper.make_node(name, [last, last] if name == "Add" else [last], [f"c{number_}"]))
        last = f"c{number_}"
    final = model.graph.node.pop()
    model.graph.node.extend(nodes)
    final.input[0] = last
    model.graph.node.append(final)


def nested(model: Any, rng: Rng) -> None:
    """Put Ifs into one another."""
    flag = add_flag(model, value=True)
    node = helper.make_node("Identity", ["picture"], ["deepest"])
    name = "deepest"
    for depth in range(rng.choice((2, 3, 5, 20, 45, 90, 300))):
        graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info(name, 1, None)])
        name = f"level{depth}"
        node = helper.make_node("If", [flag], [name], then_branch=graph, else_branch=graph if depth < 6 else None)
    at = len(model.graph.node) - 1
    model.graph.node.insert(at, node)
    model.graph.node.insert(at + 1, helper.make_node("Flatten", [name], ["nest"]))
    model.graph.node[-1].input[0] = "nest"


def doubled(model: Any, rng: Rng) -> None:
    """Double a tensor again and again: kilobytes of file, gigabytes of memory."""
    last = "picture"
    at = len(model.graph.node) - 1
    for number_ in range(rng.choice((10, 20, 26, 30, 40))):
        node = helper.make_node("Concat", [last, last], [f"d{number_}"], axis=0)
        model.graph.node.insert(at + number_, node)
        last = f"d{number_}"
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("ReduceSum", [last], ["all"], keepdims=0))
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Add", [model.graph.node[-1].input[0], "all"], ["more"])
    )
    model.graph.node[-1].input[0] = "more"


def claim(model: Any, rng: Rng) -> None:
    """Put an operation before the scores whose result has the size that a constant says."""
    size = rng.choice((10, 1000, 10**5, 10**7, 10**8, 10**9, 10**10, 2**40))
    graph = model.graph
    model.opset_import[0].version = 21  # the random operations have no kernels of later ones
    for name, value in (("size", [size]), ("zero", 0), ("size0", size), ("one", 1), ("four", [size, 1, 1, 1]),
                        ("pads", [0, 0, 0, 0, size, 0, 0, 0])):  # fmt: skip
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.float32), "two"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1, float(size)], np.float32), "scales"))
    short = min(size, 2**62)
    nodes = {
        "ConstantOfShape": helper.make_node("ConstantOfShape", ["size"], ["big"]),
        "Range": helper.make_node("Range", ["zero", "size0", "one"], ["big"]),
        "Tile": helper.make_node("Tile", ["picture", "four"], ["big"]),
        "Expand": helper.make_node("Expand", ["picture_mean", "size"], ["big"]),
        "OneHot": helper.make_node("OneHot", ["size", "size0", "two"], ["big"]),
        "Pad": helper.make_node("Pad", ["picture", "pads"], ["big"]),
        "Resize": helper.make_node("Resize", ["picture", "", "scales"], ["big"]),
        "RandomNormal": helper.make_node("RandomNormal", [], ["big"], shape=[short]),
        "RandomUniform": helper.make_node("RandomUniform", [], ["big"], shape=[short, 2]),
        "MaxPool": helper.make_node("MaxPool", ["picture"], ["big"], kernel_shape=[1, 1], pads=[0, 0, 0, short]),
        "ConvTranspose": helper.make_node("ConvTranspose", ["picture", "picture"], ["big"], strides=[short, short]),
        "DepthToSpace": helper.make_node("DepthToSpace", ["picture"], ["big"], blocksize=short),
        "Upsample": helper.make_node("Upsample", ["picture", "scales"], ["big"]),
        "HannWindow": helper.make_node("HannWindow", ["size0"], ["big"]),
        "Bernoulli": helper.make_node("Multinomial", ["picture_row"], ["big"], sample_size=min(short, 2**31 - 1)),
    }
    graph.node.insert(len(graph.node) - 1, nodes[rng.choice(list(nodes))])
    graph.node.insert(len(graph.node) - 1, helper.make_node("Cast", ["big"], ["big_real"], to=1))
    graph.node.insert(len(graph.node) - 1, helper.make_node("ReduceMax", ["big_real"], ["most"], keepdims=0))
    graph.node.insert(len(graph.node) - 1, helper.make_node("Add", [graph.node[-1].input[0], "most"], ["topped"]))
    graph.node[-1].input[0] = "topped"


def slow(model: Any, rng: Rng) -> None:
    """Compute much with little memory: products of matrices, windows over padding, filters over a large picture."""
    size = rng.choice((10, 100, 500, 1000, 2000, 8000))
    graph = model.graph
    made = numpy_helper.from_array(np.array([size, size], np.int64), "square")
    graph.initializer.extend([made, numpy_helper.from_array(np.array([1, 1, size, size], np.int64), "plane")])
    kind = rng.choice(("MatMul", "MaxPool", "LRN", "Conv"))
    nodes = [helper.make_node("Expand", ["picture_mean", "square" if kind == "MatMul" else "plane"], ["wide"])]
    if kind == "MatMul":
        nodes += [
            helper.make_node("MatMul", [["wide"] * 2, [f"p{n}"] * 2][n >= 0], [f"p{n + 1}"]) for n in range(-1, 3)
        ]
    else:
        window: dict[str, Any] = {"kernel_shape": [min(size, 1000)] * 2, "pads": [min(size, 1000) // 2] * 4}
        more: dict[str, Any] = {"MaxPool": window, "LRN": {"size": 2 * size + 1}, "Conv": {"pads": [size // 2] * 4}}[
            kind
        ]
        nodes.append(helper.make_node(kind, ["wide"] * (2 if kind == "Conv" else 1), ["p3"], **more))
    nodes.append(helper.make_node("ReduceMax", ["p3"], ["most"], keepdims=0))
    nodes.append(helper.make_node("Add", [graph.node[-1].input[0], "most"], ["topped"]))
    last = graph.node.pop()
    last.input[0] = "topped"
    graph.node.extend([*nodes, last])


GRAPH_TWISTS = (chain, nested, doubled, doubled, claim, claim, claim, claim, slow)
