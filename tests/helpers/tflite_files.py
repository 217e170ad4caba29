"""Write TFLite files of one operation each with the schema's own classes: `written(OPS["conv"])`."""

from dataclasses import dataclass, field

import flatbuffers
import numpy as np

from mbn_deploy.export.tflite.builder import schema

F32, F16, I32, I16, I8 = 0, 1, 2, 7, 9
DTYPES = {F32: "<f4", F16: "<f2", I32: "<i4", I16: "<i2", I8: "i1"}
SAME, VALID = 0, 1


@dataclass(frozen=True)
class T:
    """A tensor; `data` makes a constant of it: one number everywhere, or all of them."""

    shape: tuple
    kind: int = F32
    data: object = None
    scales: tuple = ()
    axis: int = 0
    free: bool = False  # its first axis is open


@dataclass(frozen=True)
class Op:
    kind: str
    inputs: tuple
    output: T
    options: str | None = None
    fields: dict = field(default_factory=dict)
    version: int = 1


def scaled(kind, shape, *scales, **more):
    return T(shape, kind, scales=scales, **more)


WINDOW = {"padding": SAME, "strideW": 1, "strideH": 1}
CONV = WINDOW | {"dilationWFactor": 1, "dilationHFactor": 1}
POOL = WINDOW | {"filterWidth": 2, "filterHeight": 2}
IMAGE, OUT = T((1, 8, 6, 4)), T((1, 8, 6, 2))
OPS = {
    "conv": Op("CONV_2D", (IMAGE, T((2, 3, 3, 4), data=0), T((2,), data=0)), OUT, "Conv2D", CONV),
    "conv8": Op(
        "CONV_2D",
        (
            scaled(I8, (1, 8, 6, 4), 0.1),
            scaled(I8, (2, 3, 3, 4), 0.1, 0.2, data=1),
            scaled(I32, (2,), 0.01, 0.02, data=0),
        ),
        scaled(I8, (1, 8, 6, 2), 0.1), "Conv2D", CONV, 3,
    ),
    "hybrid": Op("FULLY_CONNECTED", (T((1, 4)), scaled(I8, (2, 4), 0.1, data=1)), T((1, 2)), "FullyConnected", {}, 3),
    "depthwise": Op(
        "DEPTHWISE_CONV_2D", (IMAGE, T((1, 3, 3, 8), data=0), T((8,), data=0)), T((1, 8, 6, 8)), "DepthwiseConv2D",
        CONV | {"depthMultiplier": 2},
    ),
    "dense": Op("FULLY_CONNECTED", (T((1, 4)), T((2, 4), data=1), T((2,), data=0)), T((1, 2)), "FullyConnected"),
    "pool": Op("MAX_POOL_2D", (IMAGE,), IMAGE, "Pool2D", POOL),
    "relu": Op("RELU", (IMAGE,), IMAGE),
    "quantize": Op("QUANTIZE", (IMAGE,), scaled(I8, IMAGE.shape, 0.1)),
    "dequantize": Op("DEQUANTIZE", (scaled(I8, IMAGE.shape, 0.1),), IMAGE, version=2),
    "add": Op("ADD", (IMAGE, T((6, 1), data=1)), IMAGE, "Add"),
    "add8": Op("ADD", (scaled(I8, (1, 4), 0.1), scaled(I8, (4,), 0.1, data=1)), scaled(I8, (1, 4), 0.2), "Add", {}, 2),
    "reshape": Op("RESHAPE", (IMAGE, T((2,), I32, [-1, 192])), T((1, 192)), "Reshape"),
    "mean": Op("MEAN", (IMAGE, T((2,), I32, [1, -2])), T((1, 1, 1, 4)), "Reducer", {"keepDims": True}),
    "pad": Op("PAD", (IMAGE, T((4, 2), I32, [0, 0, 1, 0, 0, 2, 0, 0])), T((1, 9, 8, 4))),
    "concatenation": Op(
        "CONCATENATION", (IMAGE, T((1, 8, 6, 1), data=1)), T((1, 8, 6, 5)), "Concatenation", {"axis": -1}
    ),
    "transpose": Op("TRANSPOSE", (IMAGE, T((4,), I32, [0, 3, 1, 2])), T((1, 4, 8, 6))),
    "deconvolution": Op(
        "TRANSPOSE_CONV", (T((4,), I32, [1, 8, 6, 2]), T((2, 3, 3, 4), data=0), IMAGE), OUT, "TransposeConv", WINDOW
    ),
    "pack": Op("PACK", (IMAGE, IMAGE), T((2, 1, 8, 6, 4)), "Pack", {"valuesCount": 2, "axis": 0}),
}  # fmt: skip


def written(op, change=lambda model, s: None):
    """Return the file's bytes; `change` gets the model before. Inputs that are one object are one tensor."""
    s = schema()
    inputs = list({id(tensor): tensor for tensor in op.inputs if tensor is not None}.values())
    places = {id(tensor): number for number, tensor in enumerate(inputs)}
    model, graph, operator, code = s.ModelT(), s.SubGraphT(), s.OperatorT(), s.OperatorCodeT()
    model.version, model.buffers = 3, [s.BufferT()]
    graph.tensors = [_tensor(s, model, number, tensor) for number, tensor in enumerate((*inputs, op.output))]
    graph.inputs = [number for number, tensor in enumerate(inputs) if tensor.data is None]
    graph.outputs = [len(inputs)]
    code.builtinCode, code.version = getattr(s.BuiltinOperator, op.kind), op.version
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    operator.inputs = [-1 if tensor is None else places[id(tensor)] for tensor in op.inputs]
    operator.outputs = graph.outputs
    if op.options is not None:
        operator.builtinOptionsType = getattr(s.BuiltinOptions, f"{op.options}Options")
        operator.builtinOptions = getattr(s, f"{op.options}OptionsT")()
        for name, value in op.fields.items():
            setattr(operator.builtinOptions, name, value)
    graph.operators, model.subgraphs, model.operatorCodes = [operator], [graph], [code]
    change(model, s)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(s, model, number, tensor):
    made = s.TensorT()
    made.name, made.shape, made.type = f"t{number}", list(tensor.shape), tensor.kind
    made.shapeSignature = [-1, *tensor.shape[1:]] if tensor.free else None
    if tensor.data is not None:
        values = np.asarray(tensor.data, DTYPES[tensor.kind])
        values = values if values.ndim else np.full(tensor.shape, values)
        buffer = s.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if tensor.scales:
        made.quantization = s.QuantizationParametersT()
        made.quantization.scale, made.quantization.quantizedDimension = list(tensor.scales), tensor.axis
        made.quantization.zeroPoint = [0] * len(tensor.scales)
    return made
