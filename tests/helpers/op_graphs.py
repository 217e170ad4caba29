"""Graphs of one op of each kind, and interpreters that run their files."""

import numpy as np
from graph_reference import run_graph

from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.passes.lower import absorb_hard_sigmoids
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange

RNG = np.random.default_rng(0)


INPUT = (1, 12, 11, 4)


def rand(*shape):
    return RNG.normal(0, 0.4, shape).astype(np.float32)


def conv(name, source, kernel, shape, **more):
    return Op("conv", name, (source,), name, kernel=kernel, bias=rand(kernel.shape[-1]), **more), shape


def graph_of(*steps, source=INPUT):
    """Return a graph of (op, output shape) pairs after the input `x`."""
    shapes = {"x": source} | {op.output: shape for op, shape in steps}
    return Graph("test", "x", steps[-1][0].output, tuple(op for op, _ in steps), shapes)


def op(kind, name, *sources, shape, **more):
    return Op(kind, name, sources, name, **more), shape


SINGLE = {
    "conv same": graph_of(conv("c", "x", rand(3, 3, 4, 8), (1, 12, 11, 8), pads=(1, 1, 1, 1), activation="relu6")),
    "conv stride": graph_of(
        conv("c", "x", rand(3, 3, 4, 8), (1, 6, 6, 8), stride=(2, 2), pads=(0, 1, 1, 1), activation="relu")
    ),
    "conv torch pads": graph_of(conv("c", "x", rand(3, 3, 4, 8), (1, 6, 6, 8), stride=(2, 2), pads=(1, 0, 1, 1))),
    "conv dilated": graph_of(conv("c", "x", rand(3, 3, 4, 8), (1, 12, 11, 8), dilation=(2, 2), pads=(2, 2, 2, 2))),
    "depthwise": graph_of(
        op("depthwise", "d", "x", shape=(1, 12, 11, 8), kernel=rand(5, 5, 4, 2), bias=rand(8), pads=(2, 2, 2, 2))
    ),
    "dense": graph_of(
        op("reshape", "r", "x", shape=(1, 528)), op("dense", "d", "r", shape=(1, 6), kernel=rand(528, 6), bias=rand(6))
    ),
    "add": graph_of(conv("c", "x", rand(1, 1, 4, 4), INPUT), op("add", "a", "x", "c", shape=INPUT, activation="relu")),
    "gate": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 1, 1, 4), keepdims=True),
        conv("c", "g", rand(1, 1, 4, 4), (1, 1, 1, 4)),
        op("hard_sigmoid", "h", "c", shape=(1, 1, 1, 4)),
        op("multiply", "m", "x", "h", shape=INPUT),
    ),
    "hard_swish": graph_of(op("hard_swish", "h", "x", shape=INPUT)),
    "relu": graph_of(op("relu", "h", "x", shape=INPUT)),
    "relu6": graph_of(op("relu6", "h", "x", shape=INPUT)),
    "sigmoid": graph_of(op("sigmoid", "h", "x", shape=INPUT)),
    "global max": graph_of(op("global_max_pool", "g", "x", shape=(1, 4))),
    "average pool": graph_of(
        op("average_pool", "p", "x", shape=(1, 6, 6, 4), window=(3, 3), stride=(2, 2), pads=(0, 1, 1, 1))
    ),
    "max pool": graph_of(op("max_pool", "p", "x", shape=(1, 6, 5, 4), window=(2, 2), stride=(2, 2))),
    "pad": graph_of(op("pad", "p", "x", shape=(1, 14, 12, 4), pads=(2, 0, 1, 0))),
    "softmax head": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 4)),
        op("dense", "d", "g", shape=(1, 5), kernel=rand(4, 5), bias=rand(5)),
        op("softmax", "s", "d", shape=(1, 5)),
    ),
}


def two_convs(*steps):
    """Return a graph of two convolutions `a` and `b` of the input, followed by `steps`."""
    return graph_of(conv("a", "x", rand(1, 1, 4, 4), INPUT), conv("b", "x", 3 * rand(1, 1, 4, 4), INPUT), *steps)


def function(kind, **fields):
    return graph_of(conv("a", "x", rand(1, 1, 4, 4), INPUT), op(kind, "f", "a", shape=INPUT, **fields))


SINGLE |= {
    "concat": two_convs(op("concat", "m", "a", "b", shape=(1, 12, 11, 8), axis=3)),
    "concat rows": two_convs(op("concat", "m", "a", "b", shape=(1, 24, 11, 4), axis=1)),
    "concat vectors": two_convs(
        op("global_average_pool", "g", "a", shape=(1, 4)),
        op("global_average_pool", "h", "b", shape=(1, 4)),
        op("concat", "m", "g", "h", shape=(1, 8), axis=1),
    ),
    "maximum": two_convs(op("maximum", "m", "a", "b", shape=INPUT)),
    "minimum": two_convs(op("minimum", "m", "a", "b", shape=INPUT)),
    "clip": function("clip", low=-0.5, high=1.5),
    "clip above": function("clip", high=0.7),
    "clip from zero": function("clip", low=0.0, high=2.0),
    "leaky relu": function("leaky_relu", scale=np.array([0.3])),
    "prelu": function("prelu", scale=np.array([0.3, -0.4, 0.0, 1.2])),
    "prelu of positions": function("prelu", scale=RNG.uniform(-0.5, 1, (12, 11, 4))),
    "elu": function("elu"),
    "gelu": function("gelu"),
    "gelu tanh": function("gelu_tanh"),
    "tanh": function("tanh"),
}


def grouped(groups, channels):
    """Return a kernel (3, 3, channels, channels) with zeros between different groups."""
    group = np.arange(channels) * groups // channels
    return rand(3, 3, channels, channels) * (group[:, None] == group)


def moved(kind, shape, *, vector=False, **fields):
    """Return a graph of a convolution, global pooling for a `vector`, and an op that moves values."""
    steps = [conv("a", "x", rand(1, 1, 4, 4), INPUT)]
    steps += [op("global_average_pool", "g", "a", shape=(1, 4))] if vector else []
    return graph_of(*steps, op(kind, "m", steps[-1][0].output, shape=shape, **fields))


SINGLE |= {
    "conv in groups": graph_of(conv("c", "x", grouped(2, 4), INPUT, pads=(1, 1, 1, 1), groups=2, activation="relu")),
    "gate of rows and columns": graph_of(
        op("max_pool", "r", "x", shape=(1, 1, 11, 4), window=(12, 1)),
        op("max_pool", "c", "x", shape=(1, 12, 1, 4), window=(1, 11)),
        op("multiply", "m", "r", "c", shape=INPUT),
    ),
    "gate of positions": two_convs(
        op("channel_max", "p", "b", shape=(1, 12, 11, 1)), op("multiply", "m", "a", "p", shape=INPUT)
    ),
    "sum of positions": two_convs(
        op("channel_max", "p", "b", shape=(1, 12, 11, 1)), op("add", "m", "a", "p", shape=INPUT)
    ),
    "slice": moved("slice", (1, 9, 11, 2), starts=(2, 0, 1), steps=(1, 1, 1)),
    "slice steps": moved("slice", (1, 6, 3, 4), starts=(1, 2, 0), steps=(2, 4, 1)),
    "slice back": moved("slice", (1, 12, 5, 4), starts=(11, 9, 3), steps=(-1, -2, -1)),
    "slice of a vector": moved("slice", (1, 2), vector=True, starts=(1,), steps=(1,)),
    "slice of a vector back": moved("slice", (1, 4), vector=True, starts=(3,), steps=(-1,)),
    "resize": moved("resize", (1, 7, 23, 4)),
    "resize nearest": moved("resize", (1, 7, 23, 4), interpolation="nearest"),
    "transpose": moved("transpose", (1, 11, 12, 4), permutation=(0, 2, 1, 3)),
    "transpose channels": moved("transpose", (1, 4, 12, 11), permutation=(0, 3, 1, 2)),
    "shuffled channels": graph_of(
        conv("a", "x", rand(1, 1, 4, 6), (1, 12, 11, 6)),
        op("reshape", "g", "a", shape=(1, 12, 11, 2, 3)),
        op("transpose", "t", "g", shape=(1, 12, 11, 3, 2), permutation=(0, 1, 2, 4, 3)),
        op("reshape", "m", "t", shape=(1, 12, 11, 6)),
    ),
    "channel max": moved("channel_max", (1, 12, 11, 1)),
}
FLOATS = {
    "normalize": moved("normalize", INPUT, epsilon=1e-3),
    "normalize vectors": moved("normalize", (1, 4), vector=True, epsilon=1e-6),
    "l2 normalize": moved("l2_normalize", INPUT, epsilon=1e-12),
    "l2 normalize vectors": moved("l2_normalize", (1, 4), vector=True, epsilon=1e-12),
    "softplus": function("softplus"),
    "softsign": function("softsign"),
    "mish": function("mish"),
    "threshold": function("threshold", low=0.6),
    "log softmax": function("log_softmax"),
    "log softmax head": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 4)), op("log_softmax", "s", "g", shape=(1, 4))
    ),
    "softmaxes added": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 4)),
        op("softmax", "s", "g", shape=(1, 4)),
        op("add", "a", "s", "g", shape=(1, 4)),
        op("dense", "d", "a", shape=(1, 5), kernel=rand(4, 5), bias=rand(5)),
    ),
}


def interpret(data, value):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def quantized(graph, x):
    lowered = absorb_hard_sigmoids(graph)
    values = run_graph(lowered, x)
    ranges = {o.output: channel_range(values[o.output]) for o in lowered.ops}
    scale = float(np.float32(np.abs(x).max() / 127))
    return quantize_graph(CalibratedGraph(lowered, ranges, {}), QuantParams(scale, 0))


def channel_range(values):
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return ChannelRange(flat.min(0), flat.max(0), flat.mean(0), (flat**2).mean(0))
