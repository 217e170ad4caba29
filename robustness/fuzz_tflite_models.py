"""Build .tflite files from scratch, well formed and of doubtful meaning: `tflite_file(seed, number)`.

A file takes a picture and gives a row of scores, so that it can pass for a classifier. In between stands one operation
of `fuzz_tflite_ops.py`, valid at first; then nothing, or some twists of `fuzz_tflite_twists.py`, make it strange.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from fuzz_tflite_ops import LETTERS, OPTIONS, VERSIONS, WITHOUT_KERNELS, OperationUse, TensorUse, operation_uses
from fuzz_tflite_twists import GRAPH_TWISTS, twist

from mbn_deploy.export.tflite.builder import schema

IMAGE = (1, 4, 4, 3)
_IMAGE_USE = TensorUse("f", IMAGE, constant=False)
_TWISTS = (0, 1, 1, 1, 2, 2, 3, 5)  # how many, evenly
_LETTER_OF = {number: letter for letter, (number, _) in LETTERS.items()}


@lru_cache(maxsize=1)
def uses() -> list[OperationUse]:
    """Return the table of operations."""
    return operation_uses()


def tflite_file(seed: int, number: int) -> tuple[str, tuple[str, ...], bytes]:
    """Return (operation, names of the twists, bytes of the file); the same ones for the same seed and number."""
    for attempt in range(20):
        rng = random.Random(f"tflite {seed} {number} {attempt}")  # noqa: S311 (no secret)
        use = uses()[number % len(uses())]
        if attempt or (use.name in WITHOUT_KERNELS and rng.random() < 0.9):
            use = rng.choice(uses())
        made = ModelMaker(rng)
        made.classifier(use)
        try:
            names = tuple(_twisted(made, rng))
            return use.name, names, made.packed()
        except (struct.error, TypeError, OverflowError, ValueError, AttributeError, IndexError):
            continue  # a number that its field cannot hold, or a twist of what another has removed
    raise AssertionError(f"no file for seed {seed}, number {number}")


def _twisted(made: ModelMaker, rng: random.Random) -> Sequence[str]:
    names = [twist(made.model, made.schema, rng) for _ in range(rng.choice(_TWISTS))]
    if rng.random() < 0.03:
        chosen = rng.choice(GRAPH_TWISTS)
        names.append(chosen.__name__)
        chosen(made, rng)
    return names


class ModelMaker:
    """A model in the making: `model` is the schema's ModelT."""

    def __init__(self, rng: random.Random) -> None:
        self.schema: ModuleType = schema()
        self.rng = rng
        self.model: Any = self.schema.ModelT()
        self.model.version, self.model.buffers = 3, [self.schema.BufferT()]
        self.model.subgraphs, self.model.operatorCodes = [], []
        self.graph = self.subgraph()
        self._codes: dict[str, int] = {}

    def classifier(self, use: OperationUse) -> None:
        """Add a picture, the operation, and a row of scores, which depends on the operation or stands beside it."""
        rng = self.rng
        image = self.tensor(
            rng.choice(
                [_IMAGE_USE] * 4 + [TensorUse("u", IMAGE, constant=False), TensorUse("q", IMAGE, constant=False)]
            )
        )
        if self.graph.tensors[image].type:
            self.graph.tensors[image].quantization.scale = [1 / 255]
            self.graph.tensors[image].quantization.zeroPoint = [0 if self.graph.tensors[image].type == 3 else -128]
        self.graph.inputs = [image]
        inputs = [
            -1 if tensor is None else self._source(tensor, image, first=first) for first, tensor in _marked(use.inputs)
        ]
        if any(name.endswith(("SubgraphIndex", "SubgraphIndices")) for name in use.options) or use.name == "CALL_ONCE":
            self._bodies(use)
        if use.name == "HASHTABLE_IMPORT" or (use.inputs and use.inputs[0] is not None and use.inputs[0].letter == "r"):
            inputs[0] = self._resource(use)
        outputs = [self.tensor(tensor) for tensor in use.outputs]
        options = dict(use.options)
        if use.name == "CALL_ONCE":
            options["initSubgraphIndex"] = "1"
        self.operator(use.name, inputs, outputs, options)
        self._scores(use, image, outputs)

    def _scores(self, use: OperationUse, image: int, outputs: list[int]) -> None:
        """End in a row of scores: of what the operation wrote, in most files, or of the picture."""
        chance, source = self.rng.random(), image
        if use.outputs and chance < 0.1:
            self.graph.outputs = outputs[:1] if chance < 0.07 else outputs
            return
        if use.outputs and chance < 0.6 and use.outputs[0].letter in "fqulihdeb":
            source = outputs[0]
            if use.outputs[0].letter not in "fqu":
                source = self.tensor(TensorUse("f", use.outputs[0].shape, constant=False))
                self.operator("CAST", outputs[:1], [source], {})
        tensor = self.graph.tensors[source]
        row = TensorUse(_LETTER_OF[tensor.type], (1, int(np.prod(tensor.shape))), constant=False)
        flat, scores = self.tensor(row), self.tensor(row)
        if tensor.type:
            self.graph.tensors[flat].quantization = tensor.quantization
            self.graph.tensors[scores].quantization.scale = [1 / 256]
            self.graph.tensors[scores].quantization.zeroPoint = [0 if row.letter == "u" else -128]
        self.operator("RESHAPE", [source, self.constant("i", (2,), (1, -1))], [flat], {})
        self.operator("SOFTMAX", [flat], [scores], {"beta": "1"})
        self.graph.outputs = [scores]

    def _source(self, use: TensorUse, image: int, *, first: bool) -> int:
        """Return a tensor as the operation wants it: a constant, the picture, or computed from the picture."""
        if use.constant:
            return self.constant(use.letter, use.shape, use.values)
        if use.variable:
            return self.tensor(use)
        if use.shape == IMAGE and use.letter == "f" and self.graph.tensors[image].type == 0 and first:
            return image
        if use.letter in "sprvczwnbe" or self.graph.tensors[image].type != 0 or self.rng.random() < 0.3:
            return self.constant(use.letter, use.shape, ())
        total = self.tensor(TensorUse("f", (), constant=False))
        self.operator("SUM", [image, self.constant("i", (4,), (0, 1, 2, 3))], [total], {})
        spread = self.tensor(TensorUse("f", use.shape, constant=False))
        self.operator("MUL", [total, self.constant("f", use.shape, ())], [spread], {})
        if use.letter == "f":
            return spread
        result = self.tensor(use)
        self.operator("QUANTIZE" if use.letter in "quh" else "CAST", [spread], [result], {})
        return result

    def _resource(self, use: OperationUse) -> int:
        handle = self.tensor(TensorUse("r", (1,), constant=False))
        if "HASH" in use.name:
            self.operator("HASHTABLE", [], [handle], {"tableId": "1", "keyDtype": "4", "valueDtype": "5"})
        else:
            self.operator("VAR_HANDLE", [], [handle], {})
        return handle

    def _bodies(self, use: OperationUse) -> None:
        """Add two subgraphs that fit the operation: conditions, bodies, branches, functions of two scalars."""
        kept, scalar = self.graph, TensorUse("f", (), constant=False)
        table = TensorUse("f", (4, 3), constant=False)
        counter, flag = TensorUse("i", (), constant=False), TensorUse("b", (), constant=False)
        loop = use.name.endswith("WHILE")
        for second in (False, True):
            self.graph = self.subgraph()
            if loop:
                ins = [self.tensor(counter), self.tensor(table)]
                limit = self.constant("i", (), (1,) if second else (self.rng.choice([0, 1, 3, 3, 10, 1000]),))
                out = self.tensor(counter if second else flag)
                self.operator("ADD" if second else "LESS", [ins[0], limit], [out], {})
                outs = [out, ins[1]] if second else [out]
            elif use.inputs[1:] and "Indices" not in " ".join(use.options) and use.name != "IF":
                ins = [self.tensor(scalar), self.tensor(scalar)]
                outs = [self.tensor(scalar)]
                self.operator("STABLEHLO_ADD", ins, outs, {})
            else:
                like = use.outputs[0] if use.outputs else table
                ins, outs = ([self.tensor(like)], [self.tensor(like)]) if use.inputs else ([], [])
                if ins:
                    self.operator("NEG" if second else "ABS", ins, outs, {})
            self.graph.inputs, self.graph.outputs = ins, outs
        self.graph = kept

    def subgraph(self) -> Any:
        """Add an empty subgraph."""
        graph = self.schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self.model.subgraphs.append(graph)
        return graph

    def tensor(self, use: TensorUse) -> int:
        """Add a tensor that something writes; return its number."""
        made = self.schema.TensorT()
        made.name, made.shape, made.type = f"t{len(self.graph.tensors)}", list(use.shape), LETTERS[use.letter][0]
        if use.letter in "qup":
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [0.05], [0]
        made.isVariable = use.variable
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, letter: str, shape: tuple[int, ...], values: tuple[float, ...]) -> int:
        """Add a constant of these values, or of random small ones."""
        at = self.tensor(TensorUse(letter, shape, constant=True))
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(self._content(letter, shape, values), np.uint8)
        self.graph.tensors[at].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return at

    def _content(self, letter: str, shape: tuple[int, ...], values: tuple[float, ...]) -> bytes:
        count, dtype = int(np.prod(shape)), LETTERS[letter][1]
        if dtype is None:  # texts: their number, where each begins, where the last ends
            return struct.pack(f"<{count + 2}i", count, *[4 * (count + 2) + n for n in range(count + 1)]) + b"a" * count
        if not values:
            values = tuple(self.rng.choice((0, 1, 1, 2, 3)) for _ in range(count))
        content = np.asarray(values).astype(dtype).tobytes()
        return content[: (len(content) + 1) // 2] if letter == "p" else content

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: dict[str, str]) -> Any:
        """Add an operation with its options."""
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self._code(name), inputs, outputs
        self._set_options(made, name, options)
        self.graph.operators.append(made)
        return made

    def _set_options(self, made: Any, name: str, options: dict[str, str]) -> None:
        found = options_of(self.schema, name)
        if found is None:
            return
        title, second = found
        value = getattr(self.schema, f"{title}T")()
        for field, text in options.items():
            setattr(value, field, text if field == "name" else _option(text, getattr(value, field)))
        if second:
            made.builtinOptions2Type, made.builtinOptions2 = getattr(self.schema.BuiltinOptions2, title), value
        else:
            made.builtinOptionsType, made.builtinOptions = getattr(self.schema.BuiltinOptions, title), value

    def _code(self, name: str) -> int:
        if name not in self._codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.version = getattr(self.schema.BuiltinOperator, name), VERSIONS.get(name, 1)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            if name == "CUSTOM":
                code.customCode = self.rng.choice(CUSTOM)
            self._codes[name] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[name]

    def packed(self) -> bytes:
        """Return the file."""
        import flatbuffers

        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


CUSTOM = (
    "TFLite_Detection_PostProcess", "FlexAdd", "Mfcc", "AudioSpectrogram", "NumericVerify",
    "Convolution2DTransposeBias",
    "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "RandomUniform", "Irfft2d", "Rfft2d", "Multinomial", "HashTableV2", "",
)  # fmt: skip


@lru_cache(maxsize=1)
def _options_by_key() -> dict[str, tuple[str, bool]]:
    found = {}
    for union, second in ((schema().BuiltinOptions, False), (schema().BuiltinOptions2, True)):
        for title in vars(union):
            if title.endswith("Options"):
                found[title.removesuffix("Options").lower()] = title, second
    return found


def options_of(module: ModuleType, name: str) -> tuple[str, bool] | None:
    """Return the title of an operation's options, and whether they are in the second union; None without options."""
    _ = module
    return _options_by_key().get(OPTIONS.get(name, name.replace("_", "")).lower())


def _option(text: str, default: Any) -> Any:
    """Return a field's value as its type is: a number, or a list where the schema has no number by default."""
    if default is None:
        return [int(value) for value in text.split(",")]
    if isinstance(default, bool):
        return bool(int(text))
    return type(default)(float(text))


def _marked(inputs: Sequence[TensorUse | None]) -> list[tuple[bool, TensorUse | None]]:
    """Mark the first input that is not constant: it may be the picture itself."""
    first = next((n for n, tensor in enumerate(inputs) if tensor is not None and not tensor.constant), -1)
    return [(number == first, tensor) for number, tensor in enumerate(inputs)]
