"""The sections on what was exported, how it is run, and what it says of pictures."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from typing import Any

from mbn_deploy.manifest import ModelFile
from mbn_deploy.report.data import Example, Guess, Report
from mbn_deploy.report.html import Html, joined, tag
from mbn_deploy.report.parts import breaking, code, commands, facts, number, section

SHORT = 12  # characters of a hash


def origin(report: Report) -> Html:
    """What was exported, from what, with which recipe."""
    manifest, source = report.manifest, report.manifest.source
    about: Mapping[str, Any] = source.get("about", {})
    first = manifest.files[0]
    file = source.get("file")
    return section(
        "origin",
        "What was exported",
        facts(
            [
                ("model", code(manifest.model)),
                ("from", None if file is None else joined([code(file["name"]), " ", _hash(file["sha256"])])),
                *((key, value) for key, value in about.items()),
                ("weights", joined([f"{source['parameters']:,} parameters, ", _hash(source["weights_sha256"])])),
                ("answers", f"{manifest.classes} classes, {manifest.scores}"),
                ("picture", _picture(first, source.get("preprocess"))),
                ("recipe", _recipes(manifest.quantization)),
                ("made with", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
            ]
        ),
        _warnings(report.warnings),
    )


def _hash(value: str) -> Html:
    return tag("span", "sha256 ", tag("code", value[:SHORT], title=value), "…", class_="quiet")


def _picture(entry: ModelFile, keras: Mapping[str, Any] | None) -> str:
    """The geometry, and what the Keras model's own input wants."""
    preprocess, (height, width, _) = entry.preprocess, entry.picture
    kept = f", {100 * preprocess.crop_fraction:g} % of the picture" if preprocess.resize == "crop" else ""
    said = f"{height} × {width} (height × width), {preprocess.resize}{kept}, {preprocess.filter}"
    if keras is None:
        return said
    if set(keras["mean"]) == {0.0} and set(keras["std"]) == {1.0}:
        return f"{said}; Keras reads pixels as they are, 0 to 255, {str(keras['channels']).upper()}"
    mean, std = (", ".join(f"{v:g}" for v in dict.fromkeys(keras[key])) for key in ("mean", "std"))
    return f"{said}; Keras reads (pixel − {mean}) / {std}, {str(keras['channels']).upper()}"


def _recipes(quantization: Mapping[str, Any]) -> Html | None:
    """By precision, the recipe's settings, and what it was calibrated on."""
    found = [q for q in (quantization, *quantization.values()) if isinstance(q, dict) and "recipe" in q]
    if not found:
        return None
    return joined(tag("div", _recipe(made)) for made in found)


def _recipe(made: Mapping[str, Any]) -> Html:
    recipe, calibration = made["recipe"], made["calibration"]
    settings = [(key.replace("_", " "), _setting(v)) for key, v in recipe.items() if key != "name" and v not in ([], 0)]
    return joined(
        [
            joined([tag("strong", recipe["name"]), f", calibrated on {calibration['images']} pictures "]),
            _hash(calibration["sha256"]),
            tag("details", tag("summary", f"Settings of {recipe['name']}"), facts(settings)),
        ]
    )


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _warnings(warnings: tuple[str, ...]) -> Html | None:
    if not warnings:
        return None
    return tag("div", tag("p", tag("strong", "Warnings")), tag("ul", *(tag("li", w) for w in warnings)), class_="note")


def usage(report: Report) -> Html:
    """Lines to copy."""
    folder = shlex.quote(report.folder)
    pi, android = (shlex.quote(f"{report.folder}-{device}") for device in ("pi", "android"))
    archive = shlex.quote(f"{report.folder}-pi.tar.gz")
    return section(
        "usage",
        "Run it",
        tag("p", "From the folder that holds ", code(report.folder), ". "),
        tag("h3", "Raspberry Pi and other ARM boards"),
        commands(f"mbn-deploy bundle pi {folder} -o {pi}", f"scp {archive} pi@raspberrypi.local:"),
        tag("p", "and on the board, without network:"),
        commands(f"tar -xzf {archive}", f"cd {pi}", "./install.sh", "venv/bin/mbn-deploy run models picture.jpg"),
        tag("h3", "Android"),
        commands(f"mbn-deploy bundle android {folder} -o {android}"),
        tag("h3", "Here"),
        commands(
            f"mbn-deploy run {folder} picture.jpg",
            f"mbn-deploy verify {folder}",
            f"mbn-deploy benchmark {folder}",
        ),
    )


def pictures(report: Report) -> Html | None:
    """Predictions side by side, disagreements first."""
    found = report.examples
    if found is None:
        return None
    alike = found.compared - found.differing
    kind = "pictures" if found.held_back else "calibration pictures, which say less than pictures that were held back"
    return section(
        "pictures",
        "Pictures",
        tag(
            "p",
            f"Keras and {found.file} give the same first answer on {alike} of {found.compared} {kind}. "
            "Where they differ comes first.",
        ),
        tag("ul", *(_example(example, found.file) for example in found.shown), class_="pictures"),
    )


def _example(example: Example, file: str) -> Html:
    right = None if example.truth is None else tag("p", "labelled ", tag("strong", example.truth))
    verdict = "same answer" if example.same else "other answer"
    return tag(
        "li",
        tag(
            "div",
            _thumbnail(example),
            tag(
                "div",
                tag("h3", breaking(example.name)),
                tag("p", verdict, class_="verdict same" if example.same else "verdict other"),
                right,
            ),
            class_="head",
        ),
        tag(
            "div",
            _guesses("Keras", example.reference, example.truth),
            _guesses(file.rpartition(".")[0].rpartition("_")[2], example.other, example.truth),
            class_="both",
        ),
    )


def _thumbnail(example: Example) -> Html | None:
    if example.picture is None:
        return None
    data = base64.b64encode(example.picture).decode()
    width, height = example.size
    source = Html(f"data:image/jpeg;base64,{data}")
    return tag("img", src=source, alt=f"Picture {example.name}", width=width, height=height)


def _guesses(name: str, guesses: tuple[Guess, ...], truth: str | None) -> Html:
    items = [
        tag("li", tag("span", g.label, class_="strong" if g.label == truth else None), " ", _share(g.score))
        for g in guesses
    ]
    return tag("div", tag("h4", name), tag("ol", *items), class_="guesses")


def _share(score: float) -> Html:
    return tag("span", f"{number(100 * score, 1)}\u00a0%", class_="quiet")
