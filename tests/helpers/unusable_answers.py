"""Files that open and answer with what is no answer: for black pictures, or in another shape than they declare."""

import onnx
from onnx import TensorProto, helper

from mbn_deploy.manifest import DESCRIPTION_KEY, Description, Preprocess

SIZE = (8, 8)
UNIT = Preprocess.parse("unit", resize="squash")
# What a file computes of the mean brightness of each channel, in [0, 1]: a plain number for a white picture.
OF_BRIGHTNESS = {
    "-infinity": [helper.make_node("Log", ["mean"], ["o"])],
    "infinity": [helper.make_node("Reciprocal", ["mean"], ["o"])],
    "NaN": [helper.make_node("Div", ["mean", "mean"], ["o"])],
}


def brightness_file(kind, meaning, scores, outputs=3):
    """Return an .onnx file that answers a black picture with infinity or NaN, in all outputs or in the last one."""
    mean = helper.make_node("ReduceMean", ["x"], ["each"], axes=[2, 3], keepdims=0)
    first = helper.make_node("Slice", ["each", "from", "to", "axis"], ["mean"])
    numbers = {"from": [3 - outputs], "to": [3], "axis": [1]}
    return _file([mean, first, *OF_BRIGHTNESS[kind]], (1, outputs), numbers, meaning, scores)


def lying_file(meaning="classes", scores="softmax"):
    """Return an .onnx file that declares five answers and returns one for each coloured pixel, at least one."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "zero"], ["zeros"]),
        helper.make_node("Reshape", ["zeros", "row"], ["o"]),
    ]
    return _file(nodes, (1, 5), {"row": [1, -1]}, meaning, scores, floats={"zero": [0.0]})


def _file(nodes, shape, numbers, meaning, scores, *, floats=()):
    constants = [helper.make_tensor(name, TensorProto.INT64, [len(v)], v) for name, v in numbers.items()]
    constants += [helper.make_tensor(name, TensorProto.FLOAT, [len(v)], v) for name, v in dict(floats).items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, *SIZE))],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    text = Description("made", "float32", scores, UNIT, "nchw", None, meaning).to_json()
    onnx.helper.set_model_props(model, {DESCRIPTION_KEY: text})
    return model.SerializeToString()
