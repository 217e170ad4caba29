"""A Keras model's configuration, checked and repaired as data before Keras makes any object of it.

Only known layers with plain values pass. Training settings (initializers, regularizers, optimizers) are dropped,
augmentation becomes `Identity`. Files of Keras 2 get the names, keys and operations of Keras 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mbn_deploy.errors import InputError
from mbn_deploy.export.from_keras.config_nodes import Nodes, is_training, without_training
from mbn_deploy.export.from_keras.config_ops import FUNCTION_LAYERS, operation_entry, operation_of
from mbn_deploy.export.from_keras.handlers.training_only import INACTIVE, KERAS2_AUGMENTATION, TRAINS_BY_DEFAULT
from mbn_deploy.export.from_keras.supported import LAYERS, OPERATIONS, SUPPORTED

Entry = dict[str, Any]
_MODELS = {
    "Functional": ("keras.src.models.functional", "Functional"),
    "Model": ("keras.src.models.functional", "Functional"),  # Keras 2 before 2.4
    "Sequential": ("keras", "Sequential"),
}
_KERAS_PACKAGES = ("keras", "tf_keras", "tensorflow")  # of Keras' own classes, as files name them
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
# Keys that some versions of Keras 2 wrote and Keras 3 does not know, with the value that has no effect.
_KERAS2_KEYS = {"groups": 1, "ragged": False, "sparse": False, "implementation": None, "experimental_autocast": True}
# Layers of Keras 2 whose class or settings have other names in Keras 3.
_OF_KERAS2 = {
    "LeakyReLU": ("LeakyReLU", {"alpha": "negative_slope"}),
    "ThresholdedReLU": ("ReLU", {"theta": "threshold"}),
}
# hard_sigmoid of Keras 2 is clip(0.2 x + 0.5, 0, 1): that of Keras 3, relu6(x + 3) / 6, of 1.2 x.
_KERAS2_HARD_SIGMOID = {
    "module": "keras",
    "class_name": "Sequential",
    "registered_name": None,
    "config": {
        "name": "hard_sigmoid",
        "layers": [
            {"module": "keras.layers", "class_name": kind, "config": settings, "registered_name": None}
            for kind, settings in (
                ("Rescaling", {"name": "steeper", "scale": 1.2, "offset": 0.0}),
                ("Activation", {"name": "hard_sigmoid", "activation": "hard_sigmoid"}),
            )
        ],
    },
}
_ACTIVATION_LAYERS = frozenset({"Activation", "ELU", "LeakyReLU", "ReLU", "Softmax"})  # without weights
_CODE = {
    "Lambda": "it holds Python code, and code from a file is never run; build the model without it",
    "TFSMLayer": "it runs a stored TensorFlow graph, which can do anything; build the model from layers",
    **dict.fromkeys(
        ("QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2"),
        "it belongs to quantization-aware training; export the float model from before `quantize_model`, since this "
        "program quantizes after training",
    ),
    "PruneLowMagnitude": "it belongs to pruning; export what `tfmot.sparsity.keras.strip_pruning` returns",
    "KerasLayer": "it is a module of TensorFlow Hub, whose layers are not in the file; build the model on the same "
    "network of keras.applications, which holds its layers, and train it again",
    "TorchModuleWrapper": "it holds a pickle, and a pickle can run any code; build the model from Keras layers",
}
_MAX_DEPTH = 32  # of models inside models


@dataclass
class _ModelContext:
    """The context of one (nested) model while its layers are repaired.

    `names` maps the names of its layers in the file to those that Keras 3 allows.
    """

    place: str
    keras2: bool
    depth: int
    names: dict[str, str] = field(default_factory=dict)


def repair_config(config: Any, *, keras2: bool, where: str) -> Entry:
    """Return the configuration of a whole model as Keras 3 wants it; `where` is the file's name.

    Raises:
        InputError: something is not plain data of a supported layer: custom objects, Lambda layers, functions,
            unsupported classes. The message names the layer, its class and its place.
    """
    try:
        return _model(config, _ModelContext(where, keras2, 0))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: its model configuration is damaged ({type(error).__name__}: {error})") from error


def layer_order(entry: Entry) -> list[Any]:
    """Return the names of the layers in order, a nested model as (name, its layers), without operations."""
    order: list[Any] = []
    for one in entry["config"]["layers"]:
        name = one["config"]["name"]
        if one["class_name"] in _MODELS:
            order.append((name, layer_order(one)))
        elif not _is_op(one):
            order.append(name)
    return order


def _is_op(entry: Entry) -> bool:
    return str(entry.get("module")).startswith(("keras.src.ops.", "keras.src.activations."))


def _model(entry: Entry, outer: _ModelContext) -> Entry:
    kind = entry["class_name"]
    if kind not in _MODELS or _is_custom(entry):
        raise _refusal(entry, outer.place, _why_unknown(entry))
    if outer.depth > _MAX_DEPTH:
        raise InputError(f"{outer.place}: models are nested more than {_MAX_DEPTH} deep")
    config = entry["config"]
    if isinstance(config, list):  # a Sequential of Keras 2.2 and before
        config = {"name": "sequential", "layers": config}
    name = str(config.get("name") or "model").replace("/", "_")
    place = f"{outer.place}, model {name!r}"
    inner = _ModelContext(place, outer.keras2, outer.depth + 1)
    inner.names = _without_slashes([_name(layer) for layer in config["layers"]])
    result = {"name": name, "trainable": config.get("trainable", True)}
    fill = _sequential if kind == "Sequential" else _functional
    fill(result, config, inner)
    module, kind = _MODELS[kind]
    return {"module": module, "class_name": kind, "config": result, "registered_name": None}


def _functional(result: Entry, config: Mapping[str, Any], inner: _ModelContext) -> None:
    layers = config["layers"]
    nodes = Nodes(inner.names, layers, keras2=inner.keras2, nested=tuple(_MODELS))
    result["layers"] = []
    for at, layer in enumerate(layers, 1):
        place = f"layer {at} of {len(layers)} in {inner.place}"
        trains = any(is_training(node) for node in layer["inbound_nodes"])
        if trains and layer["class_name"] not in TRAINS_BY_DEFAULT:
            raise _refusal(layer, place, "it is called with training=True, so it would act as in training")
        repaired = _layer(layer, place, inner)
        repaired["name"] = inner.names[_name(layer)]
        if layer["class_name"] in FUNCTION_LAYERS:
            repaired.update(operation_of(layer, nodes, partial(_refusal, layer, place)))
        else:
            repaired["inbound_nodes"] = [nodes.node(node, place) for node in layer["inbound_nodes"]]
            if repaired["class_name"] == "Identity":
                repaired["inbound_nodes"] = [without_training(node) for node in repaired["inbound_nodes"]]
        result["layers"].append(repaired)
    for key in ("input_layers", "output_layers"):
        result[key] = nodes.ends(config[key])


def _sequential(result: Entry, config: Mapping[str, Any], inner: _ModelContext) -> None:
    layers = list(config["layers"])
    first = layers[0]["config"] if layers else {}
    if layers and layers[0]["class_name"] != "InputLayer" and isinstance(first, dict) and "batch_input_shape" in first:
        source = {"name": f"{first['name']}_input", "batch_shape": first["batch_input_shape"]}
        layers.insert(0, {"class_name": "InputLayer", "config": source})
        inner.names[source["name"]] = source["name"]
    result["layers"] = [
        _layer(layer, f"layer {at} of {len(layers)} in {inner.place}", inner) for at, layer in enumerate(layers, 1)
    ]
    shape = config.get("build_input_shape")
    if layers and layers[0]["class_name"] != "InputLayer" and shape:
        result["build_input_shape"] = shape


def _layer(entry: Entry, place: str, inner: _ModelContext) -> Entry:
    kind = entry["class_name"]
    if kind in _MODELS:
        nested = _model(entry, _ModelContext(place, inner.keras2, inner.depth))
        nested["config"]["name"] = inner.names[_name(entry)]
        return nested
    if kind in FUNCTION_LAYERS and inner.keras2:
        return {}  # `operation_of` makes it
    operation = _is_operation(entry)
    if inner.keras2 and kind in _OF_KERAS2:
        entry = _of_keras3(entry)
        kind = entry["class_name"]
    if inner.keras2 and kind in KERAS2_AUGMENTATION and not _is_custom(entry):
        kind = "Identity"
    if _is_custom(entry) or not (operation or kind in LAYERS or kind == "InputLayer"):
        raise _refusal(entry, place, _why_unknown(entry))
    name = inner.names[_name(entry)]
    config = {key: value for key, value in entry["config"].items() if key != "name"}
    if operation:
        if isinstance(config.get("dtype"), dict):  # the policy of all layers, which operations do not need
            del config["dtype"]
        _check_plain(entry, place, config)
        return operation_entry(kind, name, config)
    if kind in INACTIVE:
        kind, config = "Identity", {"dtype": config.get("dtype", "float32")}
    config = _settings(entry, place, config, keras2=inner.keras2)
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {**config, "name": name},
        "registered_name": None,
    }


def _is_operation(entry: Entry) -> bool:
    """Tell an operation from a layer, which may have the same class name, as Add and Subtract have."""
    kind, module = entry["class_name"], str(entry.get("module"))
    if kind not in OPERATIONS or module.startswith("keras.layers"):
        return False
    return _is_op(entry) or kind not in LAYERS or "trainable" not in entry["config"]


def _of_keras3(entry: Entry) -> Entry:
    """Return the entry of a layer of Keras 2 with the class and the settings of Keras 3."""
    kind, settings = _OF_KERAS2[entry["class_name"]]
    config = {settings.get(key, key): value for key, value in entry["config"].items()}
    return {**entry, "class_name": kind, "config": config}


def _activation_layer(entry: Entry, place: str, setting: Entry, *, keras2: bool) -> Entry:
    """Return the entry of a layer that is given as the activation of another one."""
    if keras2 and setting["class_name"] in _OF_KERAS2:
        setting = _of_keras3(setting)
    kind = setting["class_name"]
    if _is_custom(setting) or kind not in _ACTIVATION_LAYERS:
        raise _refusal(
            entry, place, f"its activation is an object ({kind}), none of {', '.join(sorted(_ACTIVATION_LAYERS))}"
        )
    named = {**setting, "name": _name(entry)}
    config = _settings(named, place, dict(setting["config"]), keras2=keras2)
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def _settings(entry: Entry, place: str, config: Entry, *, keras2: bool) -> Entry:
    """Return a layer's settings: only plain values, and only those that matter for inference."""
    kept = {key: value for key, value in config.items() if not key.endswith(_TRAINING_ONLY)}
    activation = kept.get("activation")
    if isinstance(activation, dict) and activation.get("class_name") != "function":
        layer = _activation_layer(entry, place, activation, keras2=keras2)
        return {**_settings(entry, place, {**kept, "activation": None}, keras2=keras2), "activation": layer}
    if isinstance(kept.get("dtype"), dict):
        kept["dtype"] = _policy(entry, place, kept["dtype"])
    if kept.get("quantization_config") is not None:
        raise _refusal(entry, place, "it was quantized by Keras; give the float model")
    kept.pop("quantization_config", None)
    _check_plain(entry, place, kept)
    if entry["class_name"] == "InputLayer" and (kept.get("sparse") or kept.get("ragged")):
        raise _refusal(entry, place, "its input is sparse or ragged, not a picture")
    if entry["class_name"] == "InputLayer" and "batch_input_shape" in kept:
        kept["batch_shape"] = kept.pop("batch_input_shape")
    if not keras2:
        return kept
    if kept.get("activation") == "hard_sigmoid":
        kept["activation"] = _KERAS2_HARD_SIGMOID
    return _without_keras2_keys(entry, place, kept)


def _without_keras2_keys(entry: Entry, place: str, config: Entry) -> Entry:
    kind = entry["class_name"]
    kept = dict(config)
    kept.pop("batch_input_shape", None)
    dropped = {key: value for key, value in _KERAS2_KEYS.items() if key != "groups" or kind != "Conv2D"}
    for key, default in dropped.items():
        if key in kept and kept.pop(key) not in (default, None):
            raise _refusal(entry, place, f"its Keras 2 setting {key}={config[key]!r} has no meaning in Keras 3")
    axis = kept.get("axis")
    if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        kept["axis"] = axis[0]
    return kept


def _policy(entry: Entry, place: str, policy: Mapping[str, Any]) -> str:
    """Return the name of a dtype policy; refuse quantized ones and those of other classes."""
    settings = policy.get("config")
    name = settings.get("name") if isinstance(settings, dict) else None
    if policy.get("class_name") not in ("DTypePolicy", "Policy", "FloatDTypePolicy") or not isinstance(name, str):
        raise _refusal(
            entry, place, f"its dtype policy is a {policy.get('class_name')}; only float models are exported"
        )
    return name


def _check_plain(entry: Entry, place: str, value: Any, key: str = "") -> None:
    """Refuse settings that are objects or functions: making them could run code."""
    if isinstance(value, dict):
        if "class_name" in value:
            what = value.get("config") if value["class_name"] == "function" else value["class_name"]
            raise _refusal(
                entry,
                place,
                f"its setting {key!r} is an object ({what}), not a plain value; "
                "custom functions and objects are never made from a file",
            )
        for inner, item in value.items():
            _check_plain(entry, place, item, key or str(inner))
    elif isinstance(value, list):
        for item in value:
            _check_plain(entry, place, item, key)


def _is_custom(entry: Mapping[str, Any]) -> bool:
    module, registered = entry.get("module"), entry.get("registered_name")
    return ">" in f"{entry['class_name']}{registered or ''}" or (
        module is not None and str(module).split(".")[0] not in _KERAS_PACKAGES
    )


def _why_unknown(entry: Mapping[str, Any]) -> str:
    kind = str(entry["class_name"])
    if kind in _CODE:
        return _CODE[kind]
    if _is_custom(entry):
        source = entry.get("registered_name") or entry.get("module") or kind
        return f"it is a custom object ({source}), whose code is not in the file, and no code is run on loading"
    return f"this class is not in the supported set, or is a custom one; {SUPPORTED}"


def _refusal(entry: Mapping[str, Any], place: str, why: str) -> InputError:
    return InputError(f"{entry.get('class_name')} {_name(entry)!r} ({place}) cannot be loaded: {why}")


def _name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(entry.get("name") or inner)


def _without_slashes(names: list[str]) -> dict[str, str]:
    """Return new names of layers: without slashes, which Keras 3 refuses, and still different from each other."""
    renamed: dict[str, str] = {}
    for name in names:
        plain = name.replace("/", "_")
        candidate, count = plain, 0
        while candidate in renamed.values() or (candidate != name and candidate in names):
            count += 1
            candidate = f"{plain}_{count}"
        renamed[name] = candidate
    return renamed
