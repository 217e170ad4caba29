"""What `--help` shows beside the options' own words: their sections, examples, commands by what they are for."""

from __future__ import annotations

from typing import Any

import typer.core

# Headings, and the parameters under each. What stands in none comes first, under "Options".
SECTIONS: dict[str, dict[str, str]] = {
    "export": {
        "A network by name": "alpha size classes weights",
        "What pixels become": "preprocess resize crop_fraction filter",
        "Pictures and labels": "calibrate calibration_count seed evaluate evaluate_resize labels synsets",
        "Accuracy of int8": "max_drop recipe granularity float_layers int16_layers",
        "The files": "formats precisions input_type batch layout onnx_activations stem_pixels",
        "The report, and what files say of themselves": (
            "report report_images description model_version author license"
        ),
    },
    "sweep": {
        "Variants": "models alphas sizes files classes weights",
        "What pixels become": "preprocess resize crop_fraction filter",
        "Pictures and labels": "calibrate calibration_count seed evaluate evaluate_resize labels synsets",
        "The files": "formats precisions max_drop recipe",
        "Work": "jobs dask seconds",
    },
    "run": {
        "Frames": "camera count frame_size",
        "Which file, and what computes": "precision backend threads isolate",
        "What a file does not say itself": "labels resize preprocess",
    },
    "evaluate": {
        "Which file, and what computes": "precision backend threads",
        "What a file does not say itself": "labels resize preprocess",
    },
    "benchmark": {
        "How long": "runs seconds warmup openings",
        "Which file, and what computes": "precision backend threads",
        "What a file does not say itself": "resize preprocess",
        "Number of threads": "tune tune_bundle",
    },
    "serve": {
        "Who may ask, and how much": "host port token allow_host max_upload max_pixels upload_timeout",
        "Frames": "camera frame_size fps",
        "Which file, and what computes": "precision backend threads",
        "What a file does not say itself": "labels resize preprocess",
    },
    "inspect": {
        "Layer by layer, beside a float file": "reference data count seed layers resize preprocess",
    },
}

EXAMPLES: dict[str, tuple[str, ...]] = {
    "describe": ("describe mobilenet_v2 --alpha 0.5 --size 160",),
    "export": (
        "export mobilenet_v2 -o dist --calibrate photos/",
        "export flowers.keras -o dist --preprocess tf --calibrate photos/ --evaluate held-back/",
    ),
    "sweep": ("sweep -o sweep --models mobilenet_v1,mobilenet_v2 --alphas 0.5,1.0 --calibrate photos/",),
    "evaluate": ("evaluate dist --data held-back/", "evaluate model.tflite --data held-back/ --preprocess tf"),
    "run": ("run dist cat.jpg dog.jpg --top-k 3", "run dist --camera v4l2:/dev/video0"),
    "benchmark": ("benchmark dist", "benchmark dist --tune", "benchmark dist --compare old.json"),
    "serve": ("serve dist", "serve dist --host 0.0.0.0 --camera picamera2"),
    "verify": ("verify dist",),
    "inspect": (
        "inspect dist/f_int8.tflite --ops --delegate",
        "inspect dist/f_int8.tflite --reference dist/f_float32.tflite --data photos/",
    ),
    "check-apk": ("check-apk app-release.apk --bundle dist",),
    "bundle pi": ("bundle pi dist -o flowers-pi --python 3.13",),
    "bundle android": ("bundle android dist -o flowers-android --package com.example.flowers",),
    "bundle ios": ("bundle ios dist -o flowers-ios",),
    "bundle c-array": ("bundle c-array dist -o flowers-mcu --name flowers",),
}

# Each line fits 80 columns beside the longest name.
COMMANDS: dict[str, dict[str, str]] = {
    "First": {
        "demo": "All of it on handwritten digits, offline, in a minute.",
        "doctor": "What this machine can run, and what to install.",
    },
    "On the workstation": {
        "list": "The networks, with parameters and multiply-adds.",
        "describe": "A network's layers, and what they cost.",
        "export": "A Keras model becomes TFLite and ONNX files, float and int8.",
        "sweep": "Bundles of many models, widths and sizes; a table of all.",
        "evaluate": "Top-1 and top-5 of every file, and how far they agree.",
        "inspect": "What is in a model file; which layers of int8 hurt.",
    },
    "On the device": {
        "run": "The likely classes of pictures, or of a camera's frames.",
        "verify": "Does this machine compute what the export computed?",
        "benchmark": "Time from a picture to the answer; the best threads.",
        "serve": "A web page and an HTTP interface that classify pictures.",
    },
    "Packages": {
        "bundle": "For a Raspberry Pi, Android, iOS or a microcontroller.",
        "check-apk": "What of an Android app's models breaks on a phone.",
    },
}
PACKAGES = {
    "pi": "ARM boards: models, wheels, an offline installer, a service.",
    "android": "A Gradle module, a library or a pack, with Kotlin.",
    "ios": "A folder of resources, with a Swift class.",
    "c-array": "TensorFlow Lite Micro: a C array, operators, arena.",
}


class Command(typer.core.TyperCommand):
    """A command whose options stand in sections; examples follow them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options in no section, and the sections; the records are typer's own."""
        records: dict[str, tuple[str, str]] = {}
        arguments: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and parameter.param_type_name == "argument":
                arguments.append(record)
            elif record is not None:
                records[parameter.name or ""] = record
        sections = {
            heading: [records.pop(name) for name in names.split() if name in records]
            for heading, names in SECTIONS.get(_name(ctx), {}).items()
        }
        for heading, rows in {"Arguments": arguments, "Options": [*records.values()], **sections}.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Lines to copy."""
        lines = EXAMPLES.get(_name(ctx), ())
        if lines:
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"  mbn-deploy {line}\n")


class Group(typer.core.TyperGroup):
    """A group that lists its commands by what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (click calls it with both)
        """The headings of `COMMANDS`; the short help of each command stands there, too."""
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(list(commands.items()), col_spacing=2)


def _name(ctx: Any) -> str:
    """`export`, `bundle pi`: without the program."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name)
        ctx = ctx.parent
    return " ".join(names)
