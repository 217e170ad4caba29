"""A thin layer over the ONNX protobuf: nodes, constants, one input, some outputs.

It knows the file format and nothing of networks. The same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from mbn_deploy.arrays import Array
from mbn_deploy.errors import InputError, MissingExtraError
from mbn_deploy.version import __version__

# The oldest opset with all operators used here (HardSwish 14, per-channel DequantizeLinear 13, integer Clip 12) that
# ONNX Runtime (>= 1.12), OpenVINO and TensorRT read without conversion. Later ones only add types to these.
OPSET = 17
# The IR version that came with opset 17. Without it the onnx package writes its own newest one (13 for onnx 1.23),
# and ONNX Runtime refuses files that are newer than itself (1.19 reads up to 10).
IR_VERSION = 8
PRODUCER = "mbn-deploy"


def onnx_module() -> Any:
    """Return the onnx package.

    Raises:
        MissingExtraError: the export extra is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export", "to read and write .onnx files") from error
    return onnx


class OnnxBuilder:
    """Collects one graph and packs it. Nodes and constants keep the order in which they came."""

    def __init__(self, name: str) -> None:
        self._onnx = onnx_module()
        self._name = name
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def node(self, op_type: str, name: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node and return `output`."""
        self._nodes.append(self._onnx.helper.make_node(op_type, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: Array) -> str:
        """Add a constant, unless there is one of that name, and return `name`."""
        if name not in self._constants:
            contiguous = np.asarray(value, order="C")  # ascontiguousarray would turn a scalar into a vector
            self._constants[name] = self._onnx.numpy_helper.from_array(contiguous, name)
        return name

    def finish(
        self,
        source: tuple[str, str, Sequence[int]],
        results: Sequence[tuple[str, str, Sequence[int]]],
        metadata: Mapping[str, str],
    ) -> bytes:
        """Return the file's bytes, checked by onnx with full shape inference.

        `source` and `results` are (name, dtype, shape) of the input and the outputs.

        Raises:
            InputError: onnx' checker refuses the file.
        """
        helper = self._onnx.helper
        nodes = _needed(self._nodes, {name for name, *_ in results})
        read = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            self._name,
            [self._value(*source)],
            [self._value(*result) for result in results],
            [constant for name, constant in self._constants.items() if name in read],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(sorted(metadata.items())))
        self._check(model)
        return cast("bytes", model.SerializeToString(deterministic=True))

    def _value(self, name: str, dtype: str, shape: Sequence[int]) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))

    def _check(self, model: Any) -> None:
        checker = self._onnx.checker
        try:
            checker.check_model(model, full_check=True)
        except (checker.ValidationError, self._onnx.shape_inference.InferenceError) as error:
            raise InputError(f"model {self._name!r} gives no valid ONNX file: {error}") from error


def _needed(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """Return the nodes, in order, that the `wanted` values depend on; runtimes would execute the others too."""
    kept, needed = [], set(wanted)
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]
