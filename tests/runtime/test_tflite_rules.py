"""What each operation of a .tflite file is asked: one of each passes and runs, what breaks a demand does not."""

import re
import struct
from dataclasses import replace

import pytest
from ai_edge_litert.interpreter import Interpreter
from tflite_files import F16, I8, I16, I32, OPS, VALID, T, written

from mbn_deploy.errors import InputError
from mbn_deploy.runtime.backends import check_model
from mbn_deploy.runtime.formats.flatbuffer import root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER


@pytest.mark.parametrize("name", OPS)
def test_one_of_each_kind_passes_and_runs(name):
    data = written(OPS[name])
    check_model(data, "tflite", "m.tflite")
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    assert tuple(output["shape"]) == OPS[name].output.shape


def refused(data):
    with pytest.raises(InputError) as caught:
        check_model(data, "tflite", "m.tflite")
    return str(caught.value)


OUTPUT = -1
# (operation, {input's number or OUTPUT: what changes, None for an input that is missing}, options that change, answer)
WRONG = [
    ("conv", {0: None}, {}, "CONV_2D has 0 of 3 inputs"),
    ("conv", {1: {"shape": (2, 3, 4)}}, {}, "a filter of shape (2, 3, 4) for (1, 8, 6, 4)"),
    ("conv", {1: {"shape": (2, 3, 3, 3)}}, {}, "a filter of shape (2, 3, 3, 3) for (1, 8, 6, 4)"),
    ("conv", {1: {"shape": (3, 3, 3, 2)}}, {}, "a filter of shape (3, 3, 3, 2) for (1, 8, 6, 4)"),  # groups of 1.5
    ("conv", {1: {"kind": I16}}, {}, "types 0, 7 and 0"),
    ("conv", {0: {"shape": (0, 8, 6, 4)}}, {}, "there is nothing to add up"),
    ("conv", {}, {"padding": 2}, "padding 2"),
    ("conv", {1: {"shape": (2, 9, 3, 4)}}, {"padding": VALID}, "a window of (9, 3) on (8, 6)"),
    ("conv", {}, {"strideH": 0}, "windows and steps of [0, 1]"),
    ("conv", {}, {"dilationWFactor": 4097}, "windows and steps of [1, 4097]"),
    ("conv", {2: {"shape": (3,)}}, {}, "a bias of shape (3,) and type 0 for 2 outputs"),
    ("conv", {2: {"kind": I32}}, {}, "a bias of shape (2,) and type 2 for 2 outputs"),
    ("conv", {OUTPUT: {"shape": (1, 8, 6, 3)}}, {}, "its output would have shape (1, 8, 6, 2), not (1, 8, 6, 3)"),
    ("conv8", {0: {"scales": (0.0,)}}, {}, "'t0' has a scale of 0"),
    ("conv8", {0: {"scales": ()}}, {}, "integers without a scale"),
    ("conv8", {1: {"scales": ()}}, {}, "its filter has no scale"),
    ("conv8", {1: {"scales": (0.1,) * 3, "axis": 1}}, {}, "its filter has scales along axis 1"),
    ("conv8", {OUTPUT: {"scales": (0.00007,)}}, {}, "its output's scale is too small for what is added up"),
    ("hybrid", {1: {"scales": ()}}, {}, "its filter has no scale"),
    ("depthwise", {1: {"shape": (2, 3, 3, 8)}}, {}, "a filter of shape (2, 3, 3, 8) for (1, 8, 6, 4)"),
    ("depthwise", {1: {"shape": (1, 3, 3, 6)}}, {}, "a filter of shape (1, 3, 3, 6) for (1, 8, 6, 4)"),
    ("depthwise", {}, {"depthMultiplier": 3}, "a depth multiplier of 3"),
    ("dense", {1: {"shape": (2, 2, 2)}}, {}, "a filter of shape (2, 2, 2) for (1, 4)"),
    ("dense", {1: {"shape": (2, 3)}}, {}, "a filter of shape (2, 3) for (1, 4)"),
    ("dense", {}, {"weightsFormat": 1}, "weights in another order"),
    ("dense", {OUTPUT: {"shape": (1, 3)}}, {}, "an output of shape (1, 3)"),
    ("pool", {0: {"shape": (8, 6, 4)}}, {}, "an input of shape (8, 6, 4)"),
    ("pool", {}, {"filterWidth": 0}, "a window of 2 x 0"),
    ("pool", {}, {"filterHeight": 4097}, "a window of 4097 x 2"),
    ("relu", {OUTPUT: {"kind": I8}}, {}, "types [0, 9]"),
    ("add8", {1: {"scales": (0.1,) * 4}}, {}, "a scale for each channel of what flows"),
    ("quantize", {OUTPUT: {"scales": ()}}, {}, "integers without a scale"),
    ("quantize", {OUTPUT: {"kind": I32}}, {}, "types 0 and 2"),
    ("dequantize", {0: {"scales": ()}}, {}, "integers without a scale"),
    ("dequantize", {OUTPUT: {"kind": F16}}, {}, "types 9 and 1"),
    ("add", {1: {"shape": (5, 1)}}, {}, "shapes (1, 8, 6, 4) and (5, 1)"),
    ("add", {1: None}, {}, "ADD has 1 of 2 inputs"),
    ("reshape", {OUTPUT: {"kind": I32}}, {}, "types 0 and 2"),
    ("reshape", {OUTPUT: {"shape": (1, 191)}}, {}, "(1, 8, 6, 4) does not become (1, 191)"),
    ("reshape", {1: {"data": [-2, 192]}}, {}, "a shape of (-2, 192)"),
    ("reshape", {1: {"data": [1, 193]}}, {}, "a shape of (1, 193)"),
    ("mean", {1: {"data": None}}, {}, "axes None of (1, 8, 6, 4)"),
    ("mean", {1: {"data": [1, 4]}}, {}, "axes (1, 4) of (1, 8, 6, 4)"),
    ("mean", {OUTPUT: {"kind": I32}}, {}, "(1, 8, 6, 4) of types 0 and 2"),
    ("mean", {}, {"keepDims": False}, "its output would have shape (1, 4), not (1, 1, 1, 4)"),
    ("pad", {1: {"data": None}}, {}, "amounts None for (1, 8, 6, 4)"),
    ("pad", {1: {"data": [0, 0, -1, 0, 0, 2, 0, 0]}}, {}, "amounts (0, 0, -1, 0, 0, 2, 0, 0)"),
    ("pad", {1: {"data": [0, 0, 4097, 0, 0, 2, 0, 0]}}, {}, "amounts (0, 0, 4097, 0, 0, 2, 0, 0)"),
    ("pad", {1: {"shape": (3, 2), "data": [0] * 6}}, {}, "amounts (0, 0, 0, 0, 0, 0)"),
    ("pad", {OUTPUT: {"kind": I32}}, {}, "types 0 and 2"),
    ("pad", {OUTPUT: {"shape": (1, 9, 9, 4)}}, {}, "its output would have shape (1, 9, 8, 4), not (1, 9, 9, 4)"),
    ("concatenation", {}, {"axis": 4}, "axis 4 of (1, 8, 6, 4)"),
    ("concatenation", {}, {"axis": 1}, "shapes (1, 8, 6, 4) and (1, 8, 6, 1)"),
    ("concatenation", {1: {"shape": (8, 6, 1)}}, {}, "shapes (1, 8, 6, 4) and (8, 6, 1)"),
    ("concatenation", {OUTPUT: {"shape": (1, 8, 6, 6)}}, {}, "its output would have shape (1, 8, 6, 5)"),
    ("transpose", {1: {"data": None}}, {}, "its amounts are no constants"),
    ("transpose", {1: {"data": [0, 3, 1, 2**20 + 1]}}, {}, "an amount is too large"),
    ("deconvolution", {0: {"data": [1, 8, 6, 4097]}}, {}, "its shape is no constant, or too large"),
    ("deconvolution", {0: {"data": None}}, {}, "its shape is no constant, or too large"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tensors", "options", "answer"), WRONG, ids=[f"{name}: {answer}" for name, _, _, answer in WRONG]
)
def test_what_breaks_a_demand_is_refused(name, tensors, options, answer):
    op = OPS[name]
    changed = [
        tensor if number not in tensors else tensors[number] and replace(tensor, **tensors[number])
        for number, tensor in enumerate(op.inputs)
    ]
    output = replace(op.output, **tensors.get(OUTPUT, {}))
    said = refused(written(replace(op, inputs=tuple(changed), output=output, fields=op.fields | options)))
    assert answer in said
    assert said.startswith("m.tflite: damaged, or no TFLite file: ")


def test_a_shape_that_is_open_is_not_compared():
    op = OPS["conv"]
    check_model(written(replace(op, output=T((1, 1, 1, 2), free=True))), "tflite", "m.tflite")
    dense = OPS["dense"]
    check_model(written(replace(dense, output=T((1, 1), free=True))), "tflite", "m.tflite")
    check_model(written(replace(OPS["reshape"], output=T((1, 1), free=True))), "tflite", "m.tflite")
    assert "would have shape" in refused(written(replace(op, output=T((1, 1, 1, 2)))))


def test_a_bias_may_be_missing_in_its_place():
    op = OPS["dense"]
    check_model(written(replace(op, inputs=(*op.inputs[:2], None))), "tflite", "m.tflite")
    conv = OPS["conv"]
    assert "CONV_2D has 2 of 3 inputs" in refused(written(replace(conv, inputs=(*conv.inputs[:2], None))))


def _sparse(model, s):
    model.subgraphs[0].tensors[1].sparsity = s.SparsityParametersT()


def _type(model, s):
    model.subgraphs[0].tensors[0].type = s.TensorType.STRING


def _detailed(model, s):
    model.subgraphs[0].tensors[0].quantization = made = s.QuantizationParametersT()
    made.detailsType, made.details = s.QuantizationDetails.CustomQuantization, s.CustomQuantizationT()


def _large(model, s):
    """Each within the bound of a tensor, both together not."""
    for tensor in (model.subgraphs[0].tensors[0], model.subgraphs[0].tensors[-1]):
        tensor.shape = [1, 2**13, 2**13, 3]


def _endless(model, s):
    """A window of 4096 x 4096 over 1024 x 1024."""
    options = model.subgraphs[0].operators[0].builtinOptions
    options.filterWidth = options.filterHeight = 4096
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = [1, 1024, 1024, 4]


def _version(model, s):
    model.operatorCodes[0].version = 0


def _own(model, s):
    model.operatorCodes[0].customCode = b"Mine"


def _over_the_input(model, s):
    model.subgraphs[0].operators[0].outputs = model.subgraphs[0].outputs = [0]


def _signature(graph, tensor):
    def change(model, s):
        signature, entry = s.SignatureDefT(), s.TensorMapT()
        entry.name, entry.tensorIndex = b"x", tensor
        signature.signatureKey, signature.subgraphIndex, signature.inputs = b"serving", graph, [entry]
        model.signatureDefs = [signature]

    return change


def _no_graph(model, s):
    model.subgraphs = []


FILE_WRONG = [
    ("conv", _sparse, "tensor 't1' is sparse"),
    ("relu", _type, "tensor 't0' has type 5, which no picture classifier needs"),
    ("relu", _detailed, "tensor 't0' is quantized in a way that no picture classifier needs"),
    ("relu", _large, "MB at once, too much for any picture classifier"),
    ("pool", _endless, "multiplications, too many for any picture classifier"),
    ("relu", _version, "an operation has code 19 and version 0"),
    ("relu", _own, "'Mine' is an operation of somebody's own"),
    ("relu", _over_the_input, "tensor 't0' is written to although something stands in it"),
    ("relu", _signature(1, 0), "a signature is for graph 1, there are 1"),
    ("relu", _signature(0, 2), "a signature names tensor 2, there are 2"),
    ("relu", _no_graph, "there is no graph in it"),
]


@pytest.mark.parametrize(("name", "change", "answer"), FILE_WRONG, ids=[answer for _, _, answer in FILE_WRONG])
def test_what_no_picture_classifier_has_is_refused(name, change, answer):
    assert answer in refused(written(OPS[name], change))


def test_a_signature_that_fits_passes():
    check_model(written(OPS["relu"], _signature(0, 1)), "tflite", "m.tflite")


def _put(data, place, code, value):
    changed = bytearray(data)
    struct.pack_into(f"<{code}", changed, place, value)
    return bytes(changed)


def _vtable(data, table):
    return table.position - struct.unpack_from("<i", data, table.position)[0]


def _options_of(model):
    return model.tables(2)[0].tables(3)[0].table(4)


def _cut_options(data, model):
    """The options' table ends a byte behind the start of their last number."""
    options = _options_of(model)
    last = max(place for place in map(options.field_position, range(7)) if place is not None)
    return _put(data, _vtable(data, options) + 2, "H", last - options.position + 1)


PLACE_WRONG = [
    (lambda data, model: _put(data, model.field_position(2), "I", 0), r"the reference at byte \d+ points nowhere"),
    (lambda data, model: _put(data, model.field_position(2), "I", 2**31), r"the reference at byte \d+ points nowhere"),
    (
        lambda data, model: _put(data, model.tables(4)[1].vector(0, 1)[0] - 4, "I", 2**31),
        r"2147483648 elements of 1 bytes at byte \d+ reach beyond",
    ),
    (
        lambda data, model: _put(
            data, model.field_position(2), "I", model.vector(2, 4)[0] - 4 - model.field_position(2) + 2
        ),
        r"byte \d+ is no place for a number of 4 bytes",
    ),
    (
        lambda data, model: _put(data, _vtable(data, model) + 4, "H", 0xFFF0),
        r"field 0 of the table at byte \d+ \(Model\) lies outside of it",
    ),
    (
        lambda data, model: _put(data, _vtable(data, model) + 2, "H", 0xFFFF),
        r"the table at byte \d+ \(Model\) reaches beyond the end",
    ),
    (_cut_options, r"an option of the table at byte \d+ lies outside of it"),
]


@pytest.mark.parametrize(("change", "answer"), PLACE_WRONG, ids=[answer for _, answer in PLACE_WRONG])
def test_what_does_not_lie_where_the_format_has_it_is_refused(change, answer):
    data = written(OPS["conv"])
    assert re.search(answer, refused(change(data, root(data, IDENTIFIER))))
