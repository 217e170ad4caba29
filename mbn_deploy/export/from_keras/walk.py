"""Following the calls inside a functional or sequential Keras model; nested models are flattened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.builder import Call, GraphBuilder, Handler, Tensor
from mbn_deploy.export.from_keras.handlers.training_only import TRAINS_BY_DEFAULT
from mbn_deploy.export.from_keras.supported import KEEPS_INTEGERS, LAYERS, OPERATIONS, SUPPORTED


def function_of(model: Any, where: str) -> Any:
    """Return the `keras.Function` of a functional or sequential model; refuse others, naming them by `where`."""
    own = [c.__name__ for c in type(model).__mro__ if not is_keras_class(c) and "call" in vars(c)]
    function = getattr(model, "_functional", None) if type(model).__name__ == "Sequential" else model
    if own or not hasattr(function, "_nodes_by_depth"):
        raise InputError(
            f"{where} ({type(model).__name__} {getattr(model, 'name', '?')!r}) is no functional or sequential Keras 3 "
            "model with a known input, so its layers cannot be walked; build it from keras.Input, or call it once"
        )
    return function


def is_keras_class(cls: type) -> bool:
    """Tell whether a class is one of Keras itself, or of Python's."""
    return cls is object or cls.__module__.split(".")[0] in ("keras", "builtins", "tensorflow")


def append_model(build: GraphBuilder, model: Any, tensors: tuple[Tensor, ...], scope: str = "") -> tuple[Tensor, ...]:
    """Append everything that `model` does to `tensors`, in the order in which `keras.Function` runs it.

    `scope` is the path of the models around it.
    """
    import keras

    function = function_of(model, f"the model inside {scope!r}" if scope else "the model")
    values = {id(k): t for k, t in zip(function.inputs, tensors, strict=True)}
    order = {id(op): i for i, op in enumerate(function.operations, 1)}
    for depth in sorted(function._nodes_by_depth, reverse=True):  # noqa: SLF001 (Keras has no public way to its nodes)
        for node in function._nodes_by_depth[depth]:  # noqa: SLF001
            if node.is_input or any(id(t) not in values for t in node.input_tensors):
                continue
            place = f"operation {order[id(node.operation)]} of {len(order)} in model {model.name!r}"
            args, kwargs = node.arguments.fill_in(values)
            call = Call(
                operation=node.operation,
                name="",
                place=place + (f" inside {scope!r}" if scope else ""),
                args=args,
                kwargs=kwargs,
                tensors=tuple(v for v in keras.tree.flatten((args, kwargs)) if isinstance(v, Tensor)),
                gives_integers=any("int" in str(t.dtype) for t in node.outputs),
            )
            results = _append_call(build, call, f"{scope}/{model.name}" if scope else model.name)
            _check_shapes(call, node.outputs, results)
            values.update((id(k), t) for k, t in zip(node.outputs, results, strict=True))
    return tuple(values[id(k)] for k in function.outputs)


def _check_shapes(call: Call, expected: Any, results: tuple[Tensor, ...]) -> None:
    """Compare the shapes of the graph with those that Keras computes: a second opinion on every option of a layer."""
    for k, t in zip(expected, results, strict=True):
        shape = tuple(k.shape)
        if len(shape) != len(t.shape) or any(n not in (None, m) for n, m in zip(shape[1:], t.shape[1:], strict=True)):
            raise call.refuse(f"its output would have the shape {t.shape}, but Keras says {shape}")


def _append_call(build: GraphBuilder, call: Call, scope: str) -> tuple[Tensor, ...]:
    import keras

    operation = call.operation
    if call.kwargs.get("training") and type(operation).__name__ not in TRAINS_BY_DEFAULT:
        raise call.refuse("it is called with training=True, so it would act as in training")
    if isinstance(operation, keras.Model):
        _check_nested(call)
        return append_model(build, operation, call.tensors, scope)
    handler = _handler(operation)
    if handler is None:
        raise call.refuse(f"this class is not in the supported set; {SUPPORTED}")
    if call.gives_integers and type(operation).__name__ not in KEEPS_INTEGERS:
        raise call.refuse("it computes with integers; cast its input to float32 first")
    if getattr(operation, "data_format", None) == "channels_first":
        raise call.refuse("it works on channels first (NCHW); build the model with channels_last")
    named = replace(call, name=build.unique(_name_of(operation), scope))
    result = handler(build, named)
    return result if isinstance(result, tuple) else (result,)


def _handler(operation: Any) -> Handler | None:
    """Return the handler of a layer or operation of Keras itself, None for others."""
    import keras

    kind = type(operation).__name__
    if not is_keras_class(type(operation)):
        return None
    if isinstance(operation, keras.Layer):
        return LAYERS.get(kind)
    return OPERATIONS[kind].handler if kind in OPERATIONS else None


def _check_nested(call: Call) -> None:
    """Refuse calls in which Keras would cast, reshape or reorder the inputs of a nested model."""
    function = function_of(call.operation, f"the model ({call.place})")
    if len(function.inputs) != 1 or len(call.tensors) != 1:
        raise call.refuse(
            f"it has {len(function.inputs)} inputs and is called with {len(call.tensors)}; one is expected"
        )
    shape = tuple(function.inputs[0].shape)
    if len(shape) != len(call.tensors[0].shape):
        raise call.refuse(f"it takes {shape} and is called with {call.tensors[0].shape}")
    if "int" in str(function.inputs[0].dtype):
        raise call.refuse("its input is cast to integers inside the model")


def _name_of(operation: Any) -> str:
    """Return a layer's name, or an operation's without the number that Keras counts over all models of a process."""
    import keras

    name = str(operation.name)
    return name if isinstance(operation, keras.Layer) else name.rstrip("0123456789").rstrip("_") or name
