"""Tell from a file's outline what it is made for, if that is not one picture in and one row of numbers out."""

from __future__ import annotations

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import FileFormat
from mbn_deploy.runtime.formats.outline import OPEN, FileOutline, TensorOutline, read_outline
from mbn_deploy.text import shorten

CHANNELS = (1, 3)
_ONE_ROW = "this program runs models that turn one picture into one row of numbers"
# Beginnings of the names of custom operations: what a file with one is, and what to do.
_CUSTOM = {
    "edgetpu-custom-op": "compiled for an Edge TPU, and nothing else can run it; take the .tflite file that it was "
    "compiled from, whose name usually lacks `_edgetpu`",
    "ethos-u": "compiled by Vela for an Arm Ethos-U, and nothing else can run it; take the .tflite file that it was "
    "compiled from, whose name usually lacks `_vela`",
    "Neutron": "converted for NXP's eIQ Neutron, and nothing else can run it; take the .tflite file that it was "
    "converted from",
    "XC_": "converted for an XMOS xcore, and nothing else can run it; take the .tflite file that it was converted from",
    "DISPATCH_OP": "compiled ahead of time for the accelerator of a phone, and nothing else can run it; take the "
    ".tflite file that it was compiled from",
    "TFLite_Detection_PostProcess": f"an object detector: it answers with boxes and their classes; {_ONE_ROW}. "
    "MediaPipe's Object Detector runs such files",
    "PosenetDecoderOp": f"a pose model: it answers with the key points of bodies; {_ONE_ROW}. Coral's pose examples "
    "run such files",
    "Signal": "a step of sound processing for TensorFlow Lite Micro; its custom operations run there only",
    "Flex": "a file with operations of TensorFlow itself ({names}), which the small interpreters do not have; convert "
    "the model again without tf.lite.OpsSet.SELECT_TF_OPS",
}
_OTHER_CUSTOM = "a file with custom operations ({names}), which run only with the library that brings them"
_WHOLE = ("int32", "int64", "uint32")
_PICTURE, _VIDEO, _BOX, _LARGEST_POINT = 4, 5, 4, 3  # axes, axes, numbers, numbers
_FIX_SIZE = {
    "tflite": "convert the model again from one whose input has a size, as keras.Input((224, 224, 3))",
    "onnx": "fix it with: python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name {name} --input_shape "
    "{shape} IN.onnx OUT.onnx",
}


def check_purpose(data: bytes, file_format: FileFormat, where: str) -> None:
    """Raise `InputError` that names `where` and says what the file is, if it is not one that this program can run."""
    purpose = other_purpose(read_outline(data, file_format, where), file_format)
    if purpose is not None:
        raise InputError(f"{where} is {purpose}")


def other_purpose(outline: FileOutline, file_format: FileFormat) -> str | None:
    """Return what a file is, and what to do instead, if it does not turn one picture into one row of numbers.

    None for a file that does, as far as its outline tells. The text ends a sentence: "an object detector: ..".
    """
    return _by_custom(outline.custom) or _by_inputs(outline.inputs, file_format) or _by_outputs(outline)


def _by_custom(custom: tuple[str, ...]) -> str | None:
    for start, what in _CUSTOM.items():
        if names := [name for name in custom if name.startswith(start)]:
            return what.format(names=shorten(names))
    return _OTHER_CUSTOM.format(names=shorten(custom)) if custom else None


def _by_inputs(inputs: tuple[TensorOutline, ...], file_format: FileFormat) -> str | None:
    """Return what a file is that does not take one picture of a fixed size."""
    if any(tensor.dtype == "string" for tensor in inputs) or (inputs and all(map(_is_tokens, inputs))):
        return f"a model of text: it takes {_listed(inputs)}; {_ONE_ROW}"
    if len(inputs) != 1:
        return f"a model with {len(inputs)} inputs ({_listed(inputs) or 'none'}); {_ONE_ROW}"
    tensor = inputs[0]
    if tensor.shape is None:
        return None
    axes = len(tensor.shape)
    if axes == _VIDEO:
        return f"a model of videos or volumes: it takes {_described(tensor)}; {_ONE_ROW}"
    if axes != _PICTURE:
        return _no_picture(tensor)
    return _by_picture(tensor, tensor.shape, file_format)


def _is_tokens(tensor: TensorOutline) -> bool:
    return tensor.dtype in _WHOLE and tensor.shape is not None and len(tensor.shape) < _VIDEO - 2


def _no_picture(tensor: TensorOutline) -> str:
    shape = tensor.shape or ()
    if len(shape) == _PICTURE - 1 and shape[-1] in CHANNELS and OPEN not in shape and min(shape[:2]) > 1:
        return (
            f"a model whose input of shape {shape} has no batch axis; convert it again with one: (1, height, width, "
            "channels)"
        )
    if len(shape) == _PICTURE - 1:
        return (
            f"a model of sound, of a series, or of pictures without an axis of channels: it takes {_described(tensor)} "
            "and not (1, height, width, channels)"
        )
    return f"a model of sound or of a row of values: it takes {_described(tensor)}; {_ONE_ROW}"


def _by_picture(tensor: TensorOutline, shape: tuple[int, ...], file_format: FileFormat) -> str | None:
    last = shape[3] in CHANNELS
    if not last and shape[1] not in CHANNELS:
        if OPEN in (shape[1], shape[3]):
            return f"a model whose input leaves its channels open: {_described(tensor)}; convert it again with a size"
        return f"a model that takes {_described(tensor)}, which is no picture with 1 or 3 channels; {_ONE_ROW}"
    sides = shape[1:3] if last else shape[2:4]
    if 1 in sides:
        return f"a part of a model, or a model of series: it takes {_described(tensor)}, one value high or wide"
    if OPEN not in sides:
        return None
    fixed = [1, *(224 if n == OPEN else n for n in shape[1:])]
    how = _FIX_SIZE[file_format].format(name=tensor.name, shape=",".join(map(str, fixed)))
    missing = " and ".join(name for name, n in zip(("height", "width"), sides, strict=True) if n == OPEN)
    return f"a model whose input leaves its {missing} open: {_described(tensor)}; {how}"


def _by_outputs(outline: FileOutline) -> str | None:
    """Return what a file is whose answer is not one row of numbers for a picture."""
    outputs = outline.outputs
    if len(outputs) != 1:
        boxes = any(t.shape is not None and len(t.shape) > 2 and t.shape[-1] == _BOX for t in outputs)
        what = "an object detector" if boxes else "a model"
        more = "" if boxes else "; export the Keras model with --output-layer to take one of them"
        return f"{what} with {len(outputs)} outputs ({_listed(outputs) or 'none'}); {_ONE_ROW}{more}"
    tensor = outputs[0]
    if tensor.shape is None:
        return None
    if tensor.dtype in ("string", "bool") or (tensor.dtype == "int64" and len(tensor.shape) < _PICTURE - 1):
        return f"a model that answers with {tensor.dtype} {_sizes(tensor.shape)}, the choice and not the scores"
    wide = [n for n in tensor.shape[1:] if n != 1]
    if OPEN in wide or len(wide) < 2:
        return None
    return f"{_map_of(tensor, wide)}: it answers with {_described(tensor)}; {_ONE_ROW}"


def _map_of(tensor: TensorOutline, wide: list[int]) -> str:
    """Return what an answer of several axes stands for; `wide` are the lengths that are not 1, without the batch."""
    if len(wide) == 2 and wide[-1] <= _LARGEST_POINT:
        return "a model of key points, such as a pose"
    if len(tensor.shape or ()) == _PICTURE or len(wide) > 2 or wide[0] == wide[1]:
        return "a segmentation, or another model that answers for every place of the picture"
    return "an object detector without its last step, or another model that answers with a table"


def _listed(tensors: tuple[TensorOutline, ...]) -> str:
    return shorten(f"{tensor.name!r}, {_described(tensor)}" for tensor in tensors)


def _described(tensor: TensorOutline) -> str:
    return f"{tensor.dtype} {'of unknown shape' if tensor.shape is None else _sizes(tensor.shape)}"


def _sizes(shape: tuple[int, ...]) -> str:
    """Write a shape as in 1×224×224×3, with a question mark for an open length."""
    return "×".join("?" if n == OPEN else str(n) for n in shape) or "of one value"
