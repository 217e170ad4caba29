"""The damages: honest mistakes in the files of a bundle, by kind; those in words are in `damage_words`.

A damage takes a `Damaged` bundle and changes it in one way that the random generator decides. It returns a few words
that say what was changed, or None if this file has nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import damage_words
import numpy as np
from damage_bundle import Damaged
from damage_model import Array, Layer
from damage_words import Damage, Random, factor


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.rint(values).clip(info.min, info.max).astype(dtype)
    return values.astype(dtype)


def _of_layer(change: Callable[[Layer, Random], bool | None]) -> Damage:
    """Make a damage of one that changes a layer, any of those that it can change; it returns False for others."""

    def damage(bundle: Damaged, rng: Random) -> str | None:
        model = bundle.open()
        for index in rng.permutation(len(model.layers)):
            if change(model.layers[index], rng) is not False:
                bundle.put(model)
                return str(model.layers[index].name)
        return None

    return damage


def _scaled_weights(layer: Layer, rng: Random) -> None:
    layer.weights = _cast(layer.weights * factor(rng), layer.weights.dtype)


def _negated_weights(layer: Layer, _: Random) -> None:
    layer.weights = _cast(-layer.weights.astype(np.float64), layer.weights.dtype)


def _zero_weights(layer: Layer, _: Random) -> None:
    layer.weights = np.zeros_like(layer.weights)


def _noisy_weights(layer: Layer, rng: Random) -> None:
    wide = layer.weights.astype(np.float64)
    noise = rng.normal(0, 0.3 * wide.std(), wide.shape)
    layer.weights = _cast(wide + noise, layer.weights.dtype)


def _permuted_channels(layer: Layer, rng: Random) -> None:
    layer.reorder(rng.permutation(layer.channels))


def _permuted_inputs(layer: Layer, rng: Random) -> None:
    order = rng.permutation(layer.weights.shape[layer.inputs_axis])
    layer.weights = np.take(layer.weights, order, layer.inputs_axis)


def _turned_kernel(layer: Layer, _: Random) -> bool:
    axes = [a for a in range(layer.weights.ndim) if a not in (layer.axis, layer.inputs_axis)]
    if len(axes) > 2:  # an .onnx depthwise kernel: (channels, 1, height, width)
        axes = axes[-2:]
    if len(axes) != 2 or layer.weights.shape[axes[0]] == 1:
        return False
    layer.weights = np.swapaxes(layer.weights, *axes).copy()
    return True


def _one_channel(layer: Layer, rng: Random) -> None:
    at: list[Any] = [slice(None)] * layer.weights.ndim
    at[layer.axis] = int(rng.integers(layer.channels))
    layer.weights[tuple(at)] = _cast(layer.weights[tuple(at)] * rng.choice([0, -1, 0.5, 2, 4]), layer.weights.dtype)


def _one_weight(layer: Layer, rng: Random) -> None:
    flat = layer.weights.reshape(-1)
    place = int(rng.integers(flat.size))
    largest = float(np.abs(flat.astype(np.float64)).max())
    flat[place] = _cast(np.asarray(largest if flat[place] <= 0 else -largest), flat.dtype)


def _bias(change: Callable[[Array, Random], Array]) -> Damage:
    def changed(layer: Layer, rng: Random) -> bool:
        if layer.bias is None:
            return False
        layer.bias = _cast(change(layer.bias.astype(np.float64), rng), layer.bias.dtype)
        return True

    return _of_layer(changed)


def _one_bias(bias: Array, rng: Random) -> Array:
    changed = bias.copy()
    changed[int(rng.integers(len(bias)))] += float(rng.choice([-1, 1])) * max(float(np.abs(bias).max()), 1e-6)
    return changed


def _weight_scale(layer: Layer, rng: Random) -> bool:
    if layer.quantization is None:
        return False
    layer.quantization.scales = layer.quantization.scales * np.float32(factor(rng))
    return True


def _one_weight_scale(layer: Layer, rng: Random) -> bool:
    if layer.quantization is None or layer.quantization.scales.size == 1:
        return False
    layer.quantization.scales[int(rng.integers(layer.channels))] *= np.float32(factor(rng))
    return True


def _permuted_scales(layer: Layer, rng: Random) -> bool:
    if layer.quantization is None or layer.quantization.scales.size == 1:
        return False
    layer.quantization.scales = layer.quantization.scales[rng.permutation(layer.channels)]
    return True


def _activation_scale(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    if not model.activations:
        return None
    chosen = model.activations[int(rng.integers(len(model.activations)))]
    chosen.scales = chosen.scales * np.float32(factor(rng))
    bundle.put(model)
    return chosen.name


def _zero_point(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    if not model.activations:
        return None
    chosen = model.activations[int(rng.integers(len(model.activations)))]
    chosen.zeros = chosen.zeros + int(rng.choice([-64, -16, -4, -1, 1, 4, 16, 64]))
    bundle.put(model)
    return chosen.name


def _zero_point_of_all(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    if not model.activations:
        return None
    step = int(rng.choice([-1, 1]))
    for each in model.activations:
        each.zeros = each.zeros + step
    bundle.put(model)
    return f"all by {step}"


def _class_order(*, weights: bool = True, bias: bool = True, rotate: bool = False) -> Damage:
    def damage(bundle: Damaged, rng: Random) -> str | None:
        model = bundle.open()
        last = model.layers[-1]
        order = np.arange(last.channels)
        if rotate:
            order = np.roll(order, 1)
        else:
            first, second = rng.choice(last.channels, 2, replace=False)
            order[[first, second]] = order[[second, first]]
        last.reorder(order, weights=weights, bias=bias)
        bundle.put(model)
        return "rotated" if rotate else f"{first} and {second}"

    return damage


def _order_without_scales(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    last = model.layers[-1]
    if last.quantization is None or last.quantization.scales.size == 1:
        return None
    scales = last.quantization.scales
    first, second = rng.choice(last.channels, 2, replace=False)
    order = np.arange(last.channels)
    order[[first, second]] = order[[second, first]]
    last.reorder(order)
    last.quantization.scales = scales
    bundle.put(model)
    return f"{first} and {second}"


def _first_channels(bundle: Damaged, _: Random) -> str | None:
    model = bundle.open()
    first = model.layers[0]
    if first.weights.shape[first.inputs_axis] != 3:
        return None
    first.weights = np.flip(first.weights, first.inputs_axis).copy()
    bundle.put(model)
    return first.name


def _parameter(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    known = model.parameters()
    kinds = sorted({each.kind for each in known})
    if not kinds:
        return None
    kind = kinds[int(rng.integers(len(kinds)))]
    chosen = [each for each in known if each.kind == kind]
    one = chosen[int(rng.integers(len(chosen)))]
    one.apply()
    bundle.put(model)
    return f"{kind} of {one.name}"


def _parameter_of_all(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    known = model.parameters()
    kinds = sorted({each.kind for each in known})
    if not kinds:
        return None
    kind = kinds[int(rng.integers(len(kinds)))]
    for each in known:
        if each.kind == kind:
            each.apply()
    bundle.put(model)
    return f"{kind} everywhere"


def _constant(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    names = sorted(model.constants)
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    value = model.constants[name]
    model.constants[name] = _cast(value.astype(np.float64) * factor(rng), value.dtype)
    bundle.put(model)
    return name


def _other_weights(bundle: Damaged, rng: Random) -> str | None:
    """Exchange all weights for those of another training: the same network, other numbers of about the same size."""
    model = bundle.open()
    share = float(rng.choice([0.02, 0.1, 0.5]))
    for layer in model.layers:
        wide = layer.weights.astype(np.float64)
        layer.weights = _cast(wide + rng.normal(0, share * wide.std(), wide.shape), layer.weights.dtype)
    bundle.put(model)
    return f"all by {share}"


def _other_file(bundle: Damaged, rng: Random) -> str | None:
    names = sorted(bundle.others)
    if not names:
        return None
    name = names[int(rng.integers(len(names)))]
    bundle.files[bundle.target] = bundle.others[name]
    return name


@dataclass(frozen=True)
class Mistake:
    """A damage: its room and name in `KINDS`, and the seed that decides the rest."""

    room: str
    kind: str
    seed: int


KINDS: dict[str, dict[str, Damage]] = {
    **damage_words.KINDS,
    "weights": {
        "scaled": _of_layer(_scaled_weights),
        "sign": _of_layer(_negated_weights),
        "zero": _of_layer(_zero_weights),
        "noise": _of_layer(_noisy_weights),
        "channels permuted": _of_layer(_permuted_channels),
        "inputs permuted": _of_layer(_permuted_inputs),
        "kernel turned": _of_layer(_turned_kernel),
        "one channel": _of_layer(_one_channel),
        "one weight": _of_layer(_one_weight),
    },
    "biases": {
        "scaled": _bias(lambda bias, rng: bias * factor(rng)),
        "sign": _bias(lambda bias, _: -bias),
        "zero": _bias(lambda bias, _: np.zeros_like(bias)),
        "permuted": _bias(lambda bias, rng: bias[rng.permutation(len(bias))]),
        "one": _bias(_one_bias),
    },
    "scales": {
        "of weights": _of_layer(_weight_scale),
        "of one channel": _of_layer(_one_weight_scale),
        "permuted": _of_layer(_permuted_scales),
        "of an activation": _activation_scale,
    },
    "zero points": {"of an activation": _zero_point, "of all": _zero_point_of_all},
    "class order": {
        "two rows": _class_order(),
        "two rows, a second pair": _class_order(),
        "two rows, a third pair": _class_order(),
        "rotated": _class_order(rotate=True),
        "weights only": _class_order(bias=False),
        "biases only": _class_order(weights=False),
        "without scales": _order_without_scales,
    },
    "channel order": {"of the first layer": _first_channels, **damage_words.CHANNEL_ORDER},
    "operations": {
        "one": _parameter,
        "another": _parameter,
        "a third": _parameter,
        "all of a kind": _parameter_of_all,
        "constant": _constant,
    },
    "exchanged": {"other weights": _other_weights, "other file": _other_file},
}


def chosen_mistakes(
    seed: int, *, rooms: Sequence[str] | None = None, most: int | None = None, salt: str = ""
) -> list[Mistake]:
    """List the damages of a seed; with `most` a random choice of so many, which differs by `salt`."""
    known = [Mistake(room, kind, seed) for room in rooms or KINDS for kind in KINDS[room]]
    if most is None or most >= len(known):
        return known
    rng = np.random.default_rng([seed, crc32(salt.encode())])
    return [known[index] for index in sorted(rng.choice(len(known), most, replace=False))]
