"""Choose the ops of a mixed-precision graph that stay in float or get activations of 16 bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mbn_deploy.errors import InputError, UnknownNameError
from mbn_deploy.graph.graph import Graph, Op, OpKind
from mbn_deploy.graph.quantized import FLOAT_ONLY, NO_INT16
from mbn_deploy.text import shorten

# Lowering (`hard_swish`, `bounds`) names the ops that it adds to a layer LAYER/gate and so on.
LOWERED_PARTS = frozenset({"gate", "sixth", "bound", "unbounded"})
_ACTIVATIONS: frozenset[OpKind] = frozenset(
    {
        *("hard_swish", "sigmoid", "clip", "leaky_relu", "prelu", "elu", "gelu", "gelu_tanh", "tanh", "softplus"),
        *("softsign", "mish", "threshold"),
    }
)


def float_outputs(graph: Graph, blocks: int, layers: Sequence[str]) -> frozenset[str]:
    """Return the outputs of the ops in the first `blocks` blocks and of the `layers` (names of ops or outputs).

    Raises:
        UnknownNameError: the graph has no such layer.
    """
    return frozenset([*_first_blocks(graph, blocks), *layer_outputs(graph, layers)])


def without_integer_form(graph: Graph) -> list[Op]:
    """Return the ops that compute in float whatever the recipe says, since no kernel computes them in integers."""
    return [op for op in graph.ops if op.kind in FLOAT_ONLY]


def float_only_warnings(ops: Sequence[Op]) -> tuple[str, ...]:
    """Return a sentence about the `ops` without an integer form, none if there are none."""
    if not ops:
        return ()
    kinds = ", ".join(dict.fromkeys(op.kind for op in ops))
    text = (
        f"{shorten(dict.fromkeys(op.output for op in ops))} ({kinds}): there are no integer kernels for this, so it is "
        "computed in float, and the quantized files are called int8-mixed"
    )
    return (text,)


def check_int16(graph: Graph, outputs: Iterable[str]) -> None:
    """Refuse ops among those that write `outputs` which have no kernel with activations of 16 bits.

    Raises:
        InputError: names the layer.
    """
    wanted = set(outputs)
    for op in graph.ops:
        if op.output in wanted and op.kind in NO_INT16:
            raise InputError(
                f"layer {op.output!r} ({op.kind}): TFLite has no kernel for it with activations of 16 bits; leave out "
                "the precision int16x8, or this layer among those of 16 bits"
            )


def layer_outputs(graph: Graph, layers: Sequence[str]) -> list[str]:
    """Return the outputs of the ops whose own or whose output's name is one of `layers`; errors as `float_outputs`."""
    outputs = []
    for name in layers:
        named = [op.output for op in graph.ops if name in (op.name, op.output)]
        if not named:
            raise UnknownNameError("layer", name, [known for op in graph.ops for known in (op.output, op.name)])
        outputs += named
    return outputs


def int16_outputs(graph: Graph, layers: Sequence[str]) -> frozenset[str]:
    """Return the outputs of the ops of `layers` in the lowered `graph`, including the ops that lowering added."""
    return frozenset(op.output for op in graph.ops if not {*_origins(op.name), *_origins(op.output)}.isdisjoint(layers))


def _origins(name: str) -> tuple[str, ...]:
    """Return the name itself and, for an op that lowering added (`conv/gate`), the name of its layer."""
    outer, _, part = name.rpartition("/")
    return (name, outer) if part in LOWERED_PARTS else (name,)


def _first_blocks(graph: Graph, blocks: int) -> list[str]:
    """Return the outputs of all ops up to the end of block number `blocks`.

    A block ends with its projection, a linear pointwise convolution (V2, V3). In a network without projections (V1)
    it ends with a pointwise convolution and its ReLU6.
    """
    if blocks == 0:
        return []
    pointwise = [at for at, op in enumerate(graph.ops) if _pointwise(op, graph)]
    linear = [at for at in pointwise if graph.ops[at].activation == "none" and not _expands(graph, at)]
    ends = linear or pointwise
    if not ends:
        return []
    last = ends[min(blocks, len(ends)) - 1]
    return [op.output for op in graph.ops[: last + 1]]


def _pointwise(op: Op, graph: Graph) -> bool:
    """Return whether `op` is a 1x1 convolution on an image, not on a vector as in squeeze-and-excitation."""
    shape = graph.shapes[op.output]
    return op.kind == "conv" and op.weights()[0].shape[:2] == (1, 1) and shape[1] * shape[2] > 1


def _expands(graph: Graph, at: int) -> bool:
    """Return whether an op of its own activates the result: then this is an expansion, not a projection."""
    return any(reader.kind in _ACTIVATIONS for reader in graph.readers()[graph.ops[at].output])
