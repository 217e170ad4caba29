"""Twists of the operations and graphs of a .tflite model, and of what it says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz_tflite_picks import NUMBERS, REALS, Rng, options_of, pick_graph, pick_operator, pick_tensor


def left_out(model: Any, _: Any, rng: Rng) -> None:
    """Leave an input out, or remove the last ones."""
    operator = pick_operator(model, rng)
    if not len(operator.inputs):
        return
    if rng.random() < 0.5:
        operator.inputs[rng.randrange(len(operator.inputs))] = -1
    else:
        operator.inputs = list(operator.inputs)[: rng.randrange(len(operator.inputs))]


def surplus(model: Any, _: Any, rng: Rng) -> None:
    """Add inputs or outputs."""
    graph = pick_graph(model, rng)
    operator = rng.choice(graph.operators)
    more = [rng.choice((-1, rng.randrange(len(graph.tensors)))) for _ in range(rng.choice((1, 1, 2, 30)))]
    if rng.random() < 0.6:
        operator.inputs = [*operator.inputs, *more]
    else:
        operator.outputs = [*operator.outputs, *(max(0, n) for n in more)]


def no_output(model: Any, _: Any, rng: Rng) -> None:
    """Remove outputs of an operation."""
    operator = pick_operator(model, rng)
    operator.outputs = list(operator.outputs)[: rng.randrange(1 + len(operator.outputs))]


def other_input(model: Any, _: Any, rng: Rng) -> None:
    """Let an operation read any tensor, its own output or a later one among them."""
    graph = pick_graph(model, rng)
    operator = rng.choice(graph.operators)
    if len(operator.inputs):
        operator.inputs[rng.randrange(len(operator.inputs))] = rng.randrange(len(graph.tensors))


def other_output(model: Any, _: Any, rng: Rng) -> None:
    """Let an operation write any tensor: a constant, its own input, the picture, what another one wrote."""
    graph = pick_graph(model, rng)
    operator = rng.choice(graph.operators)
    if len(operator.outputs):
        at = rng.randrange(len(operator.outputs))
        targets = [n for n in operator.inputs if n >= 0] if rng.random() < 0.5 else []
        operator.outputs[at] = rng.choice(targets or range(len(graph.tensors)))


def reference(model: Any, _: Any, rng: Rng) -> None:
    """Refer to a tensor, a buffer, an operation code that is not there."""
    operator, bad = pick_operator(model, rng), rng.choice((-2, 1000, 2**31 - 1, -(2**31)))
    choice = rng.randrange(5)
    if choice == 0 and len(operator.inputs):
        operator.inputs[0] = bad
    elif choice == 1 and len(operator.outputs):
        operator.outputs[0] = bad
    elif choice == 2:
        operator.opcodeIndex = abs(bad) % 2**31
    elif choice == 3:
        pick_tensor(model, rng).buffer = abs(bad) % 2**31
    else:
        pick_graph(model, rng).outputs = [bad]


def option(model: Any, _: Any, rng: Rng) -> None:
    """Set a field of an operation's options to an extreme value."""
    operators = [o for g in model.subgraphs for o in g.operators]
    candidates = [o for o in operators if vars(o.builtinOptions or o.builtinOptions2 or object).keys()]
    candidates = [o for o in candidates if (o.builtinOptions or o.builtinOptions2) and vars(options_of(o))]
    if not candidates:
        return
    options = options_of(rng.choice(candidates))
    field = rng.choice(list(vars(options)))
    value = getattr(options, field)
    if isinstance(value, (bool, np.bool_)):
        setattr(options, field, not value)
    elif isinstance(value, float):
        setattr(options, field, rng.choice(REALS))
    elif isinstance(value, int):
        setattr(options, field, rng.choice((0, 1, 2, 3, 5, 17, 100, 127, *NUMBERS)))
    else:
        setattr(options, field, [rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 2, 3, 9)))])


def no_options(model: Any, _: Any, rng: Rng) -> None:
    """Take an operation's options away, or give it another's."""
    operator, other = pick_operator(model, rng), pick_operator(model, rng)
    if rng.random() < 0.5:
        operator.builtinOptionsType, operator.builtinOptions = 0, None
        operator.builtinOptions2Type, operator.builtinOptions2 = 0, None
    else:
        operator.builtinOptionsType, operator.builtinOptions = other.builtinOptionsType, other.builtinOptions


def operation(model: Any, _: Any, rng: Rng) -> None:
    """Make another operation of one, or change its version or its old code."""
    code = rng.choice(model.operatorCodes)
    choice = rng.randrange(4)
    if choice < 2:
        code.builtinCode = rng.randrange(210)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif choice == 2:
        code.version = rng.choice((0, 2, 3, 4, 5, 7, 12, 100, -1, 2**31 - 1))
    else:
        code.deprecatedBuiltinCode = rng.choice((-128, -1, 0, 32, 127))


def order(model: Any, _: Any, rng: Rng) -> None:
    """Shuffle the operations: some read what is not written yet."""
    rng.shuffle(pick_graph(model, rng).operators)


def ends(model: Any, _: Any, rng: Rng) -> None:
    """Change the inputs and outputs of a graph: none, more, twice the same, constants."""
    graph = pick_graph(model, rng)
    field = rng.choice(("inputs", "outputs"))
    kept = list(getattr(graph, field))
    anything = rng.randrange(len(graph.tensors))
    setattr(graph, field, rng.choice(([], kept * 2, [*kept, anything], [anything], None)))


def signatures(model: Any, schema: Any, rng: Rng) -> None:
    """Add a signature that names tensors and subgraphs that are not there, or without names."""
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = rng.choice(("serving_default", "", None)), rng.choice((0, 1, 7, 2**31))
    for field in ("inputs", "outputs"):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = rng.choice(("x", "", None)), rng.choice((0, 1, 2, 1000, 2**32 - 1))
        setattr(made, field, [entry])
    model.signatureDefs = [made] * rng.choice((1, 1, 2))


def metadata(model: Any, schema: Any, rng: Rng) -> None:
    """Add metadata of names that interpreters know, that points anywhere."""
    made = schema.MetadataT()
    names = ("min_runtime_version", "reduced_precision_support", "TFLITE_METADATA", "CONVERSION_METADATA", "", None)
    made.name, made.buffer = rng.choice(names), rng.choice((0, 0, len(model.buffers) - 1, 1000, 2**31))
    model.metadata = [made]


def unnamed(model: Any, _: Any, rng: Rng) -> None:
    """Give a tensor no name, a long one, or that of another."""
    pick_tensor(model, rng).name = rng.choice((None, "", "t0", "x" * 5000, "\n\x1b[31m"))


def external(model: Any, schema: Any, rng: Rng) -> None:
    """Let a tensor's data lie in another file."""
    group, buffer = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
    group.name = rng.choice(("/etc/passwd", "weights.bin", "../x", "", None))
    buffer.id, buffer.offset, buffer.length = 1, rng.choice((0, 2**40)), rng.choice((0, 4, 2**40))
    model.externalBufferGroups, model.externalBuffers = [group], [buffer]
    tensor = pick_tensor(model, rng)
    tensor.externalBuffer, tensor.buffer = rng.choice((1, 1, 2, 1000)), rng.choice((0, tensor.buffer))


def subgraphs(model: Any, schema: Any, rng: Rng) -> None:
    """Let control flow call its own graph, one that is not there, or one of other inputs; or call where nothing did."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            options = options_of(operator)
            for field in vars(options) if options is not None else ():
                if field.endswith("SubgraphIndex") and rng.random() < 0.7:
                    setattr(options, field, rng.choice((0, 0, 1, 2, 3, 100, -1)))
    if len(model.subgraphs) > 1 and rng.random() < 0.4:  # a body that calls itself
        graph = rng.choice(model.subgraphs[1:])
        made, options = schema.OperatorT(), schema.IfOptionsT()
        options.thenSubgraphIndex = options.elseSubgraphIndex = model.subgraphs.index(graph)
        made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.IfOptions, options
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.IF
        model.operatorCodes.append(code)
        made.opcodeIndex = len(model.operatorCodes) - 1
        made.inputs, made.outputs = list(graph.inputs or []), list(graph.outputs or [])
        graph.operators.append(made)


def custom_options(model: Any, _: Any, rng: Rng) -> None:
    """Give an operation custom options, intermediate tensors and variables that are none."""
    operator = pick_operator(model, rng)
    operator.customOptions = [rng.randrange(256) for _ in range(rng.choice((0, 1, 4, 40)))]
    operator.intermediates = [rng.choice((0, 1, 1000, -1))] * rng.choice((0, 1, 5))
    operator.mutatingVariableInputs = [True] * rng.choice((0, 1, 9))
    if rng.random() < 0.3:
        operator.largeCustomOptionsOffset = rng.choice((0, 2, 100, 2**40))
        operator.largeCustomOptionsSize = rng.choice((1, 100, 2**40))
