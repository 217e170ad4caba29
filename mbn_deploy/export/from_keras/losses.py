"""The loss that a Keras model was compiled with, as far as it says what the model's outputs mean.

A file stores a loss as plain data, a model in memory has it as it was given to `compile`: by name, as an object, as a
function, or one of these for each output in a list or a dict. No code of a file is run to read it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# What a loss compares: probabilities of classes that exclude each other, independent probabilities, numbers, vectors.
LossKind = Literal["categorical", "binary", "values", "embedding"]

_PACKAGES = ("keras", "tf_keras", "tensorflow", "tensorflow_addons", "Addons", "builtins")

# Keras' names of losses and their aliases, and those of TensorFlow Addons, in lower case without underscores.
_NAMES: dict[LossKind, str] = {
    "categorical": "categoricalcrossentropy sparsecategoricalcrossentropy categoricalfocalcrossentropy "
    "kldivergence kullbackleiblerdivergence kld",
    "binary": "binarycrossentropy bce binaryfocalcrossentropy sigmoidfocalcrossentropy",
    "values": "meansquarederror mse meanabsoluteerror mae meanabsolutepercentageerror mape "
    "meansquaredlogarithmicerror msle huber huberloss logcosh logcoshloss poisson pinballloss",
    "embedding": "cosinesimilarity circle tripletsemihardloss triplethardloss contrastiveloss npairsloss "
    "npairsmultilabelloss liftedstructloss",
}
_KINDS: dict[str, LossKind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}


@dataclass(frozen=True)
class Loss:
    """The loss of one output.

    Attributes:
        name: how the model calls it, for messages.
        kind: what it compares; None for a loss that is not known, such as a function of the user.
        from_logits: whether it says that the model ends before its softmax or sigmoid.
    """

    name: str
    kind: LossKind | None
    from_logits: bool = False


def loss_of_output(compiled: Any, index: int, names: Sequence[str], outputs: int) -> Loss | None:
    """Return the loss of one output; None if there is none.

    Args:
        compiled: the losses as a file stores them or as `model.loss` has them.
        index: the number of the output.
        names: what a dict of losses may call the output.
        outputs: the number of the model's outputs.
    """
    if isinstance(compiled, Mapping) and "class_name" not in compiled:
        found = [compiled[name] for name in names if name in compiled]
        if not found and outputs == len(compiled) == 1:
            found = list(compiled.values())
        return loss_of_output(found[0], 0, names, 1) if found else None
    if isinstance(compiled, (list, tuple)):
        return loss_of_output(compiled[index], 0, names, 1) if len(compiled) == outputs else None
    return None if compiled is None else _loss(compiled)


def _loss(one: Any) -> Loss:
    if isinstance(one, str):
        return _named(one, known=True)
    if isinstance(one, Mapping):
        return _stored(one)
    if isinstance(one, functools.partial):
        inner = _loss(one.func)
        return Loss(inner.name, inner.kind, bool(one.keywords.get("from_logits", inner.from_logits)))
    kind = one if callable(one) and hasattr(one, "__name__") else type(one)
    known = str(kind.__module__).split(".")[0] in _PACKAGES
    return _named(kind.__name__, known=known, from_logits=getattr(one, "from_logits", False))


def _stored(entry: Mapping[str, Any]) -> Loss:
    """Read a serialized object (its class with settings) or function (by its name)."""
    config = entry.get("config")
    if entry.get("class_name") == "function":
        return _named(str(config), known=True)
    package, _, name = str(entry.get("class_name")).rpartition(">")
    module = package or str(entry.get("module") or "keras")  # an .h5 names no module of Keras' own classes
    settings = config if isinstance(config, Mapping) else {}
    return _named(name, known=module.split(".")[0] in _PACKAGES, from_logits=settings.get("from_logits", False))


def _named(name: str, *, known: bool, from_logits: Any = False) -> Loss:
    kind = _KINDS.get(name.replace("_", "").lower()) if known else None
    return Loss(name, kind, from_logits=bool(from_logits))
