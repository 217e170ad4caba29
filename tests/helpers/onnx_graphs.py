"""Graphs of one op for ONNX, and the interpreter that runs their files."""

from collections import Counter

import numpy as np
import onnx
from op_graphs import FLOATS, INPUT, SINGLE, conv, graph_of, op, rand

from mbn_deploy.runtime.backends.modules import load_interpreter

WIDE = (1, 5, 5, 3)


FLATTEN = (
    conv("c", "x", rand(1, 1, 4, 3), (1, 12, 11, 3)),
    op("average_pool", "p", "c", shape=WIDE, window=(3, 3), stride=(2, 2)),
    op("reshape", "r", "p", shape=(1, 75)),
)


MORE = {
    "conv stride torch": graph_of(
        conv("c", "x", rand(3, 3, 4, 8), (1, 6, 5, 8), stride=(2, 2), pads=(1, 0, 0, 0), activation="relu6")
    ),
    "oblong": graph_of(conv("c", "x", rand(1, 5, 4, 8), (1, 12, 6, 8), stride=(1, 2), pads=(0, 0, 2, 2))),
    "flatten, dense": graph_of(*FLATTEN, op("dense", "d", "r", shape=(1, 6), kernel=rand(75, 6), bias=rand(6))),
    "flatten, sigmoid": graph_of(*FLATTEN, op("sigmoid", "s", "r", shape=(1, 75))),
    "reshape to an image": graph_of(
        op("reshape", "r", "x", shape=(1, 11, 12, 4)), conv("c", "r", rand(3, 3, 4, 2), (1, 9, 10, 2))
    ),
    "softmax over channels": graph_of(op("softmax", "s", "x", shape=INPUT)),
    "V1 head": graph_of(
        op("global_average_pool", "g", "x", shape=(1, 1, 1, 4), keepdims=True),
        conv("c", "g", rand(1, 1, 4, 6), (1, 1, 1, 6)),
        op("reshape", "r", "c", shape=(1, 6)),
        op("softmax", "s", "r", shape=(1, 6)),
    ),
}


GRAPHS = SINGLE | MORE
ALL = GRAPHS | FLOATS  # with those that have no integer form


def session(data):
    onnxruntime = load_interpreter("onnx")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data, value, names=None):
    opened = session(data)
    return opened.run(names, {opened.get_inputs()[0].name: value})


def as_nchw(value):
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2)) if value.ndim == 4 else value


def kinds(data):
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)
