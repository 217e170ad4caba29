"""Honest mistakes in what a bundle says of its models: labels, preprocessing, the ends' scales and zero points."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from damage_bundle import Damaged, Json

Random = np.random.Generator
Damage = Callable[[Damaged, Random], str | None]


def factor(rng: Random) -> float:
    """Return a factor between a quarter and four, as a mistaken scale has."""
    return float(rng.choice([0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0]))


def _swapped(labels: list[str], rng: Random) -> list[str]:
    first, second = rng.choice(len(labels), 2, replace=False)
    changed = list(labels)
    changed[first], changed[second] = changed[second], changed[first]
    return changed


def _rotated(labels: list[str], _: Random) -> list[str]:
    return labels[1:] + labels[:1]


def _others(labels: list[str], _: Random) -> list[str]:
    return [f"other {i}" for i in range(len(labels))]


def _labels(change: Callable[[list[str], Random], list[str]]) -> Damage:
    def damage(bundle: Damaged, rng: Random) -> str | None:
        bundle.put_labels(change(bundle.labels, rng))
        return str(bundle.manifest["labels"])

    return damage


def _described(change: Callable[[Json, Random], None]) -> Damage:
    """Make a damage of the description inside the model file."""

    def damage(bundle: Damaged, rng: Random) -> str | None:
        model = bundle.open()

        def rewrite(text: str) -> str:
            said = json.loads(text)
            change(said, rng)
            return json.dumps(said, sort_keys=True, ensure_ascii=False)

        model.describe(rewrite)
        bundle.put(model)
        return "description"

    return damage


def _inner_labels(change: Callable[[list[str], Random], list[str]]) -> Damage:
    def changed(said: Json, rng: Random) -> None:
        said["labels"] = change(said["labels"], rng)

    return _described(changed)


def _google_labels(bundle: Damaged, rng: Random) -> str | None:
    model = bundle.open()
    files = getattr(model, "files", {})
    if "labels.txt" not in files:
        return None
    files["labels.txt"] = "\n".join(_swapped(files["labels.txt"].decode().splitlines(), rng)).encode()
    bundle.put(model)
    return "labels.txt in the model file"


def _resize(said: Json, rng: Random) -> None:
    said["resize"] = str(
        rng.choice(sorted({"squash", "crop", "letterbox", "keras-crop", "keras-pad"} - {said["resize"]}))
    )


def _filter(said: Json, _: Random) -> None:
    said["filter"] = "nearest"


def _fraction(said: Json, _: Random) -> None:
    said["crop_fraction"] = 0.5
    said["resize"] = "crop"


def _channels(said: Json, _: Random) -> None:
    said["channels"] = "bgr" if said["channels"] == "rgb" else "rgb"


def _normalization(said: Json, rng: Random) -> None:
    modes = [((0.0,) * 3, (1.0,) * 3), ((0.0,) * 3, (255.0,) * 3), ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))]
    count = len(said["mean"])
    mean, std = modes[int(rng.integers(len(modes)))]
    said["mean"], said["std"] = list(mean[:count]), list(std[:count])


def _of_manifest(change: Callable[[Json, Random], None]) -> Damage:
    """Make a damage of the target's preprocessing in the manifest."""

    def damage(bundle: Damaged, rng: Random) -> str | None:
        change(bundle.entry["preprocess"], rng)
        return "manifest"

    return damage


def _of_description(change: Callable[[Json, Random], None]) -> Damage:
    return _described(lambda said, rng: change(said["preprocess"], rng))


def _end(which: str, key: str) -> Damage:
    def damage(bundle: Damaged, rng: Random) -> str | None:
        end = bundle.entry[which]
        if end[key] is None:
            return None
        end[key] = end[key] * factor(rng) if key == "scale" else end[key] + int(rng.choice([-64, -8, 8, 64]))
        return which

    return damage


CHANNEL_ORDER: dict[str, Damage] = {
    "in the manifest": _of_manifest(_channels),
    "in the file": _of_description(_channels),
}

KINDS: dict[str, dict[str, Damage]] = {
    "labels": {
        "two swapped": _labels(_swapped),
        "rotated": _labels(_rotated),
        "others": _labels(_others),
        "swapped in the file": _inner_labels(_swapped),
        "rotated in the file": _inner_labels(_rotated),
        "others in the file": _inner_labels(_others),
        "swapped in Google's": _google_labels,
    },
    "preprocessing": {
        "resize": _of_manifest(_resize),
        "filter": _of_manifest(_filter),
        "crop": _of_manifest(_fraction),
        "normalization": _of_manifest(_normalization),
        "resize in the file": _of_description(_resize),
        "crop in the file": _of_description(_fraction),
        "normalization in the file": _of_description(_normalization),
        "input's scale": _end("input", "scale"),
        "input's zero point": _end("input", "zero_point"),
    },
}
